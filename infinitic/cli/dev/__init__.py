"""``infinitic dev``: a worker that starts again when a file of the project changes."""
