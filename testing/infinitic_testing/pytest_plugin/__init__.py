"""Parts of the pytest plugin: options, and tests that run under many seeds."""
