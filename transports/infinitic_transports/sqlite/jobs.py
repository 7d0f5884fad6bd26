"""A job of the writer: a function that waits for its turn, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from infinitic_transports.sqlite.turn import Turn

_logger = logging.getLogger("infinitic.transport")

T = TypeVar("T")


class WriterJob(Generic[T]):
    """A function that waits for its turn. Without a future it is run until it succeeds."""

    __slots__ = ("failure", "future", "result", "size", "work")

    def __init__(self, work: Callable[[Turn], T], future: asyncio.Future[T] | None, size: int) -> None:
        self.work = work
        self.future = future
        self.size = size
        self.result: T | None = None
        self.failure: BaseException | None = None

    def settle(self, failure: BaseException | None = None) -> None:
        """Tell the caller what came of it."""
        failure = failure or self.failure
        future = self.future
        if future is None:
            if failure is not None:
                _logger.warning("A change of the broker's file was given up: %s", failure)
        elif not future.done():
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(cast(T, self.result))


class BadJobError(Exception):
    """A job of this turn has failed. What was written has to be undone."""
