"""How long a worker may take to end.

What does not end in that time is left as it is, and named in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

K = TypeVar("K")

_logger = logging.getLogger("infinitic.worker")

CLOSING_SECONDS = 3.0
"""The time after the grace period: to hand back what was cut, and to close connections."""

LEAST_SECONDS = 0.2
"""The least time that each part of the end has, even if others have used up the time."""

CANCELLING_SECONDS = 0.5
"""How long something that is cancelled may take to clean up."""


class Ending:
    """The time that is left for the end of a worker, once it has begun.

    Attributes:
        left: what did not end in time, for people.
    """

    def __init__(self) -> None:
        self.left: list[str] = []
        self._by: float | None = None

    def begin(self, grace: float) -> None:
        """Begin the end. A second call can only make it come earlier.

        Args:
            grace: seconds that running work has. The time to close connections comes on top.
        """
        by = asyncio.get_running_loop().time() + grace + CLOSING_SECONDS
        self._by = by if self._by is None else min(by, self._by)

    @property
    def seconds(self) -> float:
        """How many seconds are left."""
        time = asyncio.get_running_loop().time()
        return CLOSING_SECONDS if self._by is None else max(LEAST_SECONDS, self._by - time)

    def leave(self, what: str) -> None:
        """Note that something does not end, and say so in the log."""
        _logger.warning("Left as it is, since it does not end: %s", what)
        self.left.append(what)

    async def close(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        """Close something in the time that is left, or leave it as it is.

        Args:
            what: what is closed, for the log.
            call: closes it.

        Raises:
            Exception: what the call raises.
        """
        if await self.call_all({what: call}, self.seconds):
            self.leave(what)

    async def call_all(self, calls: Mapping[K, Callable[[], Awaitable[None]]], seconds: float) -> list[K]:
        """Make all calls at once, and cancel those that take too long.

        Args:
            calls: what to call, by any key.
            seconds: how long they may take.

        Returns:
            The keys of those that took too long.

        Raises:
            Exception: the first error, once the others have ended too. Further errors are logged.
        """
        if not calls:
            return []
        futures = {key: asyncio.ensure_future(call()) for key, call in calls.items()}
        late: list[K] = []
        try:
            await asyncio.wait(futures.values(), timeout=seconds)
            late = [key for key, future in futures.items() if not future.done()]
        finally:
            if not all(future.done() for future in futures.values()):
                for future in futures.values():
                    future.cancel()
                await asyncio.wait(futures.values(), timeout=CANCELLING_SECONDS)
            ended = [future for future in futures.values() if future.done() and not future.cancelled()]
            errors = [error for future in ended if (error := future.exception()) is not None]
            for error in errors[1:]:
                _logger.error("Something else failed at the end: %s", error, exc_info=error)
        if errors:
            raise errors[0]
        return late
