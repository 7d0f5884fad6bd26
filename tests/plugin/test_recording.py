"""``pytest --infinitic-record``: tests write histories, and later code is replayed on them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.plugin.test_pytest_as_people_have_it import run_pytest

RECORDED = """
import pytest
from hypothesis import given, settings, strategies as st
from infinitic import Workflow


class Adder:
    async def add(self, x: int) -> int:
        return x + 1


class Sum(Workflow):
    adder = Workflow.new_service(Adder)

    async def twice(self, x: int) -> int:
        once = await self.adder.add(x)  # ONCE
        return await self.adder.add(once)


@pytest.fixture
def ready(sim):
    sim.add_service(Adder)
    sim.add_workflow(Sum)
    return sim.client


@pytest.mark.parametrize("x", [1, 2])
async def test_twice(ready, sim, x):
    assert await ready.new_workflow(Sum).twice(x) == x + 2
    assert await ready.new_workflow(Sum).twice(x) == x + 2


async def test_fails(ready, sim):
    assert await ready.new_workflow(Sum).twice(1) == 4


class TestClass:
    async def test_open(self, ready, sim):
        await ready.dispatch(ready.new_workflow(Sum).twice, 1)
"""

REPLAYED = """
from test_0 import Sum


class Changed(Sum):
    async def twice(self, x: int) -> int:
        return x + 2


Changed.__name__ = "Sum"


def test_same(sim):
    sim.add_workflow(Sum)
    assert len(sim.replay("histories")) == 4


def test_changed(sim):
    sim.add_workflow(Changed)
    sim.replay("histories")  # REPLAY
"""


@pytest.mark.parametrize("options", [["-p", "no:xdist"], ["-n", "2"]], ids=["one process", "two processes"])
def test_histories_are_written_and_replayed(options: list[str], tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [RECORDED], [*options, "--infinitic-record", "histories"])
    assert re.search(r"\b1 failed, 3 passed", output), output
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json"))
    assert found == [f"histories/test_0/test_twice[{x}]/{name}" for x in (1, 2) for name in ("Sum-2.json", "Sum.json")]
    history = json.loads((tmp_path / found[0]).read_text())
    assert history["test"] == "test_0.py::test_twice[1]"
    here = next(number for number, line in enumerate(RECORDED.splitlines(), 1) if line.endswith("# ONCE"))
    assert f"test_0.py:{here} in Sum.twice" in {event.get("line") for event in history["events"]}

    output = run_pytest(tmp_path, [RECORDED, REPLAYED], ["-k", "same or changed", *options])
    assert re.search(r"\b1 failed, 1 passed", output), output
    assert f"asked for at test_0.py:{here} in Sum.twice when it was recorded" in output
    assert '>       sim.replay("histories")  # REPLAY' in output
    assert "kept_instances.py" not in output, "only lines of the user are shown"
