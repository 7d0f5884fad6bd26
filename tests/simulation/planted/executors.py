"""Bugs in the executors of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infinitic.messages.control import Attempt
from infinitic.runtime.service_executor import doubts
from infinitic.runtime.service_executor.deaths import MAX_DEATHS
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.reporting import ReportQueue
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.taking import TaskIntake
from infinitic.runtime.service_executor.work import Outbound, Work
from tests.simulation.planted.planting import Part, Planter, bug

EXECUTOR = "service executor"


@bug(EXECUTOR)
def task_acked_when_taken(planter: Planter) -> None:
    """A task is acknowledged when it is received, before it has run."""

    @planter.wrap(TaskIntake, "_accept")
    def accept(original: Part, self: Any, delivery: Any) -> Any:
        self._resender._begin(self._subscription.ack_if_held([delivery]), 0)
        return original(self, delivery)


@bug(EXECUTOR)
def task_acked_before_report(planter: Planter) -> None:
    """A task is acknowledged when it has run, before its report is published."""

    @planter.wrap(ReportQueue, "add")
    def add(original: Part, self: Any, work: Work, report: Any) -> None:
        self._resender._begin(self._subscription.ack_if_held(list(work.deliveries)), 0)
        original(self, work, report)


@bug(EXECUTOR)
def report_remembered_before_publish(planter: Planter) -> None:
    """An executor says that an attempt is reported as soon as the attempt begins."""

    @planter.wrap(TasksInHand, "find_known")
    def find_known(original: Part, self: Any, attempts: Any) -> dict[Attempt, bool]:
        return dict.fromkeys(original(self, attempts), True)


@bug(EXECUTOR)
def redelivery_taken_for_deaths(planter: Planter) -> None:
    """A task that is delivered a second time counts as one that has killed its process for good."""

    def judge(work: Work, heard: Mapping[Attempt, bool], now: float, durability: float) -> Outbound | None:
        return work.make_copy(None, asked=0, deaths=MAX_DEATHS)

    planter.put(doubts, "judge", judge)


@bug(EXECUTOR)
def task_lost_in_drain(planter: Planter) -> None:
    """A worker that stops acknowledges the tasks that have not begun, and hands back none."""

    async def hand_back(self: Resender) -> None:
        outbound, self.handed_back = self.handed_back, []
        await self.ack([delivery for each in outbound for delivery in each.deliveries])

    planter.put(Resender, "hand_back", hand_back)


@bug(EXECUTOR)
def second_delivery_dropped(planter: Planter) -> None:
    """When an attempt that is in hand comes again, all its deliveries are acknowledged at once."""

    @planter.wrap(TaskIntake, "_accept")
    def accept(original: Part, self: Any, delivery: Any) -> Any:
        more = original(self, delivery)
        for work in (*self._in_hand.works.values(), *self._in_hand.doubtful.values()):
            if len(work.deliveries) > 1:
                self._resender._begin(self._subscription.ack_if_held(list(work.deliveries)), 0)
        return more
