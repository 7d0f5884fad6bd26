"""What users write, and what is read from it: services and workflows.

- `services` and `workflows` hold the decorators and base classes of users.
- `deferred`, `combination`, `channels` and `stubs` are the objects that workflow code holds and
  awaits.
- `service_contract` and `workflow_spec` read the classes of users: names, signatures, options.

Nothing here runs code of users: `infinitic.replay` and `infinitic.runtime` do.
"""
