"""Beside pytest-asyncio: its own tests and fixtures stay its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infinitic_testing.loop import VirtualLoop
from infinitic_testing.simulation import Simulation

LOOPS: list[asyncio.AbstractEventLoop] = []


@pytest_asyncio.fixture
async def connection() -> AsyncIterator[str]:
    LOOPS.append(asyncio.get_running_loop())
    yield "connected"
    assert asyncio.get_running_loop() is LOOPS[-1]


@pytest_asyncio.fixture
async def later(sim: Simulation, connection: str) -> str:
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    await sim.sleep(86_400)
    return connection


@pytest.mark.asyncio
async def test_beside(sim: Simulation, connection: str) -> None:
    assert connection == "connected"
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    assert not isinstance(LOOPS[-1], VirtualLoop)


@pytest.mark.asyncio(loop_scope="module")
async def test_wider_loop(sim: Simulation, later: str) -> None:
    assert later == "connected"
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)


@pytest.mark.asyncio
async def test_its_own(connection: str) -> None:
    assert asyncio.get_running_loop() is LOOPS[-1]


class TestSomebodyElses:
    @pytest.fixture
    def sim(self) -> str:
        return "a simulation of the weather"

    @pytest.mark.asyncio
    async def test_it(self, sim: str, connection: str) -> None:
        assert asyncio.get_running_loop() is LOOPS[-1]
