"""The trace of a workflow: all hops, loads and commits on its way to the answer."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from bench.trace import (
    BROKER,
    CODE,
    COMMIT,
    HAND_OVER,
    LOAD,
    Mark,
    Marks,
    Run,
    TracedStorage,
    TracedTransport,
    add_up,
    join,
)
from bench.workloads import Adder, Bench
from infinitic import Worker
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


def test_three_tasks_are_eight_hops_four_commits_and_one_load() -> None:
    async def trace() -> list[Mark]:
        marks = Marks()
        worker = Worker(TracedTransport(InMemoryTransport(), marks), TracedStorage(InMemoryStorage(), marks))
        worker.add_service(Adder())
        worker.add_workflow(Bench)
        async with worker.running():
            marks.take()
            assert await worker.client.new_workflow(Bench).three(1) == 9
            return marks.take()

    way = asyncio.run(trace())
    counted = Counter(mark.kind for mark in way)
    assert (counted[HAND_OVER], counted[COMMIT], counted[LOAD]) == (8, 4, 1)
    assert [mark.name for mark in way[:3]] == ["client: sends", "client: the broker has it", "engine: has the message"]
    assert {mark.name for mark in way if mark.kind == COMMIT} == {"engine: has committed"}
    assert way == sorted(way, key=lambda mark: mark.at)


def test_runs_that_went_the_same_way_are_joined() -> None:
    def run(began: float, *kinds: str) -> Run:
        return Run(began, [Mark(began + at, "sends" if kind == CODE else kind, kind) for at, kind in enumerate(kinds)])

    usual = run(1.0, CODE, BROKER, HAND_OVER), run(5.0, CODE, BROKER, HAND_OVER)
    late = run(9.0, CODE, HAND_OVER, BROKER)
    parts = join([*usual, late])
    assert [part.kind for part in parts] == [CODE, BROKER, HAND_OVER]
    assert [part.seconds for part in parts] == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
    assert add_up(parts) == [2000.0, 2000.0]
    assert add_up(parts, HAND_OVER) == [1000.0, 1000.0]
    # Received before its publisher is told: nobody waited for the broker's word.
    assert [part.kind for part in join([late])] == [CODE, HAND_OVER]
    with pytest.raises(ValueError, match="no runs"):
        join([])
