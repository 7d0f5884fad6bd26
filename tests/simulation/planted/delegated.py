"""Bugs of delegated tasks: ended by their function, ended twice, or never."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any

from msgspec.structs import replace

from infinitic.engines import delegations
from infinitic.messages.delegated import CompleteTask
from infinitic.runtime.service_executor.attempt import Attempts
from tests.simulation.planted.planting import Part, Planter, bug

DELEGATED = "delegated tasks"
_ENGINE = import_module("infinitic.engines.workflow.delegated")


@bug(DELEGATED)
def return_of_delegated_task_counts(planter: Planter) -> None:
    """What the function of a delegated task returns is taken for its result."""

    @planter.wrap(Attempts, "run")
    async def run(original: Part, self: Any, message: Any, *args: Any) -> Any:
        known = self.service.tasks.get(message.task)
        if known is None or not known.delegated:
            return await original(self, message, *args)
        kept = self.service
        self.service = replace_tasks(kept)
        try:
            return await original(self, message, *args)
        finally:
            self.service = kept


def replace_tasks(service: Any) -> Any:
    """Make a service whose tasks are not delegated."""

    tasks = {name: dataclasses.replace(each, delegated=False) for name, each in service.tasks.items()}
    return dataclasses.replace(service, tasks=tasks)


@bug(DELEGATED)
def early_completion_dropped(planter: Planter) -> None:
    """A delegated task is not completed before its function has returned."""

    @planter.wrap_handler(CompleteTask)
    def complete(original: Part, head: Any, message: Any, now: float) -> Any:
        if not delegations.contains(head.delegated, message.position):
            return _ENGINE._refuse(head, message, "too early")
        return original(head, message, now)


@bug(DELEGATED)
def refused_completion_confirmed(planter: Planter) -> None:
    """Who completes a task that has ended is told that it was applied."""

    @planter.wrap(_ENGINE, "_refuse")
    def refuse(original: Part, head: Any, message: Any, reason: str) -> Any:
        result = original(head, message, reason)
        confirm = () if message.reply_to is None else (_ENGINE.Confirm(message.reply_to),)
        return replace(result, outbox=confirm)


@bug(DELEGATED)
def delegation_noted_of_any_attempt(planter: Planter) -> None:
    """A task is noted as delegated each time that its function returns."""

    planter.put_result(_ENGINE.delegations, "contains", False)


@bug(DELEGATED, "delegated_by_tag")
def tags_of_delegated_tasks_stay(planter: Planter) -> None:
    """A delegated task that is completed keeps its tags."""

    planter.put_result(_ENGINE, "_remove_tags", ())
