"""Small programs to copy from. Each runs on its own: ``python examples/hello.py``.

Every module has the same shape, so that `main` and the tests run the same thing: `SERVICES` (classes to make services
from), `WORKFLOWS`, and `scenario(client)`, which plays a little story and returns its outcome, always the same.
"""
