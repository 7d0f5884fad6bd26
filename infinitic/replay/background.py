"""What background tasks of workflow code raised, and nobody has awaited so far.

It is logged once, and listed for people who ask why something is missing.
"""

from __future__ import annotations

from typing import Any

from infinitic.replay import divergence
from infinitic.replay.awaited import ReplayLogger
from infinitic.replay.loop import WorkflowLoop, WorkflowTask, forget, has_news, name_of, news_of
from infinitic.replay.recorder import IDLE, Recorder
from infinitic.replay.stops import Discarded, StopActivation

KEPT = 10
"""How many failures are remembered: the last ones."""
LISTED = 5
"""How many are listed."""


class BackgroundFailures:
    """The failures of one instance that nobody has heard of.

    Args:
        who: the name of the workflow and the id of the instance, for logs.
        loop: the loop whose tasks may fail.
        recorder: says whether an activation runs.
        logger: the logger of the instance.
    """

    def __init__(self, who: str, loop: WorkflowLoop, recorder: Recorder, logger: ReplayLogger) -> None:
        self._who = who
        self._loop = loop
        self._recorder = recorder
        self._logger = logger
        self._unheard: list[tuple[WorkflowTask[Any] | None, str]] = []

    @property
    def lines(self) -> tuple[str, ...]:
        """The last failures that nobody has awaited, a line each."""
        return tuple(text for _, text in self._unheard[-LISTED:])

    def report(self, context: dict[str, Any]) -> None:
        """Take note of an exception that nobody handles.

        `context` is that of asyncio's handlers.
        """
        error = context.get("exception")
        if not self._loop.dead and not isinstance(error, StopActivation | Discarded):
            self._log(str(context.get("message")), error)

    def collect(self) -> None:
        """Log the tasks that have raised, and forget those that somebody has awaited since."""
        if self._unheard:
            self._unheard = [each for each in self._unheard if each[0] is None or has_news(each[0])]
        if not self._loop.failed:
            return
        failed, self._loop.failed = self._loop.failed, []
        for task in filter(has_news, failed):
            error = news_of(task)
            if not isinstance(error, StopActivation | Discarded):
                what = f"The background task {name_of(task)} failed, and nobody has awaited it so far,"
                self._log(what, error, task)
        while len(self._unheard) > KEPT:
            forget(self._unheard.pop(0)[0])

    def _log(self, what: str, error: BaseException | None, task: WorkflowTask[Any] | None = None) -> None:
        self._logger.warning("%s in workflow %s", what, self._who, exc_info=error)
        if error is not None and self._recorder.mode is not IDLE:
            self._unheard.append((task, divergence.describe_in_one_line(error)))
