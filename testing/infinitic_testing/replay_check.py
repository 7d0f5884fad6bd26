"""Replays an instance in the ways in which production may: whole, and after an eviction.

A test may pass although its workflow does not repeat its history, because the instance stayed in
memory. So each history is replayed by fresh objects, from the bytes that are stored:

1. The first half alone. Then the object is closed, as an eviction from the cache does. This runs
   the `finally` blocks of the code.
2. All of it, as a worker does that has not the instance in memory, and as the executor of a split
   worker does.

Each command must be the same as in the first run, with its arguments, times and results. This is
stricter than in production, because the code has not changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from infinitic.codec.release_0_1 import is_same_call
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.definitions.workflows import ReplayCheck
from infinitic.engines.state import WorkflowHead
from infinitic.messages.commands import (
    CallRemote,
    Command,
    CompleteMethod,
    FailMethod,
    ScheduleTask,
    SignalRemote,
    StartChild,
    StartTimer,
)
from infinitic.messages.events import Activated, Event
from infinitic.replay.divergence import is_same_remote
from infinitic.replay.history import Replay, cut_to_run
from infinitic.replay.instance import Instance
from infinitic.replay.undone import Undone, find_undone
from infinitic.runtime.history import HistoryCheck, decode_events
from infinitic.storage import DamagedState, Segment, StateKey


class StrictComparison:
    """Compares all of each command. It is a `ReplayWatcher`.

    Attributes:
        lines: for each command the line of the user's code that asked for it, if they are wanted.
    """

    def __init__(self, check: ReplayCheck, *, find_lines: bool = False) -> None:
        self.lines: list[str | None] = []
        self._check = check
        self._find_lines = find_lines

    def watch(self, recorded: Command, requested: Command, find_line: Callable[[], str | None]) -> bool:
        if self._find_lines:
            self.lines.append(find_line())
        return self._check is ReplayCheck.NONE or _is_equal(recorded, requested)

    def find_recorded_line(self, *, is_next: bool) -> str | None:
        return None


def _is_equal(recorded: Command, requested: Command) -> bool:
    match recorded, requested:
        case ScheduleTask(), ScheduleTask():
            return is_same_call(bytes(recorded.arguments), bytes(requested.arguments))
        case StartTimer(), StartTimer():
            return recorded.due == requested.due
        case StartChild() | CallRemote() | SignalRemote(), StartChild() | CallRemote() | SignalRemote():
            return type(recorded) is type(requested) and is_same_remote(recorded, requested, arguments=True)
        case CompleteMethod(), CompleteMethod():
            return bytes(recorded.value) == bytes(requested.value)
        case FailMethod(), FailMethod():
            # Messages may contain addresses of objects.
            return recorded.failure.exception.name == requested.failure.exception.name
        case _:
            return type(recorded) is type(requested)


def check_replay(
    key: StateKey, head: WorkflowHead, segments: Sequence[Segment], spec: WorkflowSpec, *, find_lines: bool = False
) -> tuple[list[Event], list[str | None]]:
    """Replay an instance: first a part of it, then all.

    Args:
        key: the instance.
        head: its head.
        segments: its whole history.
        spec: its code.
        find_lines: whether the lines of the user's code are wanted.

    Returns:
        The history, and for each command in it the line that asked for it.

    Raises:
        NonDeterminismError: the code asks for something else than the history holds.
        WorkflowCodeError: the code cannot be run.
        DamagedState: the history has a gap.
    """
    check = HistoryCheck(key)
    happened: list[Sequence[Event]] = []
    # Earlier runs may be gone, in part.
    segments = [segment for segment in segments if segment.sequence >= head.base]
    for number, segment in enumerate(segments, max(head.base, 1)):
        if segment.sequence != number:
            raise DamagedState(key, f"Segment {number}", "it is missing")
        events: Sequence[Event] = decode_events(key, segment)
        if number == head.base:
            events = cut_to_run(events)
        check.follow(segment, events)
        happened.append(events)
    last = max(head.base - 1, 0) + len(segments)
    if head.sequence != last:
        raise DamagedState(key, f"Segment {last + 1}", "it is missing")
    check.finish(head)
    history = [event for events in happened for event in events]
    run = cut_to_run(history)
    if check.activation > 1:
        half = _cut(run, check.activation // 2)
        # What is undone later counts here as well: the code may have been mended since then.
        _run(head, spec, half, StrictComparison(spec.check), find_undone(run), unanswered=False)
    comparison = StrictComparison(spec.check, find_lines=find_lines)
    _run(head, spec, run, comparison, find_undone(run), unanswered=head.deciding != 0)
    return history, comparison.lines


def _cut(history: Sequence[Event], activations: int) -> list[Event]:
    """The history before the activation after so many."""
    found: list[Event] = []
    for event in history:
        if isinstance(event, Activated) and event.number > activations:
            break
        found.append(event)
    return found


def _run(
    head: WorkflowHead,
    spec: WorkflowSpec,
    history: Sequence[Event],
    watcher: StrictComparison,
    undone: Undone | None,
    *,
    unanswered: bool,
) -> None:
    instance = Instance(spec, head.id, head.meta, head.run, watcher=watcher)
    _feed(instance, history, undone, unanswered=unanswered)


def run_history(instance: Instance, history: Iterable[Event], *, unanswered: bool = False) -> None:
    """Run the code of an instance on a history, and close the instance.

    Args:
        instance: a new one.
        history: its whole history, or the first part of it.
        unanswered: see `Replay.finish`.

    Raises:
        NonDeterminismError: the code asks for something else than the history holds.
        WorkflowCodeError: the code cannot be run.
    """
    events = list(history)
    _feed(instance, events, find_undone(events), unanswered=unanswered)


def _feed(instance: Instance, history: Iterable[Event], undone: Undone | None, *, unanswered: bool) -> None:
    try:
        replay = Replay(instance, undone)
        replay.feed(history)
        replay.finish(unanswered=unanswered)
    finally:
        instance.close()
