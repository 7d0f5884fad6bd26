"""Histories, read and compared: what replay must come to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from infinitic.engines import state
from infinitic.messages import events
from infinitic.replay.history import cut_to_run
from infinitic.replay.instance import Instance
from infinitic.storage import Query, Segment, StateKey
from infinitic_testing.simulation import Simulation

_RANDOM_ID = re.compile(rb"\b[0-9a-f]{32}\b")
_ADDRESS = re.compile(rb"\b0x[0-9a-f]+\b")


async def keys_of(sim: Simulation) -> list[StateKey]:
    """The keys of all instances, in order."""
    found = (await sim.storage.states.find(Query(limit=10_000))).found
    return sorted((each.key for each in found), key=lambda key: (key.name, key.id))


async def read_segments(sim: Simulation, key: StateKey) -> list[Segment]:
    """The segments of an instance that are there. Those of earlier runs go little by little."""
    stored = (await sim.storage.states.load([key]))[key]
    first = state.decode(stored.head).first
    return await sim.storage.states.history(key, after=max(first - 1, 0), limit=1_000_000)


async def read_history(sim: Simulation, key: StateKey) -> list[bytes]:
    """The history of an instance, segment by segment, to compare it with another one."""
    numbers: dict[bytes, bytes] = {}
    segments = await read_segments(sim, key)
    return [_normal(segment.events, numbers) for segment in segments]


def _normal(data: bytes, numbers: dict[bytes, bytes]) -> bytes:
    """A history that can be compared.

    Random ids of later method calls are numbered in order, addresses in texts left out.
    """

    def number(found: re.Match[bytes]) -> bytes:
        return numbers.setdefault(found.group(), b"#%d" % len(numbers))

    return _RANDOM_ID.sub(number, _ADDRESS.sub(b"0x", data))


async def run_again(sim: Simulation, key: StateKey) -> None:
    """Give a fresh instance what history holds.

    It must ask for the same, down to the arguments and results.
    """
    (spec,) = sim.worker.workflow_specs(key.name).values()
    segments = await read_segments(sim, key)
    history = cut_to_run([event for segment in segments for event in events.decode(segment.events)])
    run = next((event.run for event in history if isinstance(event, events.RunStarted)), 0)
    instance = Instance(spec, key.id, {}, run)
    stimuli, opened, recorded = list[Any](), list[Any](), list[Any]()
    activated: events.Activated | None = None

    def activate() -> None:
        if activated is not None:
            asked = instance.activate(activated.at, opened, each=activated.each)
            assert _encode(asked) == _encode(recorded), f"{key} run again asks for other things"

    for event in history:
        if isinstance(event, events.Activated):
            activate()
            activated, opened, stimuli, recorded = event, stimuli, [], []
        elif isinstance(event, get_args(events.Stimulus)):
            stimuli.append(event)
        elif not isinstance(event, events.AttemptError | events.RunStarted):
            recorded.append(event)
    activate()
    instance.close()


def _encode(commands: Sequence[events.Event]) -> bytes:
    return _normal(events.encode(commands), {})


def stimuli_of(history: Sequence[bytes]) -> list[events.Event]:
    """What happened to an instance, and when it was resumed."""
    happened = (*get_args(events.Stimulus), events.Activated)
    return [event for segment in history for event in events.decode(segment) if isinstance(event, happened)]
