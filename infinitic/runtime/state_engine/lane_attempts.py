"""What was begun for the first messages of a lane: local tasks, and the step they are for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.effects import SendTask
from infinitic.limits import Limits
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.lane import Lane
from infinitic.runtime.local_tasks import LocalAttempt, LocalRunner
from infinitic.runtime.state_engine.inputs import Draft, TakenInputs
from infinitic.runtime.state_engine.receiving import ReceivedStep

PATIENCE_SECONDS = 0.02
"""How long another message for the instance waits for local tasks that run."""

ATTEMPT_BYTES = 1024
"""About what an attempt takes in memory beside its report."""

Key = tuple[int, int, int]
"""An attempt: the run, the position, and its number."""


class Kept:
    """How many bytes of reports the lanes of one workflow keep until these are committed."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class BegunAttempt(msgspec.Struct, eq=False):
    """An attempt that runs, or has run, for the steps of a lane.

    Attributes:
        runner: what runs it.
        attempt: the attempt.
        message: what it was given.
        effect: what asks for it, if it goes by message.
        is_held: true while the delay before the next attempt is waited for in place.
        was_held: true once that is over.
        timer: ends that delay.
        is_used: whether the last try of the step has asked for it.
        place: in which round its report was taken, and where in it; None: it was not yet.
        bytes: what is counted for it.
    """

    runner: LocalRunner
    attempt: LocalAttempt
    message: ExecuteTask
    effect: SendTask
    is_held: bool = False
    was_held: bool = False
    timer: asyncio.TimerHandle | None = None
    is_used: bool = True
    place: tuple[int, int] | None = None
    bytes: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there is something to be done about it."""
        return not self.is_held and (self.attempt.report is not None or self.attempt.is_unrun)


class OpenStep(msgspec.Struct, eq=False):
    """One try to decide a step.

    Attributes:
        received: the messages and the instance.
        inputs: what was taken.
        spec: the code.
        limits: how many bytes may be asked for.
        draft: what has come of it so far, without what runs.
        until: when it must end, in seconds since the Unix epoch.
        events: how many events of the draft were looked at.
        effects: how many effects of the draft were looked at.
        running: attempts that are waited for.
        rest: what goes by message in the end.
        begun: how many attempts have begun for it.
        bytes: of reports that were taken in.
        is_cut: whether nothing more may begin.
    """

    received: ReceivedStep
    inputs: TakenInputs
    spec: WorkflowSpec
    limits: Limits
    draft: Draft
    until: float
    events: int
    effects: int
    running: list[BegunAttempt]
    rest: list[SendTask]
    begun: int = 0
    bytes: int = 0
    is_cut: bool = False


class LaneAttempts(msgspec.Struct, eq=False):
    """All attempts that were begun for the first messages of a lane. It is an `UnderWay`.

    Attributes:
        lane: the lane.
        resume: has it handled again.
        kept: counts what is kept.
        entries: the attempts, also those whose step could not be committed.
        step: what is being decided; None between two tries.
        is_suspended: true while attempts are waited for.
        is_off: whether the next try takes in no report.
        fed: those whose reports are in the step.
        adopted: those that go on once it is committed.
        timer: wakes it at its bounds.
        hurry: cuts it because another message waits; None: none does.
        rounds: how often reports were taken, in all tries.
        version: what the last try was to write; None: nothing.
    """

    lane: Lane
    resume: Callable[[Lane], object]
    kept: Kept
    entries: dict[Key, BegunAttempt]
    step: OpenStep | None = None
    is_suspended: bool = False
    is_off: bool = False
    fed: list[BegunAttempt] = []
    adopted: list[LocalAttempt] = []
    timer: asyncio.TimerHandle | None = None
    hurry: asyncio.TimerHandle | None = None
    rounds: int = 0
    version: int | None = None

    def note_input(self) -> None:
        """Another message has come: it waits no longer than a short task takes."""
        if self.step is not None and self.hurry is None:
            self.hurry = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self.cut)

    def cut(self) -> None:
        """Let nothing more begin, and wait for nothing."""
        if self.step is not None:
            self.step.is_cut = True
            self.note_end()

    def note_end(self) -> None:
        """Something has ended: go on with the step if it waits."""
        if self.is_suspended:
            self.is_suspended = False
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            self.resume(self.lane)

    def put(self, key: Key, entry: BegunAttempt) -> None:
        """Take an attempt. It replaces that of an earlier try, if the code asks for another one."""
        before = self.entries.get(key)
        if before is not None:
            self.kept.bytes -= before.bytes
            if before.attempt.report is None:
                before.attempt.stop()
        self.entries[key] = entry

    def keep(self, entry: BegunAttempt, place: tuple[int, int], size: int) -> None:
        """Note that a report is part of the step, and is kept until that is committed.

        Args:
            entry: the attempt.
            place: when it was taken, if this is the first time.
            size: bytes of the report.
        """
        if entry.place is None:
            entry.place, entry.bytes = place, size + ATTEMPT_BYTES
            self.kept.bytes += entry.bytes

    def _stop_timers(self) -> None:
        for timer in (self.timer, self.hurry):
            if timer is not None:
                timer.cancel()
        self.timer = self.hurry = None

    def reset(self) -> None:
        """Begin another try. What has run for those before is kept."""
        self.step = self.version = None
        self._stop_timers()
        self.fed, self.adopted = [], []
        for entry in self.entries.values():
            entry.is_used = False

    def end(self, *, committed: bool) -> None:
        """Let go of all attempts: those that are not part of the committed step are stopped."""
        self._stop_timers()
        adopted = self.adopted if committed else []
        for attempt in adopted:
            attempt.adopt()
        going_on = set(map(id, adopted))
        for entry in self.entries.values():
            self.kept.bytes -= entry.bytes
            entry.bytes = 0
            if entry.timer is not None:
                entry.timer.cancel()
            if id(entry.attempt) not in going_on and entry.attempt.report is None:
                entry.attempt.stop()

    def end_used(self, *, committed: bool) -> bool:
        """Let go of the attempts that the last try has asked for. False if there are no others."""
        others = {key: entry for key, entry in self.entries.items() if not entry.is_used}
        for key in others:
            del self.entries[key]
        self.end(committed=committed)
        self.entries = others
        self.reset()
        self.is_off = False
        return bool(others)

    def abandon(self) -> None:
        """Stop all: the messages are for others."""
        self.is_suspended = False
        if self.step is not None:
            self.step.received.instance.discard_live()
            self.step = None
        self.end(committed=False)


def end_local_tasks(lane: Lane, settled: int, *, committed: bool) -> None:
    """Let go of what was begun for a lane, whose first messages are done with.

    After a failure a lane handles its messages one by one. What was begun for the later ones before
    that is kept for them.

    Args:
        lane: the lane. These messages are still in it.
        settled: how many messages are done with.
        committed: whether the step that was decided is durable. What it left running goes on.
    """
    under_way = lane.under_way
    if not isinstance(under_way, LaneAttempts):
        return
    if lane.tries and settled < len(lane.waiting) and under_way.end_used(committed=committed):
        return
    lane.under_way = None
    under_way.end(committed=committed)
