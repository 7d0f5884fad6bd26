"""`infinitic describe --timeline`: what a workflow did, with bars over time."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from msgspec import Raw
from rich.console import Console
from typer.testing import CliRunner

from infinitic import (
    Channel,
    ExponentialBackoff,
    Run,
    RunMethod,
    RunStep,
    RunStepStatus,
    UsageError,
    Worker,
    Workflow,
    WorkflowStatus,
    WorkflowUnknownError,
    service,
    task,
)
from infinitic.cli.app import app
from infinitic.cli.describe.time_axis import Span, TimeAxis
from infinitic.cli.describe.timeline import MAX_ROWS, format_seconds, read_timeline, render_run
from infinitic.cli.project import Project
from infinitic.config import load
from infinitic.replay.run import RunStepKind
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport


class Flights:
    async def book(self, city: str) -> str:
        raise NotImplementedError


class Hotels:
    async def quote(self, number: int) -> int:
        raise NotImplementedError


class Trip(Workflow):
    flights = Workflow.new_service(Flights)
    hotels = Workflow.new_service(Hotels)
    approvals = Channel[bool]()

    async def book(self, city: str) -> str:
        booked = await self.flights.book(city)
        quotes = [self.dispatch(self.hotels.quote, number) for number in range(30)]
        for quote in quotes:
            await quote
        await (self.approvals.receive() | self.timer(30 * 86_400))
        return booked


class Stay(Workflow):
    hotels = Workflow.new_service(Hotels)

    async def ask(self, number: int) -> int:
        return await self.hotels.quote(number)


@service(name="Hotels")
class QuickHotels(Hotels):
    async def quote(self, number: int) -> int:
        return number


async def travel(sim: Simulation) -> Run:
    tried = list[str]()

    @service(name="Flights")
    class SlowFlights(Flights):
        @task(retry=ExponentialBackoff(minimum_seconds=100, random_factor=0))
        async def book(self, city: str) -> str:
            tried.append(city)
            await sim.sleep(1.5)
            if len(tried) == 1:
                raise ConnectionError("no [bold]line[/bold]\x1b[31m")
            return city

    @service(name="Hotels")
    class SlowHotels(Hotels):
        async def quote(self, number: int) -> int:
            await sim.sleep(2)
            return number

    sim.add_service(SlowFlights())
    sim.add_service(SlowHotels(), concurrency=10)
    sim.add_workflow(Trip)
    handle = await sim.client.dispatch(sim.client.new_workflow(Trip).book, "Paris")
    await sim.sleep(86_400)
    await sim.client.get_workflow_by_id(Trip, handle.workflow_id).approvals.send(True)
    await handle.result()
    return await sim.client.read_run(handle, payloads=False)


def print_run(run: Run) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, width=400, force_terminal=False, highlight=False)
    for each in render_run(run):
        console.print(each)
    return [line.rstrip() for line in output.getvalue().splitlines()]


async def test_a_timeline_shows_what_waited_what_ran_and_where(sim: Simulation) -> None:
    lines = print_run(await travel(sim))
    text = "\n".join(lines)
    book, flight, hotels, timer, signal = (
        next(line for line in lines if name in line)
        for name in ("book()", "Flights.book", "Hotels.quote", "timer", "signal")
    )
    assert "completed" in book
    assert "called by sim-client" in book
    assert "Flights.book, 2 attempts" in flight
    assert "completed ConnectionError: no [bold]line[/bold]\\x1b[31m" in flight, "what comes from elsewhere is text"
    assert "3.0 s" in flight, "both attempts"
    assert flight.count("█") > 1
    assert "x" in flight.rpartition("sim")[2]
    assert "Hotels.quote ×30" in hotels
    assert "completed 30" in hotels
    assert "1 min 0 s" in hotels, "30 times 2 s"
    assert hotels.index("░") < hotels.index("█"), "there were ten places"
    assert "timer 30 d 0 h" in timer
    assert "open" in timer
    assert "signal approvals by sim-client" in signal
    assert "time in which nothing ran: 1 min 40 s, 23 h 58 min" in text


def test_a_run_that_has_done_nothing_is_shown() -> None:
    run = Run(
        workflow_id="t1",
        workflow_name="Trip",
        status=WorkflowStatus.RUNNING,
        started_at=0.0,
        stalled="no such module",
        methods=(RunMethod(id="t1", name="book", called_at=0.0),),
    )
    text = "\n".join(print_run(run))
    assert "stalled: no such module" in text
    assert "waiting" in text, "its code has not begun"
    assert "nothing ran" not in text


def test_the_newest_rows_of_a_long_run_are_shown() -> None:
    steps = tuple(
        RunStep(kind="inline", name=f"step_{each}", position=each, activation=each, at=float(each), ended_at=each + 1.0)
        for each in range(MAX_ROWS + 50)
    )
    run = Run(workflow_id="t1", workflow_name="Trip", status=WorkflowStatus.RUNNING, started_at=0.0, steps=steps)
    text = "\n".join(print_run(run))
    assert "step_50 " in text
    assert "step_49 " not in text
    assert "and 50 earlier rows" in text


def test_many_alike_that_end_in_several_ways_are_counted() -> None:
    statuses = [RunStepStatus.COMPLETED] * 25 + [RunStepStatus.FAILED] * 2 + [RunStepStatus.OPEN]
    steps = tuple(
        RunStep(kind="task", name="Hotels.quote", status=status, position=each, activation=1, at=0.0)
        for each, status in enumerate(statuses)
    )
    run = Run(workflow_id="t1", workflow_name="Trip", status=WorkflowStatus.RUNNING, started_at=0.0, steps=steps)
    text = "\n".join(print_run(run))
    assert "Hotels.quote ×28" in text
    assert "open 1, completed 25, failed 2" in text


def test_children_and_calls_have_bars_and_it_is_said_who_cancelled() -> None:
    kinds: list[tuple[RunStepKind, str]] = [("child", "Invoice.issue"), ("call", "Order.pay"), ("send", "Order.paid")]
    steps = tuple(
        RunStep(kind=kind, name=name, position=each, activation=each, at=float(each), ended_at=each + 1.0)
        for each, (kind, name) in enumerate(kinds)
    )
    run = Run(
        workflow_id="t1",
        workflow_name="Trip",
        status=WorkflowStatus.CANCELED,
        started_at=0.0,
        steps=steps,
        canceled_at=2.0,
        canceled_by="shop",
    )
    child, call, send = (next(line for line in print_run(run) if f"{kind} {name}" in line) for kind, name in kinds)
    assert child.count("━") > 1
    assert call.count("━") > 1
    assert send.count("◆") == 1
    assert "cancelled at   1970-01-01T00:00:02.000Z by shop" in "\n".join(print_run(run))


@pytest.mark.parametrize(
    ("spans", "columns", "gaps"),
    [
        ([], {5.0: 0}, {}),
        ([Span(0, 0)], {0.0: 0, 9.0: 0}, {}),
        ([Span(0, 10)], {0.0: 0, 5.0: 10, 10.0: 19, 99.0: 19}, {}),
        ([Span(0, 5), Span(5, 10), Span(2, 3)], {10.0: 19}, {}),
        ([Span(0, 10), Span(1000, 1010)], {0.0: 0, 10.0: 8, 1000.0: 10, 1010.0: 19}, {9: 990.0}),
        ([Span(0, 10), Span(11, 20)], {10.0: 10, 11.0: 11}, {}),
        ([Span(0, 0), Span(100, 100)], {0.0: 0, 100.0: 2}, {1: 100.0}),
        ([Span(at * 100, at * 100) for at in range(50)], {0.0: 0}, {}),
    ],
)
def test_instants_have_columns_and_long_times_without_work_are_folded(
    spans: list[Span], columns: dict[float, int], gaps: dict[int, float]
) -> None:
    axis = TimeAxis(spans, 20)
    assert {at: axis.find_column(at) for at in columns} == columns
    if len(spans) == 50:
        assert len(axis.gaps) == 5, "no more than a quarter of the columns"
    else:
        assert axis.gaps == gaps
    found = [axis.find_column(at / 7) for at in range(40_000)]
    assert found == sorted(found)
    assert all(0 <= column < 20 for column in found)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0415, "42 ms"),
        (4.08, "4.1 s"),
        (61.0, "1 min 1 s"),
        (3600.0, "1 h 0 min"),
        (7_384.0, "2 h 3 min"),
        (1_479_600.0, "17 d 3 h"),
    ],
)
def test_lengths_of_time_are_short(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


async def test_the_name_of_the_workflow_is_found_in_the_storage(sim: Simulation) -> None:
    run = await travel(sim)
    project = Project(("Flights",), {"Trip": (Trip,), "Other": ()})
    assert await read_timeline(sim.storage, project, None, run.workflow_id) == run
    whole = await read_timeline(sim.storage, project, "Trip", run.workflow_id, payloads=True)
    assert whole.steps[0].arguments == Raw(b'["Paris"]')
    with pytest.raises(UsageError, match="--workflow NAME"):
        await read_timeline(sim.storage, project, None, "nobody")
    with pytest.raises(WorkflowUnknownError):
        await read_timeline(sim.storage, project, "Trip", "nobody")


def test_a_configuration_without_storage_is_said(tmp_path: Path) -> None:
    config = tmp_path / "infinitic.yml"
    config.write_text("transport:\n  in_memory: {}\n")
    ended = CliRunner().invoke(app, ["describe", "t1", "--timeline", "--config", str(config)])
    assert ended.exit_code != 0
    assert "has no storage" in ended.output


def test_a_timeline_is_read_from_the_database_while_no_worker_runs(tmp_path: Path) -> None:
    config = tmp_path / "infinitic.yml"
    config.write_text(f"transport:\n  in_memory: {{}}\nstorage:\n  sqlite: {{path: {tmp_path / 'db.sqlite'}}}\n")

    async def run_one() -> str:
        storage = load(config).make_storage()
        assert storage is not None
        async with storage:
            worker = Worker(InMemoryTransport(), storage, name="w1")
            worker.add_service(QuickHotels())
            worker.add_workflow(Stay)
            async with worker.running():
                handle = await worker.client.dispatch(worker.client.new_workflow(Stay).ask, 7)
                assert await handle.result() == 7
        return handle.workflow_id

    workflow_id = asyncio.run(run_one())
    command = ["describe", workflow_id, "--workflow", "Stay", "--timeline", "--config", str(config)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "Hotels.quote" in shown.output
    assert "w1" in shown.output
    run = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert (run["workflow_id"], run["status"]) == (workflow_id, "completed")
    [step] = run["steps"]
    assert (step["name"], step["arguments"], step["value"], len(step["attempts"])) == ("Hotels.quote", [7], 7, 1)
    unknown = CliRunner().invoke(app, ["describe", "t1", *command[2:]])
    assert unknown.exit_code == 1
    assert "Stay is unknown" in unknown.output
