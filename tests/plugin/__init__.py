"""The plugin under pytest as people have it: each `shapes*.py` is copied to a folder of its own and run there."""
