"""The transports of Infinitic. They implement `infinitic.transport`.

`memory` is in one process, and `pulsar` is Apache Pulsar. Import a module by its name: so only the
driver that is used is needed.
"""
