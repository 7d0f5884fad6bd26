"""The stimuli of an activation that an executor reads from storage, because they are too large to travel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from infinitic.messages.events import Activated, Stimulus
from infinitic.messages.executor import Activate
from infinitic.runtime.revival import events_of
from infinitic.storage import StateKey, StateStorage

PAGE = 8
BATCH_BYTES = 8 * 1024 * 1024
"""Bytes of segments after which the rest is left to the next activation: an executor holds no more at a time."""


class Opened(NamedTuple):
    """An activation: when, what it hands over, how, and whether more waits behind that.

    `size` is how many bytes of history were read for it.
    """

    at: float
    stimuli: Sequence[Stimulus]
    each: bool
    more: bool
    size: int = 0


async def read_stimuli(states: StateStorage, key: StateKey, message: Activate) -> Opened | None:
    """What history holds for this activation, None if it does not hold it.

    All of it if it must be handed over at once. Raises `DamagedState`.
    """
    found = list[Stimulus]()
    after, skip, size, read = message.first - 1, message.skip, 0, 0
    while after < message.sequence:
        page = await states.history(key, after=after, limit=min(PAGE, message.sequence - after))
        for segment in page:
            read += len(segment.events)
            for event in events_of(key, segment):
                if isinstance(event, Activated):
                    if event.number == message.activation:
                        return Opened(event.at, found, event.each, more=False, size=read)
                elif isinstance(event, Stimulus):
                    if skip:
                        skip -= 1
                    elif message.each and size > BATCH_BYTES:
                        return Opened(message.at, found, each=True, more=True, size=read)
                    else:
                        found.append(event)
            if found:
                size += len(segment.events)
        if not page:
            return None
        after = page[-1].sequence
    return None
