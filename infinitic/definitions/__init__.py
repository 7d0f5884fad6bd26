"""What users write: services and workflows, the objects that their code holds, and what is read from their classes.

- `services` and `workflows` hold the decorators and base classes of users.
- `deferred`, `combination`, `channels` and `stubs` are the objects that workflow code holds and awaits.
- `service_contract` and `workflow_spec` read the classes of users: names, signatures, options.

Nothing here runs code of users: `infinitic.replay` and `infinitic.runtime` do.
"""
