"""The campaign of faults on real servers: `make chaos`.

Workers, clients, broker and database are processes of this machine. They are killed, stopped,
frozen and starved of disk while workflows run. In the end everything must be right: see
`chaos.checks`. Simulations (`infinitic_testing`) do the same in virtual time, with far more runs.
This campaign shows that real servers behave as the simulated ones.
"""
