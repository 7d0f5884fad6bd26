"""``infinitic doctor``: checks of this machine, the broker and the database."""
