"""Ends a process whose run never ends, and shows where it was.

The limit is CPU time. So a run that gets little of a busy machine is not taken for one without an
end. A run that waits for something real uses no CPU time. For it there is a limit of real time.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager

REAL_TIME = 20
"""How many times the limit of CPU time a run may take in real time."""


def describe_end(exit_code: int, errors: list[str], seconds: float) -> str | None:
    """Say which limit ended a process; None: it was none.

    Args:
        exit_code: as `subprocess` says it: below 0 for a signal.
        errors: the lines of its standard error.
        seconds: its limit of CPU time.
    """
    if exit_code == -signal.SIGPROF:
        return f"It ran for more than {seconds:g} s of CPU time, without an end"
    if any(line.startswith("Timeout (") for line in errors):
        return f"It ran for more than {REAL_TIME * seconds:g} s of real time, without an end: it waits"
    return None


@contextmanager
def limit_time(seconds: float) -> Generator[None]:
    """End this process if the block takes too long. First, it prints where it is.

    Args:
        seconds: of CPU time. `REAL_TIME` times as many of real time are a limit, too.
    """
    faulthandler.register(signal.SIGPROF, file=sys.stderr, chain=True)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    faulthandler.dump_traceback_later(REAL_TIME * seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        faulthandler.unregister(signal.SIGPROF)
