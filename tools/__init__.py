"""Programs for those who work on Infinitic itself. Nothing here is installed with it."""
