"""Event listeners: they are told what happens to workflows and tasks, whatever else goes wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from infinitic import Channel, EventType, TaskFailedError, TaskTimedOutError, Workflow, topics
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, VERY_LONG, Office, wait_for

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

ALWAYS = {
    EventType.TASK_DISPATCH,
    EventType.TASK_COMPLETED,
    EventType.TASK_RETRY_SCHEDULED,
    EventType.TASK_FAILED,
    EventType.WORKFLOW_DISPATCH,
    EventType.WORKFLOW_DISPATCH_METHOD,
    EventType.WORKFLOW_SIGNAL,
    EventType.WORKFLOW_SIGNAL_RECEIVED,
    EventType.WORKFLOW_SIGNAL_DISPATCHED,
    EventType.WORKFLOW_TIMER_DISPATCHED,
    EventType.WORKFLOW_TIMER_COMPLETED,
    EventType.WORKFLOW_EXECUTOR_DISPATCHED,
    EventType.WORKFLOW_EXECUTOR_COMPLETED,
    EventType.WORKFLOW_METHOD_COMPLETED,
    EventType.WORKFLOW_METHOD_FAILED,
    EventType.WORKFLOW_COMPLETED,
    EventType.WORKFLOW_FAILED,
    EventType.WORKFLOW_CANCEL,
    EventType.WORKFLOW_CANCELED,
    EventType.WORKFLOW_TERMINATED,
    EventType.WORKFLOW_TASK_DISPATCHED,
    EventType.WORKFLOW_TASK_COMPLETED,
    EventType.WORKFLOW_TASK_FAILED,
    EventType.WORKFLOW_TASK_TIMED_OUT,
    EventType.WORKFLOW_REMOTE_METHOD_DISPATCHED,
    EventType.WORKFLOW_REMOTE_METHOD_COMPLETED,
    EventType.WORKFLOW_REMOTE_METHOD_FAILED,
}
"""The types that come in each run."""


class Desk(Workflow):
    office = Workflow.new_service(Office)
    stamps = Channel[int]()

    async def stamp(self, number: int) -> int:
        """Wait for a signal of the parent, and fail if it is odd."""
        stamp = await self.stamps.receive()
        if stamp % 2:
            raise ValueError(f"odd: {stamp}")
        return number + stamp


class Bureau(Workflow):
    office = Workflow.new_service(Office)
    desk = Workflow.new_workflow(Desk)
    stamps = Channel[int]()

    async def run(self, number: int) -> list[object]:
        child = self.dispatch(self.desk.stamp, number)
        await self.get_workflow_by_id(Desk, child.id).stamps.send(number)
        tasks = [
            self.dispatch(self.office.add, number, 1),
            self.dispatch(self.office.stumble, number, 1),
            self.dispatch(self.office.fail, number),
            self.dispatch(self.office.never_end, number),
        ]
        await asyncio.sleep(1.0)
        told: list[object] = []
        for each in tasks:
            try:
                told.append(await each)
            except TaskFailedError:
                told.append("failed")
            except TaskTimedOutError:
                told.append("timed out")
        try:
            told.append(await child)
        except Exception as error:  # noqa: BLE001 (its name is told)
            told.append(type(error).__name__)
        return [*told, await self.stamps.receive()]

    async def note(self, text: str) -> str:
        return await self.office.echo(text)

    async def hold(self) -> None:
        await self.stamps.receive()


class Reporter:
    """A listener that raises now and then. What it was told before it raised, comes again."""

    def __init__(self, every: int) -> None:
        self.heard: dict[tuple[str, str], CloudEvent] = {}
        self._calls = 0
        self._every = every

    def count(self, type: EventType) -> int:
        return sum(event.get_type() == type for event in self.heard.values())

    async def __call__(self, events: list[CloudEvent]) -> None:
        self._calls += 1
        if self._calls % self._every == 1:
            await asyncio.sleep(0.2)
            raise ConnectionError("the reports cannot be written now")
        self.heard |= {(event.get_source(), event.get_id()): event for event in events}


async def wait_for_listeners(sim: Simulation, *names: str) -> None:
    """Wait until listeners have subscribed: they get what happens after that."""
    listened = [topics.service_events("Office"), topics.workflow_events("Bureau"), topics.workflow_events("Desk")]
    wanted = {f"listener:{name}" for name in names}
    async with asyncio.timeout(VERY_LONG):
        for topic in listened:
            while not wanted <= (await sim.transport.stats(topic)).subscriptions.keys():
                await sim.sleep(0.5)


async def simulate_listeners(sim: Simulation) -> object:
    """Two listeners, which fail now and then, are told of all that happens."""
    sim.add_service(Office)
    sim.add_workflow(Desk, Bureau, retention=KEPT)
    reports, ends = Reporter(3), Reporter(5)
    sim.add_event_listener(reports, name="reports", max_events=5)
    finals = [EventType.WORKFLOW_COMPLETED, EventType.WORKFLOW_FAILED]
    sim.add_event_listener(ends, name="ends", max_events=2, max_seconds=0.1, types=finals)
    await wait_for_listeners(sim, "reports", "ends")
    bureaus = [await sim.client.dispatch(sim.client.new_workflow(Bureau).run, number) for number in range(3)]
    held = [await sim.client.dispatch(sim.client.new_workflow(Bureau).hold) for _ in range(2)]
    outcomes: list[object] = []
    for number, handle in enumerate(bureaus):
        running = sim.client.get_workflow_by_id(Bureau, handle.workflow_id)
        outcomes.append(await running.note(f"note {number}"))
        await running.stamps.send(10 * number)
        outcomes.append(await handle.result())
    await sim.client.cancel(held[0])
    await sim.client.terminate(held[1])
    await wait_for(
        lambda: (
            reports.count(EventType.WORKFLOW_COMPLETED) == 5
            and ends.count(EventType.WORKFLOW_COMPLETED) == 5
            and reports.count(EventType.WORKFLOW_CANCELED) == 1
            and reports.count(EventType.WORKFLOW_TERMINATED) == 1
        )
    )
    await sim.sleep(60)
    heard = {event.get_type() for event in reports.heard.values()}
    counted = [reports.count(type) for type in finals], [ends.count(type) for type in finals]
    return outcomes, sorted(ALWAYS - heard), counted
