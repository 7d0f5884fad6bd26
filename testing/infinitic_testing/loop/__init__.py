"""Virtual time for tests and simulations: loop, clocks, and processes that can be killed.

`run` runs a coroutine on a fresh `VirtualLoop`.
"""

from infinitic_testing.loop.clocks import EPOCH as EPOCH, SkewedClock as SkewedClock, VirtualClock as VirtualClock
from infinitic_testing.loop.errors import DeadlockError as DeadlockError, LivelockError as LivelockError
from infinitic_testing.loop.processes import Process as Process, current_process as current_process
from infinitic_testing.loop.reports import OnDeadlock as OnDeadlock
from infinitic_testing.loop.running import cancel_remaining_tasks as cancel_remaining_tasks, run as run
from infinitic_testing.loop.virtual import VirtualLoop as VirtualLoop

__all__ = [
    "EPOCH",
    "DeadlockError",
    "LivelockError",
    "OnDeadlock",
    "Process",
    "SkewedClock",
    "VirtualClock",
    "VirtualLoop",
    "cancel_remaining_tasks",
    "current_process",
    "run",
]
