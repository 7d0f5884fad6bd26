"""Tests of every shape that use `sim`.

They pass whichever other plugins are installed, and whichever of them runs a test.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any
from unittest.mock import MagicMock, patch

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from infinitic import Channel, Workflow, WorkflowHandle
from infinitic.codec.payloads import PayloadCodec
from infinitic_testing.loop import VirtualLoop
from infinitic_testing.simulation import Simulation

SEEN: list[int] = []
OPEN: list[str] = []


class Reversed(PayloadCodec):
    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return data[::-1]


class Adder:
    async def add(self, x: int) -> int:
        return x + 1


class Sum(Workflow):
    adder = Workflow.new_service(Adder)
    more = Channel[int]()

    async def twice(self, x: int) -> int:
        await asyncio.sleep(86_400)
        return await self.adder.add(await self.adder.add(x))

    async def plus_signal(self, x: int) -> int:
        return x + await self.more.receive()


def prepare(sim: Simulation) -> Simulation:
    sim.add_service(Adder)
    sim.add_workflow(Sum)
    return sim


async def twice(sim: Simulation, x: int) -> int:
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    return await prepare(sim).client.new_workflow(Sum).twice(x)


# Functions, classes, parameters.


async def test_a_function(sim: Simulation) -> None:
    assert await twice(sim, 1) == 3


@pytest.mark.parametrize("x", [1, 2])
async def test_parameters(x: int, sim: Simulation) -> None:
    assert await twice(sim, x) == x + 2


async def test_a_default(sim: Simulation, x: int = 5) -> None:
    assert await twice(sim, x) == 7


class TestClass:
    @pytest.fixture
    async def mine(self, sim: Simulation) -> tuple[TestClass, int]:
        return self, await twice(sim, 1)

    async def test_a_method(self, sim: Simulation) -> None:
        assert await twice(sim, 1) == 3

    async def test_its_fixture(self, sim: Simulation, mine: tuple[TestClass, int]) -> None:
        assert mine == (self, 3)
        assert await sim.client.new_workflow(Sum).twice(2) == 4

    @pytest.mark.parametrize("x", [1, 2])
    @patch("os.getlogin")
    async def test_a_patched_method(self, getlogin: MagicMock, sim: Simulation, x: int) -> None:
        assert not getlogin.called
        assert await twice(sim, x) == x + 2

    @staticmethod
    async def test_a_static_method(sim: Simulation) -> None:
        assert await twice(sim, 1) == 3


async def test_without_argument(request: pytest.FixtureRequest, sim: Simulation) -> None:
    assert request.getfixturevalue("sim") is sim


def test_no_coroutine(sim: Simulation) -> None:
    sim.add_workflow(Sum)


# Decorators.


@patch("os.getlogin", return_value="ada")
@patch.dict("os.environ", {"NAME": "Ada"})
async def test_patched(getlogin: MagicMock, sim: Simulation) -> None:
    assert getlogin() == "ada"
    assert await twice(sim, 1) == 3


def doubled(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(test)
    def decorated(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        return test(*args, **kwargs)

    return decorated


@doubled
async def test_a_plain_decorator(sim: Simulation) -> None:
    assert await twice(sim, 1) == 3


# Fixtures.


@pytest.fixture
def prepared(sim: Simulation) -> Simulation:
    return prepare(sim)


@pytest.fixture
def quick(prepared: Simulation) -> Iterator[Simulation]:
    yield prepared
    assert OPEN == [], "asynchronous fixtures that depend on this one have ended before it"


@pytest.fixture
async def started(quick: Simulation) -> WorkflowHandle[int]:
    return await quick.client.dispatch(quick.client.new_workflow(Sum).plus_signal, 1)


@pytest.fixture
async def ended(started: WorkflowHandle[int], quick: Simulation) -> AsyncIterator[WorkflowHandle[int]]:
    OPEN.append("ended")
    yield started
    await quick.client.get_workflow_by_id(Sum, started.workflow_id).more.send(10)
    assert await started.result() == 11
    OPEN.remove("ended")


async def test_a_fixture_on_sim(prepared: Simulation) -> None:
    assert await prepared.client.new_workflow(Sum).twice(1) == 3


async def test_an_asynchronous_fixture(sim: Simulation, started: WorkflowHandle[int]) -> None:
    await sim.client.get_workflow_by_id(Sum, started.workflow_id).more.send(1)
    assert await started.result() == 2


async def test_a_fixture_that_cleans_up(sim: Simulation, ended: WorkflowHandle[int]) -> None:
    assert (await sim.client.describe(ended)).status == "running"


def test_a_plain_test_with_an_asynchronous_fixture(started: WorkflowHandle[int]) -> None:
    assert started.workflow_id


def test_they_cleaned_up() -> None:
    assert OPEN == []


class TestOverridden:
    @pytest.fixture
    def sim(self, sim: Simulation) -> Simulation:
        return prepare(sim)

    async def test_it(self, sim: Simulation) -> None:
        assert await sim.client.new_workflow(Sum).twice(1) == 3


class TestReplaced:
    @pytest.fixture
    def sim(self) -> Simulation:
        return prepare(Simulation(cache_size=0))

    async def test_it(self, sim: Simulation) -> None:
        assert await sim.client.new_workflow(Sum).twice(1) == 3


class TestSomebodyElses:
    @pytest.fixture
    def sim(self) -> str:
        return "a simulation of the weather"

    def test_it(self, sim: str) -> None:
        assert sim.endswith("weather")


# Options.


@pytest.mark.infinitic(cache_size=0, codec=Reversed())
class TestOptions:
    @pytest.mark.infinitic(seed=7)
    async def test_marks_add_up(self, sim: Simulation) -> None:
        assert (sim.options["cache_size"], sim.options["seed"]) == (0, 7)
        assert isinstance(sim.options["codec"], Reversed)
        assert await twice(sim, 1) == 3

    @pytest.mark.infinitic(cache_size=3)
    async def test_the_closest_wins(self, sim: Simulation) -> None:
        assert sim.options["cache_size"] == 3


# Hypothesis.


@given(x=st.integers(0, 9))
@settings(max_examples=5, deadline=None)
@example(x=100)
async def test_given(sim: Simulation, x: int) -> None:
    began = sim.now
    assert await twice(sim, x) == x + 2  # fails if the simulation hosts `Sum` already
    assert (sim.now - began).days == 1
    SEEN.append(x)


def test_given_was_run() -> None:
    assert SEEN[0] == 100
    assert len(SEEN) > 1


@given(st.integers(0, 9))
@settings(max_examples=5, deadline=None)
@pytest.mark.infinitic(cache_size=0)
@pytest.mark.parametrize("y", [1, 2])
async def test_given_by_position(sim: Simulation, y: int, x: int) -> None:
    assert sim.options["cache_size"] == 0
    assert await twice(sim, x + y) == x + y + 2


class TestGiven:
    @given(x=st.integers(0, 9))
    @settings(max_examples=5, deadline=None)
    async def test_a_method(self, sim: Simulation, x: int) -> None:
        assert await twice(sim, x) == x + 2


@given(x=st.integers(0, 9))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_given_without_coroutine(sim: Simulation, x: int) -> None:
    assert sim.options["seed"] == 0
    assert 0 <= x <= 9
