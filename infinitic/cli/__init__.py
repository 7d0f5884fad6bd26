"""The command line. `main` is its entry point.

Signals are heeded before the command line and its drivers are imported: as PID 1 of a container, a process that has no
handler for SIGTERM never hears it. Only the interpreter and the package itself come first, some 0.2 s.
"""

from infinitic.runtime.process import heed_signals_early

heed_signals_early()

from infinitic.cli.app import main as main  # noqa: E402 (see above)

__all__ = ["main"]
