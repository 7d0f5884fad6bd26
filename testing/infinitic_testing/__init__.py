"""Tools for tests of workflows and services.

- `simulation`: a whole system in virtual time. `plugin` makes it the pytest fixture `sim`.
- `doubles`: services whose answers a test gives.
- `fences`: power cuts for a worker, at an operation that a test chooses.
- `loop`: the event loop and the clock of virtual time.
- `conformance`: the tests that each adapter must pass.
"""
