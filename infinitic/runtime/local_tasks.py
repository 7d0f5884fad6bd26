"""What the state engine and the service executors of one worker share for local tasks.

A local task is run by the worker of the state engine, inside a step of its workflow. The state
engine decides which tasks run so. The executor of the service runs them: in its slots, at its pace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from infinitic.messages.service import ExecuteTask
from infinitic.transport import Outgoing


class LocalAttempt(Protocol):
    """One attempt that runs, or is about to, for a step that is not committed yet."""

    @property
    def report(self) -> Outgoing | None:
        """What came of it; None: it has not ended, or cannot be run here (see `is_unrun`)."""
        ...

    @property
    def is_unrun(self) -> bool:
        """Whether it cannot be run here, or has ended without a report. It goes by message then."""
        ...

    @property
    def deaths(self) -> int:
        """How many deaths of a process count for it, if it goes by message."""
        ...

    def withdraw(self) -> bool:
        """Take it back if its code has not begun. True if so: it never begins."""
        ...

    def stop(self) -> None:
        """Tell it to stop: nobody waits for it. It never has a report."""
        ...

    def adopt(self) -> None:
        """Let it go on as an attempt that came by message: its report is published.

        It is called once the step that asks for it is committed.
        """
        ...


class LocalRunner(Protocol):
    """The executor of one service, as far as it runs local tasks."""

    def can_run(self, task: str) -> bool:
        """Whether this task is local, and may begin here now."""
        ...

    def begin(self, message: ExecuteTask, notify: Callable[[], object]) -> LocalAttempt:
        """Begin an attempt on the spot. It may have ended when this returns.

        Args:
            message: what is to be run.
            notify: called when it has ended later, and is worth a look.
        """
        ...

    async def tell_reports(self, attempts: Sequence[LocalAttempt]) -> None:
        """Tell event listeners what came of attempts, if they are to be told.

        Raises:
            TransportClosed: the connection is closed for good.
        """
        ...
