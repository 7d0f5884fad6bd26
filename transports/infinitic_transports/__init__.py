"""The transports of Infinitic. They implement `infinitic.transport`.

`memory` is in one process, `sqlite` is one file on one machine, and `pulsar` is Apache Pulsar.
Import a module by its name: so only the driver that is used is needed.
"""
