"""Waiting for something that is down: longer each time, said once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from infinitic.errors import PayloadUnavailable
from infinitic.storage import StorageUnavailable
from infinitic.transport import TransportUnavailable

T = TypeVar("T")

_logger = logging.getLogger("infinitic.runtime")

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0


def delay_of(tries: int, longest: float = LONGEST_SECONDS) -> float:
    """Seconds to wait after this many tries (from 1) have failed, at most `longest`."""
    return float(min(longest, FIRST_SECONDS * 2 ** min(tries - 1, 10)))


async def insist(what: str, call: Callable[[], Awaitable[T]], *, patience: float = math.inf) -> T:
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
