"""Middleware: code of users around client calls, attempts of tasks and activations of workflows.

`base` is what the core knows of one, `call` what it sees of a client call, `chain` runs them.
Users derive from `infinitic.Middleware`, which is in `infinitic.worker.middleware`.
"""
