"""The command line. `main` is its entry point."""

from infinitic.cli.app import main as main

__all__ = ["main"]
