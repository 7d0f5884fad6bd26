"""``infinitic start``: start a workflow, or correct a command that does not fit."""
