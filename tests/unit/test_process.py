"""A worker changes its process while it runs, and gives back what the application had."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from infinitic import Worker
from infinitic_transports.memory import InMemoryTransport

PATIENCE = 60.0


class Nothing:
    async def work(self) -> str:
        return ""


def worker() -> Worker:
    made = Worker(InMemoryTransport())
    made.add_service(Nothing())
    return made


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Whatever a test does, the process of the tests is as before."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    thresholds = gc.get_threshold()
    gc.unfreeze()  # Python 3.12 starts with frozen objects, and other tests of this process may have left theirs
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gc.set_threshold(*thresholds)
    gc.unfreeze()


async def run_until_told(*workers: Worker) -> None:
    """Run them until a signal has come, sent once all are ready."""
    ready = [asyncio.Event() for _ in workers]
    running = [asyncio.ensure_future(each.run(on_ready=event.set)) for each, event in zip(workers, ready, strict=True)]
    for event in ready:
        await event.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(asyncio.gather(*running), PATIENCE)


def test_the_handlers_of_the_application_are_given_back() -> None:
    heard = list[int]()

    def mine(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    async def main() -> None:
        signal.signal(signal.SIGTERM, mine)
        before = signal.getsignal(signal.SIGINT)
        await run_until_told(worker())
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is before
        assert heard == [], "while it runs, the signal is the worker's"
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        assert heard == [signal.SIGTERM]

    asyncio.run(main())


def test_what_was_told_to_the_loop_is_given_back_too() -> None:
    async def main() -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.set)
        await run_until_told(worker())
        assert not heard.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(heard.wait(), PATIENCE)

    asyncio.run(main())


def test_a_signal_stops_all_workers_of_a_process_and_then_all_is_as_before() -> None:
    def mine(number: int, frame: FrameType | None) -> None:
        raise AssertionError("not while a worker runs")

    async def main() -> None:
        signal.signal(signal.SIGTERM, mine)
        thresholds = gc.get_threshold()
        await run_until_told(worker(), worker(), worker())
        assert signal.getsignal(signal.SIGTERM) is mine
        assert gc.get_threshold() == thresholds
        assert gc.get_freeze_count() == 0

    asyncio.run(main())


def test_one_worker_that_ends_takes_nothing_from_another_one() -> None:
    async def main() -> None:
        first, second = worker(), worker()
        ready, both = asyncio.Event(), asyncio.Event()
        short = asyncio.ensure_future(first.run(on_ready=ready.set))
        long = asyncio.ensure_future(second.run(on_ready=both.set))
        await ready.wait()
        await both.wait()
        short.cancel()
        await asyncio.gather(short, return_exceptions=True)
        assert gc.get_freeze_count() > 0
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(long, PATIENCE)
        assert gc.get_freeze_count() == 0

    asyncio.run(main())


def test_what_the_application_has_frozen_stays_frozen_and_its_thresholds_stay() -> None:
    async def main() -> None:
        gc.freeze()
        frozen = gc.get_freeze_count()
        gc.set_threshold(1234, 5, 6)
        await run_until_told(worker())
        assert gc.get_freeze_count() > frozen // 2, "some of it is gone, as things go"
        assert gc.get_threshold() == (1234, 5, 6)

    asyncio.run(main())


def test_thresholds_that_are_set_while_it_runs_stay() -> None:
    async def main() -> None:
        ready = asyncio.Event()
        running = asyncio.ensure_future(worker().run(on_ready=ready.set))
        await ready.wait()
        gc.set_threshold(4321, 5, 6)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, PATIENCE)
        assert gc.get_threshold() == (4321, 5, 6)

    asyncio.run(main())
