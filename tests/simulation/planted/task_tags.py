"""Bugs of the tags of tasks: tags that stay, tags that are missing, cancellations by tag."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from infinitic.engines.effects import CancelSent
from infinitic.engines.state import WorkflowHead
from infinitic.messages import engine as inputs, task_tags as messages
from infinitic.runtime.tag_engine.task_fan_out import TaskFanOut
from infinitic.transport import Outgoing
from tests.simulation.planted.planting import Part, Planter, bug

TAGS = "tags"
_CANCEL = import_module("infinitic.engines.workflow.cancel")
_RENDER = import_module("infinitic.engines.workflow.render")
_REPORTS = import_module("infinitic.runtime.service_executor.report_publisher")
_TAGS_OF_TASKS = import_module("infinitic.engines.workflow.task_tags")


@bug(TAGS)
def task_never_tagged(planter: Planter) -> None:
    """A task that is sent does not get its tags."""
    planter.put(_RENDER, "add_task_tags", _make_nothing)


@bug(TAGS)
def completed_task_keeps_tags(planter: Planter) -> None:
    """An executor does not say that a task with tags has completed."""
    planter.put(_REPORTS, "make_tag_removals", _make_nothing)


@bug(TAGS)
def failed_attempt_loses_tags(planter: Planter) -> None:
    """A task loses its tags when its first attempt is over, however that ended."""

    @planter.wrap(_REPORTS, "make_tag_removals")
    def remove(original: Part, work: Any, now: float) -> Any:
        value = inputs.TaskCompleted(made_at=now, position=0, value=Raw(b"0"))
        report = replace(work.report, message=replace(work.report.message, body=inputs.encode(value)))
        before, work.report = work.report, report
        try:
            return original(work, now)
        finally:
            work.report = before


@bug(TAGS)
def cancelled_task_keeps_tags(planter: Planter) -> None:
    """A task that nobody waits for any more keeps its tags."""
    planter.put(_CANCEL, "remove_task_tags", _make_nothing)


@bug(TAGS)
def waiting_task_keeps_tags(planter: Planter) -> None:
    """A task that is cancelled while it waits for its next attempt keeps its tags."""

    @planter.wrap(_CANCEL, "cancel_positions")
    def cancel(original: Part, head: WorkflowHead, *args: Any) -> CancelSent | None:
        found: CancelSent | None = original(replace(head, tags_tasks=False), *args)
        return found

    for name in ("tasks", "decide", "cancel_task"):
        module = import_module(f"infinitic.engines.workflow.{name}")
        planter.put(module, "cancel_positions", _CANCEL.cancel_positions)


@bug(TAGS)
def late_task_tag_wins(planter: Planter) -> None:
    """A tag of a task that is added late wins over its removal."""

    def version_added(retry_sequence: int) -> int:
        return messages.version_removed(retry_sequence) + 1

    planter.put(_TAGS_OF_TASKS, "version_added", version_added)


@bug(TAGS)
def cancellation_by_tag_untold(planter: Planter) -> None:
    """Whoever runs a task that is cancelled by its tag is not told to stop."""

    @planter.wrap_handler(inputs.CancelTask)
    def cancel(original: Part, head: WorkflowHead, message: inputs.CancelTask, now: float) -> Any:
        return replace(original(head, message, now), outbox=())


@bug(TAGS)
def cancellation_by_tag_of_neighbour(planter: Planter) -> None:
    """Who cancels a task by its tag cancels the one before it."""

    @planter.wrap(TaskFanOut, "make_page")
    async def make_page(original: Part, self: Any, *args: Any) -> Any:
        return [_shift(each) for each in await original(self, *args)]


def _make_nothing(*args: object) -> list[Outgoing]:
    return []


def _shift(outgoing: Any) -> Any:
    if not outgoing.topic.name.startswith("workflow-engine:"):
        return outgoing
    asked = inputs.decode(outgoing.message.body)
    assert isinstance(asked, inputs.CancelTask)
    body = inputs.encode(replace(asked, position=max(asked.position - 1, 0)))
    return replace(outgoing, message=replace(outgoing.message, body=body))


@bug(TAGS)
def retry_by_tag_of_no_instance(planter: Planter) -> None:
    """A retry by tag of tasks is taken, and sent to nobody."""

    @planter.wrap(TaskFanOut, "make_page")
    async def make_page(original: Part, self: Any, storage: Any, key: Any, delivery: Any, message: Any) -> Any:
        made = await original(self, storage, key, delivery, message)
        return [] if isinstance(inputs.decode(bytes(message.input)), inputs.RetryTasks) else made
