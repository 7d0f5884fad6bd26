"""Code that blocks the loop is reported with its stack, once; a loop that turns is not."""

from __future__ import annotations

import asyncio
import logging
import random
import threading

import pytest

from infinitic.runtime.lifecycle.watchdog import Watchdog

PATIENCE = 10.0
"""Seconds after which a thread that has not ended hangs."""


class Seen(logging.Handler):
    """Sets an event when something is reported."""

    def __init__(self) -> None:
        super().__init__()
        self.reported = threading.Event()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.reported.set()


@pytest.fixture
def seen() -> Seen:
    return Seen()


def blocks(seen: Seen) -> None:
    while not any("in blocks" in text for text in seen.texts):
        assert seen.reported.wait(30)
        seen.reported.clear()


def test_code_that_blocks_the_loop_is_reported_once_with_its_stack(seen: Seen) -> None:
    async def main() -> None:
        watchdog = Watchdog(limit=0.02)
        watchdog.start()
        blocks(seen)
        watchdog.stop()

    logger = logging.getLogger("infinitic.worker")
    logger.addHandler(seen)
    try:
        asyncio.run(main())
    finally:
        logger.removeHandler(seen)
    assert sum("in blocks" in text for text in seen.texts) == 1


def test_a_loop_that_turns_is_not_reported_and_the_thread_ends(seen: Seen) -> None:
    async def main() -> None:
        watchdog = Watchdog(limit=30)
        watchdog.start()
        await asyncio.sleep(0)
        watchdog.stop()

    asyncio.run(main())
    assert seen.texts == []
    assert not [thread for thread in threading.enumerate() if thread.name == "infinitic watchdog"]


def test_it_ends_whatever_it_is_doing_when_it_is_stopped() -> None:
    """Ending must not wait for a turn of the loop, because the loop waits for it."""

    async def main() -> None:
        loop, chance = asyncio.get_running_loop(), random.Random(1)
        for _ in range(1000):
            watchdog = Watchdog(limit=0.0004)
            watchdog.start()
            ends = loop.time() + chance.uniform(0.0, 0.0006)
            while loop.time() < ends:  # noqa: ASYNC110 (it must turn meanwhile)
                await asyncio.sleep(0)
            stopper = threading.Thread(target=watchdog.stop, daemon=True)
            stopper.start()
            stopper.join(PATIENCE)
            assert not stopper.is_alive()

    asyncio.run(main())
