"""``infinitic simulate``: run tests under many seeds, with faults."""
