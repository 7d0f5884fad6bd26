"""What a client does with each kind of workflow, and how the workflow must end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from chaos.journal import Journal
from chaos.workflows import MEGABYTE, SIGNALS, WIDTH, Draw, Fan, Heavy, Leave, Race, Stumble, Talk, Walk
from infinitic import Client, Workflow, WorkflowCanceledError, WorkflowUnknownError
from infinitic.errors import TransportError

CANCELED = "canceled"
"""The outcome of a workflow that was cancelled."""


def expect(name: str, number: int, rounds: int) -> object:
    """Compute the outcome of a workflow; None if it depends on what its clients sent.

    Args:
        name: the name of the workflow.
        number: its number.
        rounds: its rounds.
    """
    match name:
        case "Walk":
            return number + sum(range(rounds))
        case "Fan":
            return sum(number + each + sum(each + other for other in range(WIDTH)) for each in range(rounds))
        case "Stumble":
            seen = [[number, number + 1, -1] if each == 0 else [number, -1] for each in range(rounds)]
            return [each for part in seen for each in part]
        case "Race":
            return [number, number + 1, number + 7, -1, -3] * rounds
        case "Draw":
            return True
        case "Heavy":
            return (MEGABYTE + number) * min(rounds, 2)
        case "Leave":
            return CANCELED
        case _:
            return None


Drive = Callable[[Client, Journal, int, str], Awaitable[None]]
"""What a client does between the start and the end of a workflow: client, journal, number, id."""


async def watch(client: Client, journal: Journal, number: int, workflow_id: str) -> None:
    """Do nothing: the workflow ends by itself."""


async def leave(client: Client, journal: Journal, number: int, workflow_id: str) -> None:
    """Cancel it. If it was told so before, it may be closed already."""
    await asyncio.sleep(1.0)
    handle = client.get_handle(Leave.run, workflow_id)

    async def cancel() -> None:
        journal.add(number, "cancelling")
        await client.cancel(handle, confirm=True)

    try:
        await _insist(cancel)
    except WorkflowUnknownError:
        if len(journal.find(number, "cancelling")) == 1:
            raise


async def talk(client: Client, journal: Journal, number: int, workflow_id: str) -> None:
    """Send signals with rising numbers, and call a method before the last one.

    A client that was killed may have sent more than it could note. So a number may be sent twice,
    and each `sending` in the journal allows for one more signal.
    """
    stub = client.get_workflow_by_id(Talk, workflow_id)
    for each in range(1, SIGNALS + 1):
        if journal.has(number, "sent", each):
            continue
        last = each == SIGNALS
        if last and not journal.has(number, "asked"):
            answer = await _insist(lambda: stub.ask(number))
            journal.add(number, "asked", answer)

        async def send(each: int = each, last: bool = last) -> None:
            journal.add(number, "sending", each)
            # The last one is not confirmed: it may end the workflow before a second try comes.
            await stub.numbers.send(each, confirm=not last)

        await _insist(send)
        journal.add(number, "sent", each)
        await asyncio.sleep(0.5)


async def _insist(do: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again when the answer was lost with the topic of the client."""
    while True:
        try:
            return await do()
        except TransportError:
            await asyncio.sleep(0.2)


SHAPES: Mapping[type[Workflow], Drive] = {
    Walk: watch,
    Fan: watch,
    Stumble: watch,
    Race: watch,
    Draw: watch,
    Talk: talk,
    Leave: leave,
    Heavy: watch,
}
NAMES: Mapping[str, type[Workflow]] = {workflow.__name__: workflow for workflow in SHAPES}
_TURN: tuple[type[Workflow], ...] = (Walk, Fan, Stumble, Race, Draw, Talk, Leave)


def choose_shape(number: int) -> type[Workflow]:
    """Choose the workflow of a number. One in 50 has values of megabytes."""
    return Heavy if number % 50 == 7 else _TURN[number % len(_TURN)]


async def fetch_outcome(client: Client, workflow: type[Any], workflow_id: str) -> object:
    """Wait for the end of a workflow, and return its result, or `CANCELED`.

    Raises:
        WorkflowFailedError: it failed.
        WorkflowUnknownError: there is none.
    """
    handle = client.get_handle(workflow.run, workflow_id)
    try:
        return await _insist(handle.result)
    except WorkflowCanceledError:
        return CANCELED
