"""``infinitic describe``: what is known of a workflow, and what it waits for."""
