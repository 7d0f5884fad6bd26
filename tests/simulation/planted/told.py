"""Bugs in what a history tells later: no decision depends on it, so nothing else shows them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from infinitic.engines.state import WorkflowHead
from infinitic.messages import engine as inputs
from tests.simulation.planted.planting import Part, Planter, bug

ENGINE = "engine"


@bug(ENGINE)
def execution_of_results_forgotten(planter: Planter) -> None:
    """A result is written without how long its attempt took, and where it ran."""

    @planter.wrap_handler(inputs.TaskCompleted)
    def completed(original: Part, head: WorkflowHead, message: inputs.TaskCompleted, now: float) -> Any:
        return original(head, replace(message, execution=None), now)


@bug(ENGINE)
def senders_of_signals_mixed_up(planter: Planter) -> None:
    """A signal is written with another sender than the one that sent it."""

    @planter.wrap_handler(inputs.Signal)
    def signal(original: Part, head: WorkflowHead, message: inputs.Signal, now: float) -> Any:
        return original(head, replace(message, by="somebody"), now)


@bug(ENGINE)
def meta_of_calls_forgotten(planter: Planter) -> None:
    """A method is started without the meta that its caller gave."""

    @planter.wrap_handler(inputs.CallMethod)
    def call(original: Part, head: WorkflowHead, message: inputs.CallMethod, now: float) -> Any:
        return original(head, replace(message, meta={}), now)
