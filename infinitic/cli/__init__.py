"""The command line. `main` is its entry point.

Signals are handled before typer and the commands are imported: only the interpreter starts before.
See `infinitic.runtime.lifecycle.early_signals`.
"""

from infinitic.runtime.lifecycle.early_signals import heed_signals_early


def main() -> None:
    """Run the command line."""
    heed_signals_early()

    from infinitic.cli.app import run

    run()
