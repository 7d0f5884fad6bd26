"""The services of the scenarios. What their tasks return depends on their arguments alone.

A task may run more than once, and on any worker. So `Ledger` counts by the id of the task, which
is the same in every attempt and every duplicate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import count

from infinitic import ExponentialBackoff, task, task_context

OFTEN = ExponentialBackoff(minimum_seconds=0.1, maximum_seconds=5.0, maximum_retries=10_000)
"""So many retries that no fault can use them up."""

VERY_LONG = 40_000.0
"""Seconds. No fault delays anything for so long."""

KEPT = timedelta(days=30)
"""The retention of workflows whose results are asked for long after their end."""


class _Draws:
    numbers = count(1)


def draw() -> int:
    """Draw a number that is another one each time. Workflows do it inline."""
    return next(_Draws.numbers)


def begin_draws() -> None:
    """Begin with 1 again, so that all runs of a scenario are alike."""
    _Draws.numbers = count(1)


class Office:
    """Tasks that add, stumble, fail, hang or take a while."""

    async def add(self, x: int, y: int) -> int:
        return x + y

    async def multiply_slowly(self, x: int, y: int) -> int:
        await asyncio.sleep(0.2)
        return x * y

    def multiply(self, x: int, y: int) -> int:
        return x * y

    async def wait(self, value: int, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return value

    async def echo(self, text: str) -> str:
        return text

    async def repeat(self, text: str, times: int) -> str:
        return text * times

    @task(retry=ExponentialBackoff(minimum_seconds=0.5, random_factor=0.5, maximum_retries=20))
    async def stumble(self, value: int, times: int) -> int:
        """Fail so often, and then succeed."""
        if task_context().retry_index < times:
            raise ConnectionError(f"attempt {task_context().retry_index}")
        return value

    async def fail(self, value: int) -> int:
        raise LookupError(f"no {value}")

    @task(retry=lambda index, error: 0.0 if index < 2 else None)
    async def fail_thrice(self, value: int) -> int:
        raise LookupError(f"still no {value}")

    @task(retry=lambda index, error: 0.0 if index < 10 else 2.0)
    async def fail_for_ever(self, value: int) -> int:
        """Fail after a moment. The first attempts are tried again at once."""
        await asyncio.sleep(0.005)
        raise ConnectionError(f"never {value}")

    @task(retry=OFTEN, attempt_timeout=0.5)
    async def hang(self, value: int, times: int) -> int:
        """Hang in the first attempts until the attempt times out, and then succeed."""
        if task_context().retry_index < times:
            await asyncio.sleep(3600.0)
        return value

    @task(retry=OFTEN, attempt_timeout=0.5)
    async def leave_late(self, value: int, seconds: float) -> int:
        """Hang once. The attempt that is cancelled needs time to end."""
        if task_context().retry_index == 0:
            try:
                await asyncio.sleep(3600.0)
            finally:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(seconds)
        return value

    @task(total_timeout=5.0)
    async def never_end(self, value: int) -> int:
        await asyncio.sleep(VERY_LONG)
        return value

    @task(retry=lambda index, error: 1000.0, total_timeout=5.0)
    async def back_off(self, value: int) -> int:
        """Fail each time, and ask for a retry that comes after the total timeout."""
        raise ConnectionError(f"no {value}")

    @task(retry=lambda index, error: VERY_LONG)
    async def back_off_long(self, value: int) -> int:
        """Fail each time, and ask for a retry that comes after any total timeout."""
        raise ConnectionError(f"no {value}")


class Ledger:
    """Remembers which tasks ran, by what they booked.

    Attributes:
        tasks: for each entry the ids of the tasks that booked it. A second id means that the
            workflow asked for the entry twice.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, set[str]] = {}

    async def book(self, entry: str) -> str:
        self.tasks.setdefault(entry, set()).add(task_context().task_id)
        return entry

    def count(self, entry: str) -> int:
        """Return how many tasks booked an entry."""
        return len(self.tasks.get(entry, ()))


async def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds. It is looked at twice a second, in virtual time.

    Args:
        condition: is called again and again.

    Raises:
        TimeoutError: it does not hold for a very long time.
    """
    async with asyncio.timeout(VERY_LONG):
        # What makes it true is on the other side of broker and worker, and sets no event.
        while not condition():  # noqa: ASYNC110 (see above)
            await asyncio.sleep(0.5)
