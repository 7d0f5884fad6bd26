"""`run_of`: the document of a run, for the whole of a history and for each part of it."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import UsageError, Workflow, WorkflowUnknownError, task
from infinitic.engines import state
from infinitic.engines.state import OpenBlock, Retry, WorkflowHead
from infinitic.messages import events
from infinitic.messages.events import Event
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.replay.run import Run, RunStepStatus
from infinitic.replay.run_reader import RunReader, run_of
from infinitic.runtime.history import decode_events, decode_head
from infinitic.storage import StateKey
from infinitic.storage.integrity import ensure_checked
from infinitic_testing.histories import read_history
from infinitic_testing.invariants.run_rules import check_run
from infinitic_testing.simulation import Simulation
from tests.golden.recorded_trip import Flights, RecordedTrip
from tests.golden.test_recorded_histories import FILES, answer
from tests.unit import engine_samples

DOCUMENTS = Path(__file__).parents[1] / "golden" / "runs"


async def book(sim: Simulation) -> StateKey:
    """What `tests/golden/test_recorded_histories.py` does."""
    flights = sim.mock(Flights)
    flights.book.raises(ConnectionError("once")).runs(answer)
    flights.on(Flights.wait).runs(lambda: sim.sleep(1000))
    sim.add_workflow(RecordedTrip)
    stub = sim.client.new_workflow(RecordedTrip, meta={"user": b"ada"})
    handle = await sim.client.dispatch(stub.book, "Paris")
    await sim.sleep(5)
    trip = sim.client.get_workflow_by_id(RecordedTrip, handle.workflow_id, meta={"lang": b"en"})
    assert await trip.note("by hand") == 1
    await trip.paid.send(120, meta={"trace": b"t1"})
    await handle.result()
    return StateKey(handle.workflow_name, handle.workflow_id)


async def read(sim: Simulation, key: StateKey) -> tuple[WorkflowHead, list[list[Event]]]:
    states = ensure_checked(sim.storage).states
    head = decode_head(key, (await states.load([key]))[key])
    return head, [decode_events(key, each) for each in await states.history(key)]


def write(run: Run) -> str:
    return msgspec.json.format(msgspec.json.encode(run), indent=1).decode() + "\n"


RECORDED = ["RecordedTrip", "RecordedTrip-without-times"]


def read_recorded(name: str) -> tuple[WorkflowHead, list[list[Event]]]:
    """A history of `tests/golden/histories`, each event in a segment of its own, and a head."""
    recorded = read_history(FILES / f"{name}.json")
    segments = [events.decode(b"[" + bytes(each.event) + b"]") for each in recorded.events]
    return replace(engine_samples.CLOSED, sequence=len(segments), started_at=1893456000.0), segments


def describe(run: Run) -> str:
    """Describe a run in one line: how its steps and methods end, and a plus for each attempt."""
    methods = [f"{method.name} {method.status}" for method in run.methods]
    steps = [f"{step.name} {step.status} {'+' * len(step.attempts)}".strip() for step in run.steps]
    return f"{run.transitions}: {', '.join([*methods, *steps])}"


@pytest.mark.parametrize("name", RECORDED)
def test_the_document_of_a_recorded_history_is_the_one_that_is_kept(name: str) -> None:
    """If this fails as it should, write the file anew (`write`): others read such documents."""
    run = run_of(*read_recorded(name))
    assert write(run) == (DOCUMENTS / f"{name}.json").read_text(encoding="utf-8")
    assert write(msgspec.json.decode(write(run), type=Run)) == write(run), "it can be read back"


@pytest.mark.parametrize("name", RECORDED)
def test_each_beginning_of_a_history_gives_a_document(name: str) -> None:
    """Each one is kept in a line: so it is seen how the document grows."""
    head, segments = read_recorded(name)
    parts = [run_of(head, segments[:count]) for count in range(len(segments) + 1)]
    assert parts[-1] == run_of(head, segments)
    lines = "".join(f"{describe(part)}\n" for part in parts)
    assert lines == (DOCUMENTS / f"{name}-parts.txt").read_text(encoding="utf-8")
    assert check_run(head, segments) is None


async def test_the_rule_holds_at_each_beginning_of_a_run(sim: Simulation) -> None:
    head, segments = await read(sim, await book(sim))
    assert [check_run(head, segments[:count]) for count in range(len(segments) + 1)] == [None] * (len(segments) + 1)


async def test_without_payloads_all_else_is_the_same(sim: Simulation) -> None:
    head, segments = await read(sim, await book(sim))
    whole, bare = run_of(head, segments), run_of(head, segments, payloads=False)
    nothing = msgspec.Raw()
    assert whole != bare
    assert bare == replace(
        whole,
        steps=tuple(replace(step, arguments=nothing, value=nothing) for step in whole.steps),
        methods=tuple(replace(method, arguments=nothing, value=nothing) for method in whole.methods),
    )


def test_without_payloads_nothing_large_is_kept() -> None:
    """Neither of what waits: an instance that is stalled may have thousands of large signals."""
    size = 2_000_000
    text = Raw(b'"' + b"x" * size + b'"')
    waiting = [events.encode([events.SignalReceived("words", text, float(number))]) for number in range(20)]
    head = state.WorkflowHead(state.SCHEMA, "w", "Trip", 1.0, (state.Method("w", "book"),), sequence=20)
    reader = RunReader(head, payloads=False)
    tracemalloc.start()
    try:
        for segment in waiting:
            reader.feed(events.decode(segment))
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < size
    assert [step.at for step in reader.finish().steps] == [float(number) or 1.0 for number in range(20)]


async def test_the_client_reads_it_from_the_storage(sim: Simulation) -> None:
    key = await book(sim)
    target = sim.client.get_workflow_by_id(RecordedTrip, key.id)
    assert await sim.client.read_run(target) == run_of(*await read(sim, key))
    assert (await sim.client.read_run(target, payloads=False)).steps[0].arguments == msgspec.Raw()
    with pytest.raises(WorkflowUnknownError, match="workflow_id nobody"):
        await sim.client.read_run(sim.client.get_workflow_by_id(RecordedTrip, "nobody"))
    with pytest.raises(UsageError, match="stands for no instance"):
        await sim.client.read_run(sim.client.new_workflow(RecordedTrip))


async def test_what_is_under_way(sim: Simulation) -> None:
    sim.mock(Flights).book.raises(ConnectionError("once")).runs(answer)
    sim.add_workflow(RecordedTrip)
    handle = await sim.client.dispatch(sim.client.new_workflow(RecordedTrip).book, "Paris")
    await sim.sleep(1)
    [step] = (await sim.client.read_run(handle)).steps
    failed, waiting = step.attempts
    assert (failed.status, failed.worker) == (RunStepStatus.FAILED, "sim")
    assert failed.failure is not None
    assert failed.failure.message == "once"
    assert (waiting.number, waiting.status, waiting.worker) == (2, RunStepStatus.WAITING, "")
    assert waiting.sent_at == step.at + 10, "it waits for its delay"
    await sim.client.cancel(handle)
    await sim.run_until_idle()
    run = await sim.client.read_run(handle)
    assert run.canceled_at is not None
    [step] = run.steps
    assert [attempt.status for attempt in step.attempts] == [RunStepStatus.FAILED], "the second was never sent"


async def test_what_was_terminated_has_ended(sim: Simulation) -> None:
    """S35."""
    sim.mock(Flights).book.raises(ConnectionError("once")).runs(answer)
    sim.add_workflow(RecordedTrip)
    handle = await sim.client.dispatch(sim.client.new_workflow(RecordedTrip).book, "Paris")
    await sim.sleep(1)
    await sim.client.terminate(handle, reason="no longer needed")
    await sim.run_until_idle()
    run = await sim.client.read_run(handle)
    assert (run.status, run.termination) == (WorkflowStatus.TERMINATED, "no longer needed")
    assert (run.canceled_at, run.canceled_by) == (run.closed_at, "sim-client")
    assert [(each.status, each.ended_at) for each in run.methods] == [(WorkflowStatus.TERMINATED, run.closed_at)]
    assert [(each.status, each.ended_at) for each in run.steps] == [(RunStepStatus.CANCELED, run.closed_at)]


async def test_a_method_that_is_cancelled_alone_cancels_no_run(sim: Simulation) -> None:
    """S35."""
    sim.mock(Flights).book.runs(answer)
    sim.add_workflow(RecordedTrip)
    handle = await sim.client.dispatch(sim.client.new_workflow(RecordedTrip).book, "Paris")
    stub = sim.client.get_workflow_by_id(RecordedTrip, handle.workflow_id)
    other = await sim.client.dispatch(stub.book, "Rome")
    await sim.client.cancel(other)
    await sim.run_until_idle()
    run = await sim.client.read_run(handle)
    assert run.canceled_at is None
    assert [each.status for each in run.methods] == [WorkflowStatus.RUNNING, WorkflowStatus.CANCELED]
    await sim.client.cancel(handle)


async def test_the_rule_finds_a_document_that_tells_something_else(sim: Simulation) -> None:
    head, segments = await read(sim, await book(sim))
    assert check_run(head, segments) is None
    waits = replace(head, closed_at=None, retries=(Retry(0, 1, 2, 0, 1, 5.0),))
    assert str(check_run(waits, segments)).startswith("the tasks [] wait in it, and [0] do")
    still_open = replace(head, closed_at=None, open=(OpenBlock(1, 0, b"\x01"),))
    assert check_run(still_open, segments) == "the tasks [] are open in it, and [0] are open by the head"
    backwards = [replace(event, at=1.0) if isinstance(event, events.Activated) else event for event in segments[-1]]
    assert "ends before it begins" in str(check_run(head, [*segments[:-1], backwards]))


class Desk:
    @task(delegated=True)
    async def ask(self) -> int:
        raise NotImplementedError


class Hurry(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.desk.ask()
        return "over"


async def test_a_delegated_attempt_ends_after_it_began_also_if_clocks_differ(sim: Simulation) -> None:
    """Who ends it has another clock than the worker that began it."""
    sim.mock(Desk).ask.returns(0)
    sim.add_workflow(Hurry)
    handle = await sim.client.dispatch(sim.client.new_workflow(Hurry).run)
    assert await handle.result() == "over"
    head, segments = await read(sim, StateKey(handle.workflow_name, handle.workflow_id))
    ahead = [
        [
            replace(each, execution=replace(each.execution, queued=60_000))
            if isinstance(each, events.TaskHandedOver) and each.execution is not None
            else each
            for each in segment
        ]
        for segment in segments
    ]
    assert ahead != segments
    assert check_run(head, ahead) is None
    (step,) = [each for each in run_of(head, ahead).steps if each.kind == "task"]
    (attempt,) = step.attempts
    assert attempt.began_at == attempt.ended_at
