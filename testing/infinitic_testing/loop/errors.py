"""The errors of a run in virtual time that cannot go on."""

from __future__ import annotations

from infinitic.errors import InfiniticError


class DeadlockError(InfiniticError):
    """The program waits for something that can never come.

    Nothing can run, no timer is left, and the main task is not done. In production this would be a
    hang. The message lists the waiting tasks with their lines. In a simulation it also lists what
    each workflow waits for, and services and workflows that nobody hosts.
    """


class LivelockError(InfiniticError):
    """Code runs on and on without waiting, so time cannot move.

    An example is a loop around ``await asyncio.sleep(0)``. The message lists what ran last.
    """
