"""Waiting for something that is down: longer each time, said once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from infinitic.errors import PayloadUnavailable, TransportError
from infinitic.storage import StorageUnavailable
from infinitic.transport import MessageTooLarge, TransportClosed, TransportUnavailable, UnsupportedCapability

T = TypeVar("T")

_logger = logging.getLogger("infinitic.runtime")

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0
REFUSED_SECONDS = 60.0
"""For how long something is tried that the broker refuses, though it is there: a right that is missing, say."""

STABLE_SECONDS = 60.0
"""A consumer that is lost sooner after it joined is replaced later each time."""


def delay_of(tries: int, longest: float = LONGEST_SECONDS) -> float:
    """Seconds to wait after this many tries (from 1) have failed, at most `longest`."""
    return float(min(longest, FIRST_SECONDS * 2 ** min(tries - 1, 10)))


async def retry_while_unavailable(what: str, call: Callable[[], Awaitable[T]], *, patience: float = math.inf) -> T:
    """Call until broker, database and payload codec are there again. Other errors are raised at once.

    `patience` is in seconds: an error after that is raised.
    """
    tries = 0
    time = asyncio.get_running_loop().time
    ends = time() + patience
    while True:
        try:
            result = await call()
        except (TransportUnavailable, StorageUnavailable, PayloadUnavailable) as error:
            if time() >= ends:
                raise
            tries += 1
            if tries == 1:
                _logger.warning("%s: %s; trying again until it works", what, error)
            await asyncio.sleep(delay_of(tries))
        else:
            if tries:
                _logger.warning("%s: works again after %d failed tries", what, tries)
            return result


async def retry_while_refused(what: str, call: Callable[[], Awaitable[T]], *, seconds: float = REFUSED_SECONDS) -> T:
    """Call until the broker, which is there, refuses it no more.

    Args:
        what: what is done, for the log.
        call: does it, and waits by itself for a broker that is away.
        seconds: how long a refusal is tried again.

    Raises:
        TransportError: what the broker still refuses after that time. `TransportClosed`,
            `MessageTooLarge` and `UnsupportedCapability` are raised at once: trying again does not help.
    """
    tries = 0
    time = asyncio.get_running_loop().time
    ends = math.inf
    while True:
        try:
            return await call()
        except (TransportClosed, MessageTooLarge, UnsupportedCapability):
            raise
        except TransportError as error:
            tries += 1
            if tries == 1:
                ends = time() + seconds
                _logger.warning("%s: %s; trying again", what, error)
            if time() >= ends:
                raise
        await asyncio.sleep(delay_of(tries))


class Losses:
    """Counts how often a consumer was lost soon after it had joined: the next one is to come later each time."""

    def __init__(self) -> None:
        self._count = 0
        self._joined_at = -math.inf

    def joined(self) -> None:
        """A consumer has joined now."""
        self._joined_at = asyncio.get_running_loop().time()

    def lost(self) -> float:
        """It is lost. Returns the seconds to wait before it is replaced."""
        lived = asyncio.get_running_loop().time() - self._joined_at
        self._count = self._count + 1 if lived < STABLE_SECONDS else 0
        return delay_of(self._count - 1) if self._count > 1 else 0.0
