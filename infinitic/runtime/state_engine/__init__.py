"""The state engine of a workflow: it commits each step of an instance exactly once."""
