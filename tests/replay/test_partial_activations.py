"""Activations that were handed a part of what waits: which part that is in a replay (S19)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest
from msgspec import Raw

from infinitic.errors import ExceptionDetail, TaskFailure
from infinitic.messages import events
from infinitic.messages.commands import Command, ScheduleTask
from infinitic.messages.events import Event, Stimulus
from infinitic.messages.executor import Activate
from infinitic.replay.history import Replay
from infinitic.replay.undone import Undone
from infinitic.runtime.workflow_executor.stimuli import Opened, Place, Unread, read_stimuli
from infinitic.storage import Change, Segment, StateKey
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.loop import run

START = events.MethodStarted("w", "book", Raw(b"[]"))
FAILURE = TaskFailure(ExceptionDetail("builtins.ValueError", "no"))
WORDS = [events.SignalReceived("words", Raw(b"%d" % number)) for number in range(4)]


class Handed:
    """What is fed to an instance, instead of the instance."""

    def __init__(self) -> None:
        self.stimuli = list[list[Stimulus]]()

    def activate(self, at: float, stimuli: Sequence[Stimulus], recorded: deque[Command], /, *, each: bool) -> None:
        recorded.clear()
        self.stimuli.append([*stimuli])

    def note_start(self, started: events.Started, /) -> None:
        """It has no tags."""

    def pass_over(self) -> None:
        """No activation is run again."""

    def note_reopened(self, reopened: events.Reopened, /) -> None:
        """It has no children."""


@pytest.mark.parametrize("before", [0, 1, 2])
def test_S34_a_failure_that_nobody_was_handed_does_not_count_once_it_is_undone(before: int) -> None:
    """The activation after the re-opening was handed two of what was left without the failure."""
    failure = events.TaskError(0, FAILURE)
    waiting: list[Event] = [*WORDS[:before], failure, *WORDS[before:3]]
    reopened = events.Reopened(5.0, (events.ReopenedTask(0, 1),))
    history: list[Event] = [
        START,
        events.Activated(1, 1.0),
        ScheduleTask(0, "Office", "work", Raw(b"[]")),
        *waiting,
        reopened,
        WORDS[3],
        events.Activated(2, 6.0, each=True),
        events.Partial(2),
        events.Activated(3, 6.0, each=True),
    ]
    handed = Handed()
    replay = Replay(handed, Undone([reopened]))
    for event in history:
        replay.feed([event])
    replay.finish(unanswered=False)
    assert handed.stimuli == [[START], WORDS[:2], WORDS[2:]]
    assert replay.pending == []


def test_S20_an_executor_reads_on_behind_the_begin_of_a_run() -> None:
    """The run before has ended in an activation that has the same number."""
    key = StateKey("Trip", "w")
    base: list[Event] = [
        WORDS[0],
        events.Activated(2, 1.0, each=False),
        events.RunStarted(1),
        START,
        *WORDS[1:3],
    ]
    later: list[Event] = [WORDS[3], events.Activated(2, 7.0, each=True)]

    async def read(unread: Unread | None, skip: int) -> Opened | None:
        storage = InMemoryStorage()
        await storage.prepare()
        for sequence, happened in enumerate(([], base, later), 1):
            segment = Segment(sequence, events.encode(happened))
            await storage.states.commit([Change(key, sequence - 1 or None, sequence, b"", 1.0, segment)])
        message = Activate(activation=2, version=0, at=7.0, sequence=3, first=2, skip=skip, each=True, run=1, base=2)
        return await read_stimuli(storage.states, key, message, unread)

    opened = run(read(None, 2))
    assert opened is not None
    assert (opened.at, opened.stimuli, opened.each, opened.more) == (7.0, WORDS[1:], True, False)
    # The activation before has handed over the start, and has left a word that it had read.
    opened = run(read(Unread([WORDS[1]], Place(2, 3), 100), 2))
    assert opened is not None
    assert (opened.at, opened.stimuli) == (7.0, WORDS[1:])
