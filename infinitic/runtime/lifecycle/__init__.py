"""The life of a worker's process: signals, starting and draining components, ending in time."""
