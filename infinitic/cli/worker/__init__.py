"""``infinitic worker``: host services and workflows."""
