"""Waiting for something that is down: longer each time, said once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from infinitic.storage import StorageUnavailable
from infinitic.transport import TransportUnavailable

T = TypeVar("T")

_logger = logging.getLogger("infinitic.runtime")

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0


def delay_of(tries: int) -> float:
    """Seconds to wait after this many tries (from 1) have failed."""
    return float(min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(tries - 1, 10)))


async def insist(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Call until broker and database are there again. Other errors are raised at once."""
    tries = 0
    while True:
        try:
            result = await call()
        except (TransportUnavailable, StorageUnavailable) as error:
            tries += 1
            if tries == 1:
                _logger.warning("%s: %s; trying again until it works", what, error)
            await asyncio.sleep(delay_of(tries))
        else:
            if tries:
                _logger.warning("%s: works again after %d failed tries", what, tries)
            return result
