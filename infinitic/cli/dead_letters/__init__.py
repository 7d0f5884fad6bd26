"""``infinitic dead-letters``: messages that were given up, and what to do with them."""
