"""Bugs in how queries are asked and answered."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from infinitic.replay import queries
from infinitic.runtime.state_engine import asking
from infinitic.runtime.workflow_executor.asking import Asking
from infinitic.transport import Message
from tests.simulation.planted.planting import Part, Planter, bug

QUERIES = "queries"


@bug(QUERIES)
def changes_by_queries_not_found(planter: Planter) -> None:
    """A query may change the workflow."""

    def find_nothing(before: object, after: object) -> None:
        """Whatever it did."""

    planter.put(queries, "_find_change", find_nothing)


@bug(QUERIES)
def object_of_refused_query_kept(planter: Planter) -> None:
    """An object that a query has changed stays in use."""

    @planter.wrap(queries, "_make_broken")
    def make_broken(original: Part, error: Any) -> Any:
        made = original(error)
        made.is_broken = False
        return made


@bug(QUERIES)
def queries_asked_before_inputs(planter: Planter) -> None:
    """A query does not wait until all that came before it was handed to the code."""

    @planter.wrap(asking, "_ask_elsewhere")
    def ask_elsewhere(original: Part, message: Message, query: Any, head: Any, now: float) -> Any:
        return original(message, query, replace(head, pending=0), now)


@bug(QUERIES)
def questions_answered_by_old_history(planter: Planter) -> None:
    """An executor answers from a history that does not hold the activation yet."""

    @planter.wrap(Asking, "_answer_from_history")
    def answer(original: Part, self: Asking, workflow_id: str, message: Message, ask: Any, longest: int) -> Any:
        return original(self, workflow_id, message, replace(ask, activation=0, sequence=0), longest)


@bug(QUERIES)
def answers_of_executors_lost(planter: Planter) -> None:
    """An executor acknowledges a question, and sends no answer."""

    @planter.wrap(Asking, "answer")
    async def answer(original: Part, self: Asking, *args: Any) -> None:
        await original(self, *args)
