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
"""For how long something is tried again that a broker refuses though it can be reached."""

STABLE_SECONDS = 60.0
"""A consumer that is lost sooner than this after it joined is replaced later each time."""


def compute_delay(tries: int, longest: float = LONGEST_SECONDS) -> float:
    """The seconds to wait before the next try: 0.1, 0.2, 0.4 and so on.

    Args:
        tries: how many tries have failed, 1 or more.
        longest: the longest wait, in seconds.
    """
    return float(min(longest, FIRST_SECONDS * 2 ** min(tries - 1, 10)))


async def retry_while_unavailable(what: str, call: Callable[[], Awaitable[T]], *, patience: float = math.inf) -> T:
    """Call until broker, database and payload codec can be reached again, with backoff.

    The first failure is logged, and the success after it.

    Args:
        what: what is done, for the log.
        call: does it. It is called once in the normal case.
        patience: seconds after which a failure is raised.

    Raises:
        TransportUnavailable: after `patience`; so are `StorageUnavailable` and
            `PayloadUnavailable`.
        Exception: any other error, at once.

    Example::

        await retry_while_unavailable("Declaring orders", lambda: transport.declare([topic]))
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
            await asyncio.sleep(compute_delay(tries))
        else:
            if tries:
                _logger.warning("%s: works again after %d failed tries", what, tries)
            return result


async def retry_while_refused(what: str, call: Callable[[], Awaitable[T]], *, seconds: float = REFUSED_SECONDS) -> T:
    """Call until the broker, which can be reached, no longer refuses it.

    Args:
        what: what is done, for the log.
        call: does it. It waits by itself for a broker that is away.
        seconds: how long a refusal is tried again.

    Raises:
        TransportError: what the broker still refuses after that time. `TransportClosed`,
            `MessageTooLarge` and `UnsupportedCapability` are raised at once: trying again does not
            help.
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
        await asyncio.sleep(compute_delay(tries))


class Losses:
    """Counts how often a consumer was lost soon after it had joined, to join later each time."""

    def __init__(self) -> None:
        self._count = 0
        self._joined_at = -math.inf

    def note_joined(self) -> None:
        """Note that a consumer has joined now."""
        self._joined_at = asyncio.get_running_loop().time()

    def note_lost(self) -> float:
        """Note that it is lost. Returns the seconds to wait before it is replaced."""
        lived = asyncio.get_running_loop().time() - self._joined_at
        self._count = self._count + 1 if lived < STABLE_SECONDS else 0
        return compute_delay(self._count - 1) if self._count > 1 else 0.0
