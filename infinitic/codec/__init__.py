"""How values become text and bytes.

They are written by type hints, checked by reading them back, then perhaps compressed or encrypted.

- `values` turns one value into JSON text; `pydantic_values` does so for what only pydantic takes.
- `signatures` does it for the arguments and the result of a function.
- `payloads` is the step from text to stored bytes: compression and encryption.
- `round_trip`, `difference` and `advice` find what would not arrive as it was sent, and say what to
  do about it.
- `datetimes` and `unset_fields` keep what JSON has no place for; `release_0_1` reads what that
  release wrote.
"""
