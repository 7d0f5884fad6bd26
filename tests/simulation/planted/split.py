"""Bugs between a state engine and the workflow executors that run its code."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec.structs import replace

from infinitic.engines.state import WorkflowHead
from infinitic.messages import engine as inputs
from infinitic.runtime.lane import Lane
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.workflow_executor import executor, opening
from infinitic.runtime.workflow_executor.executor import WorkflowExecutor
from tests.simulation.planted.planting import TAKE, Part, Planter, bug

SPLIT = "split mode"


@bug(SPLIT)
def old_decision_accepted(planter: Planter) -> None:
    """A decision counts for the activation that runs, whichever it answers."""

    @planter.wrap_handler(inputs.Decision)
    def decision(original: Part, head: WorkflowHead, message: inputs.Decision, now: float) -> Any:
        return original(head, replace(message, activation=head.activation), now)


@bug(SPLIT)
def second_decision_accepted(planter: Planter) -> None:
    """A second decision of an activation is applied as well."""

    @planter.wrap_handler(inputs.Decision)
    def decision(original: Part, head: WorkflowHead, message: inputs.Decision, now: float) -> Any:
        if not head.deciding and message.activation == head.activation and not head.closed:
            head = replace(head, deciding=head.sequence)
        return original(head, message, now)

    def check_nothing(head: WorkflowHead, message: inputs.Decision) -> None:
        """Take it as it is."""

    planter.put(TAKE, "check_decision", check_nothing)


@bug(SPLIT)
def stale_code_in_executor(planter: Planter) -> None:
    """An executor goes on with its live code, although the engine took another decision."""

    def compute_digest(commands: object, partial: object) -> str:
        return "same"

    planter.put(executor, "_compute_digest", compute_digest)


@bug(SPLIT)
def activation_acked_before_decision(planter: Planter) -> None:
    """An executor acknowledges an activation before it publishes the decision."""

    @planter.wrap(WorkflowExecutor, "_decide_some")
    async def decide_some(original: Part, self: Any, waiting: deque[Lane]) -> None:
        await self._subscription.ack([lane.waiting[0] for lane in waiting])
        await original(self, waiting)


@bug(SPLIT)
def history_read_short(planter: Planter) -> None:
    """An executor replays a history without its last segment, and the code sees the past."""

    @planter.wrap(opening, "feed_history")
    async def feed_history(original: Part, replay: Any, key: Any, sequence: int, states: Any) -> Any:
        return await original(replay, key, sequence - 1 if sequence > 2 else sequence, states)


@bug(SPLIT)
def activation_of_other_version_dropped(planter: Planter) -> None:
    """An activation for a version that an executor lacks is acknowledged, and not passed on."""

    @planter.wrap(WorkflowExecutor, "_pass_on")
    def pass_on(original: Part, self: Any, *args: Any) -> Any:
        original(self, *args)
        return None

    @planter.wrap(Publisher, "publish")
    async def publish(original: Part, self: Any, outgoing: Any) -> None:
        await original(self, [each for each in outgoing if each is not None])
