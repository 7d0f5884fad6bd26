"""Heeds SIGTERM from the first moment of a program on. It imports next to nothing, to be quick.

As PID 1 of a container, a process without a handler for SIGTERM never gets it: the kernel drops it.
"""

import os
import signal
from types import FrameType
from typing import NoReturn

STOPPING = (signal.SIGTERM, signal.SIGINT)


def heed_signals_early() -> None:
    """Have SIGTERM end the process from here on, also as PID 1.

    For programs, before anything slow is imported. A worker that runs has handlers of its own.
    """
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    release_signals()


def hold_signals() -> None:
    """Keep signals back, over an `exec`, until `heed_signals_early` or a worker heeds them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def release_signals() -> None:
    """Let those come that were kept back. There is a handler for them now."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End as the kernel ends others: an exception could be caught by whatever is being imported."""
    os._exit(128 + number)
