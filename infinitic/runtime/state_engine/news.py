"""What people are told of a step once it is durable: its instance stalls, or a method has failed.

If the reply to a commit is lost, nobody knows whether the step is durable. Its news is kept then,
and is told when the instance is loaded and turns out to be what that commit wrote. It is not kept
over the end of the process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import Transition
from infinitic.errors import InfiniticError, WorkflowCodeError
from infinitic.messages.commands import FailMethod
from infinitic.replay.divergence import describe_stall
from infinitic.runtime.lane import forget_frames
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.storage import Change

_logger = logging.getLogger("infinitic.engine")

REMEMBERED = 10_000
"""How much news is kept at most of commits whose outcome is unknown: the latest."""


class News(msgspec.Struct, frozen=True, eq=False):
    """What is new in one step.

    Attributes:
        stall: why the instance stalls from now on; None if it does not.
        failures: a line for each method that has failed.
    """

    stall: InfiniticError | None
    failures: tuple[str, ...] = ()


def find_news(
    name: str, before: WorkflowHead | None, transition: Transition, fault: InfiniticError | None
) -> News | None:
    """Find what is new in a step; None if there is nothing to tell.

    Args:
        name: the workflow.
        before: the head before the step; None if there was no instance.
        transition: the step.
        fault: why the code cannot be run, if that was found in this step.
    """
    head = transition.head
    stall: InfiniticError | None = None
    failures: tuple[str, ...] = ()
    if head.stalled is not None and (before is None or before.stalled is None):
        stall = fault or WorkflowCodeError(head.stalled)
    if before is None or head.methods is not before.methods:
        for event in transition.events:
            if type(event) is FailMethod:
                method = next((method.name for method in head.methods if method.id == event.method_id), "")
                error = " ".join(str(event.failure.exception).split())
                failures += (f"Workflow {name} {head.id}: {method} failed: {error:.300}",)
    return News(stall, failures) if stall is not None or failures else None


class Telling:
    """Tells the news of the instances of one workflow, each once.

    Args:
        name: the workflow.
        on_stall: called with the id of an instance that stalls, and the reason.
    """

    def __init__(self, name: str, on_stall: Callable[[str, InfiniticError], None]) -> None:
        self._name = name
        self._on_stall = on_stall
        self._kept: dict[tuple[str, int], News] = {}

    def tell(self, workflow_id: str, news: News) -> None:
        """Say in the log what is new, and tell of a stall whoever wants to know.

        Args:
            workflow_id: the instance.
            news: it is durable.
        """
        if news.stall is not None:
            _logger.error("%s", describe_stall(self._name, workflow_id, news.stall))
            self._on_stall(workflow_id, news.stall)
        for line in news.failures:
            _logger.info("%s", line)

    def keep(self, change: Change, news: News) -> None:
        """Keep what is to be told if a change proves to be durable.

        Args:
            change: nobody knows whether it was written.
            news: what is new in it.
        """
        forget_frames(news.stall)
        self._kept[change.key.id, change.version] = news
        if len(self._kept) > REMEMBERED:
            del self._kept[next(iter(self._kept))]

    def tell_kept(self, instance: CachedInstance) -> None:
        """Tell what was kept, if a commit without a reply wrote what is stored now.

        Args:
            instance: as it was loaded.
        """
        if not self._kept or instance.version is None:
            return
        news = self._kept.pop((instance.key.id, instance.version), None)
        if news is not None:
            self.tell(instance.key.id, news)
