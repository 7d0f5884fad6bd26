"""What a history tells later: how attempts went, who called and signalled, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from infinitic import Channel, TaskContext, UsageError, Workflow, task_context
from infinitic.client.client import WorkflowHandle
from infinitic.messages.attempts import Execution
from infinitic.messages.events import (
    Abandoned,
    AttemptError,
    CancelRequested,
    Event,
    MethodStarted,
    RemoteResult,
    SignalReceived,
    TaskError,
    TaskResult,
)
from infinitic.runtime.history import decode_events
from infinitic.storage import StateKey
from infinitic.storage.integrity import ensure_checked
from infinitic_testing.simulation import Simulation
from tests.simulation.desk import Job, always, make_desk

E = TypeVar("E")


async def read_events(sim: Simulation, handle: WorkflowHandle[Any], kind: type[E]) -> list[E]:
    key = StateKey(handle.workflow_name, handle.workflow_id)
    segments = await ensure_checked(sim.storage).states.history(key)
    happened: Sequence[Event] = [event for segment in segments for event in decode_events(key, segment)]
    return [event for event in happened if isinstance(event, kind)]


async def test_a_result_tells_how_long_its_attempt_waited_and_ran_and_where(sim: Simulation) -> None:
    async def work(self: object, text: str) -> str:
        await sim.sleep(1.25)
        return text

    sim.add_service(make_desk(work), concurrency=1)
    sim.add_workflow(Job)
    first = await sim.client.dispatch(sim.client.new_workflow(Job).run, "a")
    second = await sim.client.dispatch(sim.client.new_workflow(Job).run, "b")
    await first.result()
    await second.result()
    [ran] = await read_events(sim, first, TaskResult)
    assert ran.execution == Execution(0, 1250, "sim")
    [waited] = await read_events(sim, second, TaskResult)
    assert waited.execution == Execution(1250, 1250, "sim"), "there was one place, and the first task had it"


async def test_failed_attempts_tell_it_and_when_the_next_one_is_sent(sim: Simulation) -> None:
    async def work(self: object, text: str) -> str:
        await sim.sleep(0.5)
        raise ValueError("no")

    def policy(retry_index: int, error: Exception) -> float | None:
        return 60.0 if retry_index == 0 else None

    sim.add_service(make_desk(work, retry=policy))
    sim.add_workflow(Job)
    began = sim.now
    handle = await sim.client.dispatch(sim.client.new_workflow(Job).run, "a")
    await sim.run_until_idle()
    await sim.sleep(100)
    [failed] = await read_events(sim, handle, AttemptError)
    assert failed.execution == Execution(0, 500, "sim")
    assert failed.next_at == (began + timedelta(seconds=60.5)).timestamp()
    [ended] = await read_events(sim, handle, TaskError)
    assert ended.execution == Execution(0, 500, "sim"), "it counts from when this attempt was sent"


async def test_a_task_that_cannot_begin_tells_that_it_ran_no_time(sim: Simulation) -> None:
    async def work(self: object, text: str) -> str:
        return text

    sim.add_service(make_desk(work, retry=always(1)))
    sim.add_workflow(Job)
    handle = await sim.client.dispatch(sim.client.new_workflow(Job).run_unknown, "a")
    await sim.run_until_idle()
    [ended] = await read_events(sim, handle, TaskError)
    assert ended.execution == Execution(0, 0, "sim")


class Parcel(Workflow):
    marks = Channel[int]()

    async def send(self) -> list[str]:
        self.seen = [self.describe()]
        first = await self.marks.receive()
        await self.marks.receive()
        return [*self.seen, str(first)]

    async def look(self) -> str:
        self.seen.append(self.describe())
        return self.describe()

    def describe(self) -> str:
        meta = self.context.meta
        return f"{self.context.method_name} {meta.get('lang', b'').decode()} {meta.get('user', b'').decode()}"


async def test_calls_and_signals_tell_when_they_came_who_sent_them_and_what_was_given(sim: Simulation) -> None:
    sim.add_workflow(Parcel)
    began = sim.now
    handle = await sim.client.dispatch(sim.client.new_workflow(Parcel, meta={"lang": b"en"}).send)
    await sim.sleep(5)
    parcel = sim.client.get_workflow_by_id(Parcel, handle.workflow_id, meta={"user": b"ada"})
    assert await parcel.look() == "look en ada", "what the start gave, and what the caller adds"
    await sim.sleep(5)
    await parcel.marks.send(7, meta={"trace": b"t1"})
    await parcel.marks.send(8, confirm=True)
    assert await handle.result() == ["send en ", "look en ada", "7"], "the first method has its own meta still"

    started, called = await read_events(sim, handle, MethodStarted)
    assert (started.at, started.by, started.meta) == (began.timestamp(), "sim-client", {})
    assert (called.at, called.by, called.meta) == (began.timestamp() + 5, "sim-client", {"user": b"ada"})
    with_meta, without = await read_events(sim, handle, SignalReceived)
    assert (with_meta.at, with_meta.by, with_meta.meta) == (began.timestamp() + 10, "sim-client", {"trace": b"t1"})
    assert (without.by, without.meta) == ("sim-client", {})


def test_meta_of_a_method_is_the_same_in_replay() -> None:
    async def main() -> None:
        async with Simulation(cache_size=0) as sim:
            sim.add_workflow(Parcel)
            handle = await sim.client.dispatch(sim.client.new_workflow(Parcel, meta={"user": b"eve"}).send)
            parcel = sim.client.get_workflow_by_id(Parcel, handle.workflow_id, meta={"user": b"ada"})
            assert await parcel.look() == "look  ada", "the caller's counts where both have a key"
            await parcel.marks.send(7)
            await parcel.marks.send(8)
            assert await handle.result() == ["send  eve", "look  ada", "7"]

    Simulation.run(main())


async def test_a_task_finds_its_own_meta_and_not_that_of_the_method(sim: Simulation) -> None:
    seen = list[TaskContext]()

    async def work(self: object, text: str) -> str:
        seen.append(task_context())
        return text

    sim.add_service(make_desk(work))
    sim.add_workflow(Job)
    assert await sim.client.new_workflow(Job, meta={"user": b"ada"}).run("a") == "a"
    assert [context.meta for context in seen] == [{}]


@pytest.mark.parametrize("meta", [{"k": "text"}, {1: b"x"}, {"\ud800": b"x"}])
async def test_meta_that_is_none_is_refused_at_the_call(sim: Simulation, meta: dict[str, bytes]) -> None:
    sim.add_workflow(Parcel)
    handle = await sim.client.dispatch(sim.client.new_workflow(Parcel).send)
    with pytest.raises(UsageError):
        sim.client.get_workflow_by_id(Parcel, handle.workflow_id, meta=meta)
    parcel = sim.client.get_workflow_by_id(Parcel, handle.workflow_id)
    with pytest.raises(UsageError):
        await parcel.marks.send(1, meta=meta)
    await sim.client.cancel(handle)


async def test_meta_counts_for_the_size_of_a_signal_and_a_call(sim: Simulation) -> None:
    sim.add_workflow(Parcel)
    handle = await sim.client.dispatch(sim.client.new_workflow(Parcel).send)
    large = {"k": bytes(5 * 1024 * 1024)}
    parcel = sim.client.get_workflow_by_id(Parcel, handle.workflow_id, meta=large)
    with pytest.raises(UsageError, match="limit"):
        await parcel.look()
    with pytest.raises(UsageError, match="limit"):
        await parcel.marks.send(1, meta=large)
    await sim.client.cancel(handle)


async def test_a_cancellation_tells_who_asked_for_it_and_when(sim: Simulation) -> None:
    sim.add_workflow(Parcel)
    began = sim.now.timestamp()
    handle = await sim.client.dispatch(sim.client.new_workflow(Parcel).send)
    await sim.sleep(5)
    await sim.client.cancel(handle)
    await sim.run_until_idle()
    [cancelled] = await read_events(sim, handle, CancelRequested)
    assert cancelled == CancelRequested("", began + 5, "sim-client")
    run = await sim.client.read_run(handle)
    assert (run.canceled_at, run.canceled_by) == (began + 5, "sim-client")


async def test_a_termination_tells_who_asked_for_it_and_when(sim: Simulation) -> None:
    sim.add_workflow(Parcel)
    began = sim.now.timestamp()
    handle = await sim.client.dispatch(sim.client.new_workflow(Parcel).send)
    await sim.sleep(5)
    await sim.client.terminate(handle, reason="lost")
    await sim.run_until_idle()
    [ended] = await read_events(sim, handle, Abandoned)
    assert (ended.reason, ended.at, ended.by) == ("lost", began + 5, "sim-client")
    run = await sim.client.read_run(handle)
    assert (run.canceled_at, run.canceled_by) == (began + 5, "sim-client")


class Truck(Workflow):
    parcel = Workflow.new_workflow(Parcel)

    async def drive(self) -> list[str]:
        return await self.parcel.send()


async def test_children_tell_the_id_of_their_parent(sim: Simulation) -> None:
    sim.add_workflow(Parcel)
    sim.add_workflow(Truck)
    began = sim.now.timestamp()
    handle = await sim.client.dispatch(sim.client.new_workflow(Truck).drive)
    await sim.sleep(1)
    [step] = (await sim.client.read_run(handle)).steps
    child = await sim.client.read_run(sim.client.get_workflow_by_id(Parcel, step.id))
    assert child.methods[0].by == handle.workflow_id
    parcel = sim.client.get_workflow_by_id(Parcel, step.id)
    await sim.sleep(4)
    await parcel.marks.send(1)
    await parcel.marks.send(2)
    assert await handle.result() == ["send  ", "1"]
    [result] = await read_events(sim, handle, RemoteResult)
    assert result.at == began + 5


async def test_a_cancelled_child_tells_the_id_of_its_parent(sim: Simulation) -> None:
    sim.add_workflow(Parcel)
    sim.add_workflow(Truck)
    handle = await sim.client.dispatch(sim.client.new_workflow(Truck).drive)
    await sim.sleep(1)
    [step] = (await sim.client.read_run(handle)).steps
    await sim.client.cancel(handle)
    await sim.run_until_idle()
    child = await sim.client.read_run(sim.client.get_workflow_by_id(Parcel, step.id))
    assert child.canceled_by == handle.workflow_id
