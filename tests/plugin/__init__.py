"""The pytest plugin, beside other plugins. Each `shapes*.py` is run in a folder."""
