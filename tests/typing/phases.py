"""The phases of a step in order, and in wrong orders with the reports of both type checkers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from infinitic.runtime.lane import Lane
from infinitic.runtime.state_engine.committing import Committing
from infinitic.runtime.state_engine.deciding import Deciding
from infinitic.runtime.state_engine.publishing import Publishing
from infinitic.runtime.state_engine.receiving import Receiving
from infinitic.runtime.state_engine.settling import Settling


async def in_order(
    receiving: Receiving,
    deciding: Deciding,
    committing: Committing,
    publishing: Publishing,
    settling: Settling,
    lanes: Sequence[Lane],
) -> None:
    received = await receiving.receive(lanes)
    decided = await deciding.decide(deque(received))
    committed = await committing.commit(decided)
    published = await publishing.publish(committed)
    await settling.settle(published)


async def out_of_order(
    receiving: Receiving,
    deciding: Deciding,
    committing: Committing,
    publishing: Publishing,
    settling: Settling,
    lanes: Sequence[Lane],
) -> None:
    received = await receiving.receive(lanes)
    await committing.commit(received)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    decided = await deciding.decide(deque(received))
    # Nothing is published that is not committed.
    await publishing.publish(decided)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    committed = await committing.commit(decided)
    # Nothing is acknowledged that is not published.
    await settling.settle(decided)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await settling.settle(committed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    decided[0].change = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
