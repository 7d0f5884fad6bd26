"""S7: how many messages an executor with batches takes: for `concurrency` batches, and not more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infinitic import batch, service
from infinitic.definitions.service_contract import implementation_of
from infinitic.runtime.service_executor.batching import (
    FIRST_MESSAGES,
    IN_HAND_BYTES,
    choose_prefetch,
    find_batch_methods,
)
from tests.unit.scripted import ScriptedTransport, delivery, request
from tests.unit.test_batch_executor import Log, check_empty, deliver, make_desk
from tests.unit.test_service_executor import Bench, played


def test_other_tasks_of_the_service_run_beside_an_open_batch() -> None:
    """A batch is one of two things in hand. Tasks without batches are taken, but not too many."""
    log = Log(10.0)
    bench = Bench(ScriptedTransport(), make_desk(log, max_seconds=5.0), concurrency=2)

    async def scenario() -> None:
        alone = deliver(*"123456789", first=10, task="write")
        await bench.give(*deliver("a"), *alone, *deliver("b", first=1))
        assert log.calls == [["1"], ["2"]]
        assert bench.consumer.waiting.qsize() >= 4
        await asyncio.sleep(100.0)
        assert sorted(text for call in log.calls for text in call) == [*"123456789", "a", "b"]
        check_empty(bench)

    played(bench, scenario)


def test_with_many_keys_only_so_many_batches_are_open() -> None:
    log = Log(10.0)
    bench = Bench(ScriptedTransport(), make_desk(log, max_seconds=5.0), concurrency=2)

    async def scenario() -> None:
        given = [
            delivery(request([str(number)], position=number, meta={"batch_key": str(number).encode()}))
            for number in range(40)
        ]
        await bench.give(*given)
        assert bench.executor.count_held()["batches"] < 10
        await asyncio.sleep(1000.0)
        assert sorted(log.calls) == sorted([str(number)] for number in range(40))
        check_empty(bench)

    played(bench, scenario)


def test_batches_of_two_tasks_with_different_limits_are_taken_by_the_smaller_one() -> None:
    """A worker with one place took a hundred batches of the other task."""
    log = Log(10.0)

    @service(name="Desk")
    class Desk:
        async def work(self, text: str) -> str:
            raise NotImplementedError

        async def write(self, text: str) -> str:
            raise NotImplementedError

        @batch("work", max_messages=2)
        async def work_all(self, texts: dict[str, str]) -> Any:
            return await log(texts)

        @batch("write", max_messages=100)
        async def write_all(self, texts: dict[str, str]) -> Any:
            return await log(texts)

    bench = Bench(ScriptedTransport(), Desk(), concurrency=1)

    async def scenario() -> None:
        await bench.give(*deliver(*"abcdef"))
        assert log.calls == [["a", "b"]]
        assert bench.consumer.waiting.qsize() == 4
        await asyncio.sleep(40.0)
        await bench.give(*deliver(*"uvwxyz", first=10, task="write"))
        await asyncio.sleep(2.0)
        assert log.calls[1:] == [["c", "d"], ["e", "f"], ["u", "v", "w", "x", "y", "z"]]

    played(bench, scenario)


def test_so_many_messages_are_in_hand_at_most() -> None:
    """S7: 10,000, and what fits into 64 MiB."""
    log = Log(1000.0)
    bench = Bench(ScriptedTransport(), make_desk(log, max_messages=1000, max_seconds=1.0))

    async def scenario() -> None:
        size = 1_000_000
        await bench.give(*deliver(*("x" * size for _ in range(200))))
        held = bench.executor.count_held()["bytes of batches"]
        assert IN_HAND_BYTES - size < held < IN_HAND_BYTES + FIRST_MESSAGES * size
        assert bench.consumer.waiting.qsize() > 30
        assert all(len(call) <= 4 for call in log.calls)

    played(bench, scenario)


@pytest.mark.parametrize(
    ("most", "concurrency", "prefetch"),
    [(1, 100, 200), (10, 100, 2000), (1000, 100, 10_000), (1000, 1, 2000), (10_000, 1, 10_000), (5, 6000, 12_000)],
)
def test_the_prefetch_grows_with_batches_up_to_ten_thousand(most: int, concurrency: int, prefetch: int) -> None:
    methods = find_batch_methods(implementation_of(make_desk(Log(), max_messages=most)))
    assert choose_prefetch(methods, concurrency) == prefetch
    assert choose_prefetch({}, concurrency) == 2 * concurrency
