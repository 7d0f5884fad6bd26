"""`Simulation.steps`: what a workflow did, of its head and history."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import Raw
from msgspec.structs import replace
from pydantic import BaseModel

from infinitic import Channel, ExponentialBackoff, UsageError, Workflow, task
from infinitic.codec.payloads import PayloadCodec
from infinitic.errors import TaskFailedError, TaskTimedOutError, WorkflowCanceledError
from infinitic.messages.commands import ScheduleTask
from infinitic.messages.events import Activated, AttemptError, Event, MethodStarted, Partial, SignalReceived, TaskResult
from infinitic_testing.simulation import Simulation
from infinitic_testing.steps import Step, StepCanceled, StepCompleted, StepFailed, StepOpen, StepTimedOut, list_steps
from tests.unit import engine_samples as samples

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Seat(BaseModel):
    row: int
    window: bool = False


class Flights:
    @task(retry=ExponentialBackoff(minimum_seconds=10, random_factor=0, maximum_retries=2))
    async def book(self, city: str, *, seat: Seat | None = None) -> str:
        raise NotImplementedError

    async def wait(self) -> None:
        raise NotImplementedError


def count_to(number: int) -> int:
    return number


def refuse() -> int:
    raise LookupError("nothing there")


class Trip(Workflow):
    flights = Workflow.new_service(Flights)
    patient = Workflow.new_service(Flights, total_timeout=60)
    paid = Channel[int]()

    async def book(self, city: str) -> str:
        flight = await self.flights.book(city, seat=Seat(row=3))
        self.inline(count_to, 3)
        await self.timer(DAY)
        amount = await self.paid.receive()
        return f"{flight} for {amount}"

    async def race(self) -> None:
        async with asyncio.timeout(3600):
            await (self.dispatch(self.flights.book, "Rome") | self.timer(7200))
        with suppress(TaskFailedError):
            self.inline(refuse)

    async def fail(self) -> None:
        with suppress(TaskFailedError):
            await self.flights.book("Rome")
        with suppress(TaskTimedOutError):
            await self.patient.wait()


class Zip(PayloadCodec):
    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        return zlib.compress(data)

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return zlib.decompress(data)


async def book(sim: Simulation) -> list[Step]:
    sim.mock(Flights).book.raises(ConnectionError("no network")).returns("AF1")
    sim.add_workflow(Trip)
    handle = await sim.client.dispatch(sim.client.new_workflow(Trip).book, "Paris")
    await sim.sleep(5)
    await sim.client.get_workflow_by_id(Trip, handle.workflow_id).paid.send(120)
    assert await handle.result() == "AF1 for 120"
    return sim.steps(handle)


SEAT = {"seat": {"row": 3, "window": False}}
BOOKED = [
    Step(
        kind="task",
        name="Flights.book",
        arguments=("Paris",),
        named_arguments=SEAT,
        attempts=2,
        outcome=StepCompleted("AF1"),
        started_at=BEGAN,
        ended_at=BEGAN + timedelta(seconds=10),
    ),
    Step(
        kind="signal",
        name="paid",
        arguments=(120,),
        outcome=StepCompleted(),
        started_at=BEGAN + timedelta(seconds=5),
        ended_at=BEGAN + timedelta(seconds=5),
    ),
    Step(
        kind="inline",
        name="count_to",
        outcome=StepCompleted(3),
        started_at=BEGAN + timedelta(seconds=10),
        ended_at=BEGAN + timedelta(seconds=10),
    ),
    Step(
        kind="timer",
        name="timer",
        arguments=(BEGAN + timedelta(days=1, seconds=10),),
        outcome=StepCompleted(),
        started_at=BEGAN + timedelta(seconds=10),
        ended_at=BEGAN + timedelta(days=1, seconds=10),
    ),
]


async def test_each_kind_of_step(sim: Simulation) -> None:
    assert await book(sim) == BOOKED


@pytest.mark.infinitic(codec=Zip())
async def test_payloads_are_decoded(sim: Simulation) -> None:
    assert await book(sim) == BOOKED


async def test_failures_and_timeouts(sim: Simulation) -> None:
    flights = sim.mock(Flights)
    flights.book.raises(ConnectionError("no network"))
    flights.on(Flights.wait).runs(lambda: sim.sleep(1000))
    sim.add_workflow(Trip)
    handle = await sim.client.dispatch(sim.client.new_workflow(Trip).fail)
    await handle.result()
    failed, late = sim.steps(handle)
    assert (failed.outcome, failed.attempts) == (StepFailed("ConnectionError", "no network"), 3)
    assert (late.name, late.outcome, late.attempts) == ("Flights.wait", StepTimedOut(), 1)
    assert late.ended_at == late.started_at + timedelta(seconds=60)


async def test_a_timeout_that_is_not_needed_is_cancelled(sim: Simulation) -> None:
    sim.mock(Flights).book.returns("AF1")
    sim.add_workflow(Trip)
    handle = await sim.client.dispatch(sim.client.new_workflow(Trip).race)
    await handle.result()
    timeout, task_, timer, inline = sim.steps(sim.client.get_workflow_by_id(Trip, handle.workflow_id))
    assert task_.outcome == StepCompleted("AF1")
    assert (timeout.outcome, timeout.ended_at) == (StepCanceled(), BEGAN)
    assert (timer.outcome, timer.ended_at) == (StepOpen(), None), "nobody has cancelled it"
    assert inline.outcome == StepFailed("LookupError", "nothing there")


async def test_what_is_open(sim: Simulation) -> None:
    flights = sim.mock(Flights)
    flights.book.raises(ConnectionError("no network")).returns("AF1")
    sim.add_workflow(Trip)
    handle = await sim.client.dispatch(sim.client.new_workflow(Trip).book, "Paris")
    await sim.sleep(1)
    [waiting] = sim.steps(handle)
    assert (waiting.attempts, waiting.outcome, waiting.ended_at) == (1, StepOpen(), None), "the second waits for 10 s"
    await sim.client.cancel(handle)
    with pytest.raises(WorkflowCanceledError):
        await handle.result()


async def test_an_instance_that_is_not_there(sim: Simulation) -> None:
    with pytest.raises(UsageError, match="There is no workflow Trip t1"):
        sim.steps(sim.client.get_workflow_by_id(Trip, "t1"))
    with pytest.raises(UsageError, match="stands for no instance yet"):
        sim.steps(sim.client.new_workflow(Trip))


def test_a_step_says_what_it_is() -> None:
    task_, signal, _, timer = BOOKED
    assert repr(task_) == (
        "<task Flights.book('Paris', seat={'row': 3, 'window': False}) completed with 'AF1', 2 attempts, "
        "from 2030-01-01T00:00:00+00:00, for 0:00:10>"
    )
    assert repr(signal) == "<signal paid(120) completed, from 2030-01-01T00:00:05+00:00>"
    assert repr(timer) == (
        "<timer due 2030-01-02T00:00:10+00:00 completed, from 2030-01-01T00:00:10+00:00, for 1 day, 0:00:00>"
    )


# Histories that a test can hardly make.

STARTED = MethodStarted("t1", "book", Raw(b"[]"))
ASKED = ScheduleTask(0, "Flights", "book", Raw(b'["Paris"]'))
PAID = SignalReceived("paid", Raw(b"1"))


def test_signals_that_the_code_has_not_got_come_last() -> None:
    head = replace(samples.RUNNING, at=20.0, sequence=2)
    history: list[list[Event]] = [[STARTED, PAID, PAID, Activated(1, 20.0, each=True), Partial(2), ASKED], [PAID]]
    got, asked, *waiting = list_steps(head, history)
    assert [got.kind, asked.kind] == ["signal", "task"]
    assert [(each.outcome, each.ended_at) for each in waiting] == [(StepOpen(), None)] * 2


def test_an_activation_that_another_worker_has_not_answered() -> None:
    head = replace(samples.DECIDING, at=20.0)
    history: list[list[Event]] = [
        [STARTED, Activated(1, 20.0)],
        [ASKED],
        [TaskResult(0, Raw(b'"AF1"')), Activated(2, 30.0)],
    ]
    [step] = list_steps(head, history)
    assert step.outcome == StepOpen(), "the code has not learned of the result"
    [step] = list_steps(replace(head, deciding=0), history)
    assert step.outcome == StepCompleted("AF1")


def test_results_between_an_activation_and_its_commands() -> None:
    """The code runs on another worker. What comes meanwhile goes into the next activation."""
    history: list[list[Event]] = [
        [STARTED, Activated(1, 20.0)],
        [PAID],
        [ASKED, Activated(2, 30.0)],
        [AttemptError(0, samples.FAILURE)],
    ]
    task_, signal = list_steps(samples.RUNNING, history)
    assert (task_.attempts, task_.started_at.timestamp()) == (2, 20.0)
    assert signal.started_at.timestamp() == 30.0


def test_positional_values_lose_their_marks() -> None:
    marked = Raw(b'[{"row":3,"window":false,"$unset":[[["window"],[],[[]]]]}]')
    history: list[list[Event]] = [[STARTED, Activated(1, 20.0), replace(ASKED, arguments=marked)]]
    [step] = list_steps(samples.RUNNING, history)
    assert step.arguments == ({"row": 3, "window": False},)
