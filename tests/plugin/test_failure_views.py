"""What a failed test tells its user: which workflow, which step, which line; and traces."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.plugin.test_pytest_as_people_have_it import run_pytest

FAILING = """
import asyncio
import pytest
from infinitic import Channel, ExponentialBackoff, Workflow, task


class Flights:
    @task(retry=ExponentialBackoff(maximum_retries=2))
    async def book(self, city: str) -> str:
        if city == "Rome":
            raise ConnectionError("no network")  # TASK
        return "AF1"


class Trip(Workflow):
    flights = Workflow.new_service(Flights)
    paid = Channel[int]()

    async def book(self, city: str) -> str:
        for _ in range(12):
            await self.flights.book("Paris")
        return await self.flights.book(city)  # BOOK

    async def check(self) -> None:
        self._check()

    def _check(self) -> None:
        raise ValueError("no seat")  # CHECK

    async def pay(self) -> int:
        return await self.paid.receive()  # PAY


def prepare(sim):
    sim.add_service(Flights)
    sim.add_workflow(Trip)
    return sim.client.new_workflow(Trip)


async def test_task(sim):
    await prepare(sim).book("Rome")


async def test_workflow(sim):
    await prepare(sim).check()


async def test_assertion(sim):
    trip = prepare(sim)
    for _ in range(7):
        await sim.client.dispatch(trip.pay)
    await sim.sleep(1)
    assert 1 == 2


async def test_hang(sim):
    await prepare(sim).pay()


async def test_group(sim):
    trip = prepare(sim)
    async with asyncio.TaskGroup() as group:
        group.create_task(trip.check())


async def test_no_workflow(sim):
    assert 1 == 2


async def test_passes(sim):
    assert await prepare(sim).book("Paris") == "AF1"


@pytest.mark.infinitic(seeds=1, profile="seeded", faults="none")
async def test_seed(sim):
    assert await prepare(sim).book("Paris") == "AF1"
    assert sim.options["profile"] == "fifo"
"""


def test_what_a_failed_test_tells(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [FAILING], ["--infinitic-trace", "out/trace.txt"])
    assert re.search(r"= 7 failed, 1 passed in", output), output

    def at(mark: str) -> str:
        number = next(number for number, line in enumerate(FAILING.splitlines(), 1) if line.endswith(f"# {mark}"))
        return rf"at \S*/test_0.py:{number} in "

    def find_report(name: str) -> str:
        found = re.search(rf"(?s)\n_+ {name} _+\n(.*?)(?=\n_+ \w+ _+\n|\n=+ short test)", output)
        assert found is not None, output
        return found[1]

    task = find_report("test_task")
    assert "- infinitic: workflows of this test -" in task
    assert re.search(rf"\ntask Flights.book raised ConnectionError: no network, {at('TASK')}book, in attempt 3\n", task)
    assert re.search(rf"\nworkflow Trip.book raised TaskFailedError: .*, {at('BOOK')}book\n", task)
    assert re.search(
        r"\nworkflow Trip \w+: failed, 13 step\(s\)\n  3 earlier step\(s\)\n  <task Flights.book\('Paris'\) ", task
    )
    assert "<task Flights.book('Rome') failed with ConnectionError: no network, 3 attempts, from" in task

    assert re.search(
        rf"\nworkflow Trip.check raised ValueError: no seat, {at('CHECK')}_check\n", find_report("test_workflow")
    )
    assert re.search(
        rf"workflow Trip.check raised ValueError: no seat, {at('CHECK')}_check\n", find_report("test_group")
    )

    assertion = find_report("test_assertion")
    assert re.search(rf"\n  pay waits for a signal of channel 'paid', {at('PAY')}Trip.pay\n", assertion)
    assert len(re.findall(r"\nworkflow Trip \w+: running, 0 step\(s\)", assertion)) == 5
    assert "\nand 2 more workflow(s)\n" in assertion

    hang = find_report("test_hang")
    assert len(re.findall("waits for a signal of channel 'paid'", hang)) == 1, "the error has said it"
    assert "workflows of this test" not in find_report("test_no_workflow")
    seed = find_report("test_seed")
    assert re.search(r"(?s)test_seed fails under seed 0: AssertionError.*\nworkflow Trip \w+: completed, 13 step", seed)

    trace = (tmp_path / "out" / "trace.txt").read_text()
    headers = [line for line in trace.splitlines() if line.startswith("== ")]
    assert headers[0].startswith(
        "== test_0.py::test_task, Simulation(seed=0, faults='none', profile='fifo'): failed with "
    )
    assert any(line.endswith(": passed") and "::test_passes, " in line for line in headers)
    of_seed = [line for line in headers if "::test_seed" in line]
    assert [", without faults," in line for line in of_seed] == [True, False, False]
    assert ", made small, " in of_seed[-1]
    last = trace[trace.index(of_seed[1]) :]
    assert re.search(r"\n\d+\.\d{3} s worker-1 committed of \w+ Trip, written\n", last), last[:2000]
    assert re.search(r"\nworkflow Trip \w+: completed, 13 step\(s\)\n", last)


def test_a_trace_of_several_processes(tmp_path: Path) -> None:
    output = run_pytest(
        tmp_path, [FAILING], ["-n", "2", "-k", "passes or task", "-o", f"infinitic_trace={tmp_path}/trace.txt"]
    )
    assert re.search(r"= 1 failed, 1 passed in", output), output
    trace = (tmp_path / "trace.txt").read_text()
    assert len(re.findall(r"(?m)^== test_0.py::", trace)) == 2


@pytest.mark.skipif(Path("/proc").is_dir() is False, reason="needs a folder in which nobody can write")
def test_a_trace_that_cannot_be_written(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [FAILING], ["--infinitic-trace", "/proc/nowhere/trace.txt"])
    assert "--infinitic-trace: /proc/nowhere/trace.txt cannot be written" in output
