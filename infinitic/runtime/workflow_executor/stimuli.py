"""The stimuli of an activation that are too large for a message. An executor reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from infinitic.messages.events import Activated, Event, RunStarted, Stimulus
from infinitic.messages.executor import Activate
from infinitic.runtime.history import decode_events
from infinitic.storage import StateKey, StateStorage

PAGE = 8
BATCH_BYTES = 8 * 1024 * 1024
"""How many bytes of segments one activation hands over. The rest is left to the next one."""


class Place(NamedTuple):
    """A place in a history: in the segment `sequence`, after so many of its stimuli."""

    sequence: int
    stimuli: int


class Unread(NamedTuple):
    """Stimuli that were read for an activation and left to the next one, which reads on from `end`.

    `size` is how many bytes of history they have.
    """

    stimuli: Sequence[Stimulus]
    end: Place
    size: int


class Opened(NamedTuple):
    """An activation: when, what it hands over, how, and whether more waits behind that.

    `size` is how many bytes of history were read for it, up to `end`; None: nobody has kept where
    that is.
    """

    at: float
    stimuli: Sequence[Stimulus]
    each: bool
    more: bool
    size: int = 0
    end: Place | None = None

    def find_unread(self, handed: int, before: int) -> Unread | None:
        """What is left when the first ones were handed over.

        `before` is how many bytes had been left to this one.
        """
        if self.end is None:
            return None
        rest = self.stimuli[handed:]
        return Unread(rest, self.end, (self.size + before) * len(rest) // max(len(self.stimuli), 1))


def find_begin(happened: Sequence[Event]) -> int:
    """Find where the last run in a segment begins; 0 if none does."""
    return max((index for index, event in enumerate(happened) if isinstance(event, RunStarted)), default=0)


async def read_stimuli(
    states: StateStorage, key: StateKey, message: Activate, unread: Unread | None = None
) -> Opened | None:
    """Read the stimuli of this activation from the history. None if the history does not hold it.

    If they must be handed over at once, it reads all of them. `unread` is what the activation
    before has left, if the caller has kept it: else everything is read again. Raises
    `DamagedState`.
    """
    if unread is None:
        found, size, after, skip = list[Stimulus](), 0, message.first - 1, message.skip
    else:
        found, size, after, skip = [*unread.stimuli], unread.size, unread.end.sequence - 1, unread.end.stimuli
    read = 0
    while after < message.sequence:
        page = await states.history(key, after=after, limit=min(PAGE, message.sequence - after))
        for segment in page:
            read += len(segment.events)
            passed = 0
            happened = decode_events(key, segment)
            # What comes before the begin of a run is of the run before, also its activations.
            begin = find_begin(happened) if segment.sequence == message.base else 0
            for index, event in enumerate(happened):
                if isinstance(event, Activated):
                    if event.number == message.activation and index >= begin:
                        end = Place(segment.sequence, passed)
                        return Opened(event.at, found, event.each, more=False, size=read, end=end)
                elif isinstance(event, Stimulus):
                    if skip:
                        skip -= 1
                    elif message.each and size > BATCH_BYTES:
                        end = Place(segment.sequence, passed)
                        return Opened(message.at, found, each=True, more=True, size=read, end=end)
                    else:
                        found.append(event)
                    passed += 1
            if found:
                size += len(segment.events)
        if not page:
            return None
        after = page[-1].sequence
    return None
