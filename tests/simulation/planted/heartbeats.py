"""Bugs of heartbeats: tasks that are lost with their worker, and guards that are given up."""

from __future__ import annotations

from typing import Any

from infinitic.runtime.service_executor import doubts
from infinitic.runtime.service_executor.guards import Guards, LostAttempts
from infinitic.runtime.service_executor.work import Work
from tests.simulation.planted.planting import Part, Planter, bug

HEARTBEATS = "heartbeats"


@bug(HEARTBEATS)
def acked_without_guard(planter: Planter) -> None:
    """A task with heartbeats is acknowledged when it begins, and no guard stands for it."""

    @planter.wrap(Guards, "_send")
    async def send(original: Part, self: Any, work: Work, details: Any, ago: float) -> bool:
        self._resender.ack_soon(list(work.deliveries))
        work.deliveries.clear()
        return True


@bug(HEARTBEATS)
def newest_guard_dropped(planter: Planter) -> None:
    """A guard is acknowledged if its attempt runs, although it is the newest one."""

    @planter.wrap(doubts, "judge_guard")
    def judge(original: Part, work: Work, heard: Any, newest: Any, now: float) -> Any:
        return True if work.attempt in heard else original(work, heard, newest, now)


@bug(HEARTBEATS)
def lost_attempt_not_reported(planter: Planter) -> None:
    """An attempt whose worker is lost is given up, and its workflow is not told."""

    @planter.wrap(LostAttempts, "settle")
    async def settle(original: Part, self: Any, works: list[Work]) -> None:
        await self._resender.ack([delivery for work in works for delivery in work.deliveries])
