"""Small programs to copy from. Each runs on its own: ``python examples/hello.py``.

All modules have the same shape: `SERVICES` (classes that make services), `WORKFLOWS`, and
`scenario(client)`, which plays a short story and always returns the same outcome. So `main` and the
tests run the same code.
"""
