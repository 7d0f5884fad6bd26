"""Bugs in what is recorded, and in how an instance is made again of its history."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any

from msgspec.structs import replace

from infinitic.messages import events
from infinitic.messages.commands import CancelPosition, RecordInline, RecordPatch
from infinitic.messages.events import AttemptError, Event
from infinitic.replay import history
from infinitic.replay.instance import Instance
from infinitic.runtime.state_engine import activation, deciding
from tests.simulation.planted.planting import Part, Planter, bug

REPLAY = "replay"


def _leave_out(planter: Planter, kind: type[Event]) -> None:
    @planter.wrap(events, "encode")
    def encode(original: Part, happened: list[Event]) -> bytes:
        encoded: bytes = original([each for each in happened if not isinstance(each, kind)])
        return encoded


@bug(REPLAY)
def inline_results_not_recorded(planter: Planter) -> None:
    """The history has a hole where an inline call was."""
    _leave_out(planter, RecordInline)


@bug(REPLAY)
def changes_not_recorded(planter: Planter) -> None:
    """The history does not tell that an instance has taken a change of its code."""
    _leave_out(planter, RecordPatch)


@bug(REPLAY)
def cancelled_positions_not_recorded(planter: Planter) -> None:
    """The history does not tell that the code has cancelled a task or timer."""
    _leave_out(planter, CancelPosition)


@bug(REPLAY)
def failed_attempts_not_recorded(planter: Planter) -> None:
    """The history does not hold why an attempt failed."""
    _leave_out(planter, AttemptError)


@bug(REPLAY)
def stimuli_recorded_as_handed_over_at_once(planter: Planter) -> None:
    """Stimuli are handed over one by one, and all at once in replay."""

    @planter.wrap(activation, "begin")
    def begin(original: Part, head: Any, now: float, *, each: bool) -> Any:
        return replace(original(head, now, each=each), each=False)


@bug(REPLAY)
def waiting_stimuli_lost_in_replay(planter: Planter) -> None:
    """An instance that is made again of its history is not handed what it had not seen yet."""

    @planter.wrap(deciding, "revive")
    async def revive(original: Part, instance: Any, *args: Any) -> None:
        await original(instance, *args)
        instance.pending = []


@bug(REPLAY)
def random_numbers_differ_in_replay(planter: Planter) -> None:
    """The random numbers of a workflow are others when it is replayed."""
    numbers = count()

    @planter.wrap(Instance, "__init__")
    def init(original: Part, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._random = Random(next(numbers))


@bug(REPLAY)
def stimuli_reversed_in_replay(planter: Planter) -> None:
    """The stimuli of an activation are replayed in another order than they came in."""

    @planter.wrap(history.Replay, "_flush")
    def flush(original: Part, self: Any) -> None:
        self._stimuli = self._stimuli[::-1]
        original(self)
