"""The part of deciding that runs local tasks: the third one, behind the activation.

What code asks for that is local runs here and now. Its report goes through `take`, as if it had
come as a message, and the code is activated again, until it wants no more. So a chain of local
tasks is one step: one commit, and no message. The history holds what it holds for other tasks.

A step that has to wait for a task is *suspended*: its lane is set aside, and the other lanes go on.
It does not wait long. Beyond its bounds, or when another message comes, the rest goes by message.
What has begun then goes on: the executor of the service adopts it once the step is committed, and
the message that stands for it says that it runs.

What a crash here does: the inputs come again, and all of the step is run again, by message: a
process may have died with a task. A step that could not be committed is decided again. Its reports
are kept with the lane, so nothing runs twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from infinitic.clock import Clock
from infinitic.definitions.local_tasks import LONGEST_SECONDS
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.effects import DIED, RUNS, Answer, ArmWake, CancelSent, Effect, SendTask
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import is_runnable, take
from infinitic.engines.workflow.due import find_next_due
from infinitic.engines.workflow.render import make_attempt
from infinitic.errors import InfiniticError, PayloadTooLargeError
from infinitic.limits import Limits
from infinitic.messages import engine as inputs
from infinitic.messages.commands import ScheduleTask
from infinitic.messages.events import Event
from infinitic.replay.stops import TooMuchTogether
from infinitic.runtime.lane import Lane
from infinitic.runtime.local_tasks import LocalAttempt, LocalRunner
from infinitic.runtime.state_engine.activation import activate
from infinitic.runtime.state_engine.closing import DecidedStep
from infinitic.runtime.state_engine.inputs import Draft, TakenInputs
from infinitic.runtime.state_engine.lane_attempts import (
    PATIENCE_SECONDS,
    BegunAttempt,
    Kept,
    LaneAttempts,
    OpenStep,
    end_local_tasks,
)
from infinitic.runtime.state_engine.local_parts import (
    choose_round,
    end_run,
    hold,
    is_same,
    make_next,
    mark_local,
    stop_cancelled,
    take_back,
)
from infinitic.runtime.state_engine.receiving import ReceivedStep
from infinitic.transport import Delivery

MOST_TASKS = 64
"""How many local tasks a step runs at most."""

IN_PLACE_SECONDS = 0.05
"""The longest delay before another attempt that a step waits for."""

MOST_BYTES = 256 * 1024
"""Bytes of reports that a step takes in. What is above goes by message."""

MOST_KEPT_BYTES = 64 * 1024 * 1024
"""Bytes of reports that wait for a commit. What is above goes by message: a database may take no
writes for long."""

FRESH_SECONDS = 60.0
"""A start that is not older is none of an instance that was purged."""

SUSPECTED_POSITIONS = 64
"""How many positions go by message after inputs that were delivered before."""


class CannotGoOn(InfiniticError):
    """A step with local tasks became unusual. It is decided again, and its tasks go by message."""


class LocalTasks:
    """Runs the local tasks of the steps of one workflow.

    Args:
        runners: the executors of this worker that have local tasks, by service. It may grow.
        clock: the time of day.
        window: the deduplication window, in seconds.
        retention: seconds to keep closed instances; None: what their class says.
        resume: has a suspended lane handled again.
        may_suspend: whether one more lane may be suspended.
        is_suspect: whether a process may have died with a delivery.

    Attributes:
        runners: what it was given.
        kept: counts what is kept of steps that are not committed.
    """

    def __init__(
        self,
        runners: Mapping[str, LocalRunner],
        clock: Clock,
        window: float,
        retention: float | None,
        resume: Callable[[Lane], object],
        may_suspend: Callable[[], bool],
        is_suspect: Callable[[Delivery], bool],
    ) -> None:
        self.runners = runners
        self._clock = clock
        self._window = window
        self._retention = retention
        self._resume = resume
        self._may_suspend = may_suspend
        self._is_suspect = is_suspect
        self.kept = Kept()

    def begin(
        self,
        received: ReceivedStep,
        taken: TakenInputs,
        draft: Draft,
        spec: WorkflowSpec,
        limits: Limits,
    ) -> Draft | None:
        """Run what an activation has asked for, as far as it is local.

        Args:
            received: the messages and the instance.
            taken: what was taken.
            draft: what came of it, with the first activation.
            spec: the code.
            limits: how many bytes may be asked for.

        Returns:
            The draft of the whole step. None: it is suspended.

        Raises:
            CannotGoOn: it has to be decided again.
            PayloadUnavailable: the payload codec is away. Try again later.
        """
        lane, stored = received.lane, received.instance.head
        under_way = lane.under_way
        ran, head = taken.draft.head, draft.head
        assert head is not None
        assert ran is not None
        now = self._clock.now()
        if any(map(self._is_suspect, taken.deliveries)):
            first = 0 if stored is None or ran.run != head.run else stored.position
            until = max(head.by_message, first + SUSPECTED_POSITIONS)
            head = replace(head, by_message=until)
            draft = replace(draft, head=head)
        if not isinstance(under_way, LaneAttempts):
            under_way = lane.under_way = LaneAttempts(lane, self._resume, self.kept, {})
        step = OpenStep(
            received,
            taken,
            spec,
            limits,
            draft,
            now + (PATIENCE_SECONDS if len(lane.waiting) > len(taken.deliveries) else LONGEST_SECONDS),
            len(taken.draft.events),
            len(taken.draft.outbox),
            [],
            [],
            is_cut=bool(head.pending) or self._may_be_repeat(taken, spec, now),
        )
        if ran.run != head.run:
            # The next run begins with the next step.
            step.effects = len(draft.outbox)
        under_way.step = step
        return self._advance(under_way, step)

    @staticmethod
    def take_resumed(lanes: Sequence[Lane]) -> tuple[list[ReceivedStep], Sequence[Lane]]:
        """Divide lanes: the steps of those that were suspended, and the other lanes."""
        resumed: list[ReceivedStep] = []
        others: list[Lane] = []
        for lane in lanes:
            step = lane.under_way.step if isinstance(lane.under_way, LaneAttempts) else None
            if step is None:
                others.append(lane)
            else:
                resumed.append(step.received)
        return resumed, others

    @staticmethod
    def find_open(received: ReceivedStep) -> OpenStep | None:
        """Find the step that was suspended; None: this one has not begun.

        What was begun for earlier tries of it is kept.
        """
        under_way = received.lane.under_way
        if not isinstance(under_way, LaneAttempts):
            return None
        step = under_way.step
        if step is not None and step.received is received:
            return step
        if under_way.version is not None and under_way.version == received.instance.version:
            # The last try was written, though nobody could tell: what it left running goes on.
            end_local_tasks(received.lane, 1, committed=True)
        else:
            under_way.reset()
        return None

    def go_on(self, step: OpenStep) -> Draft | None:
        """Go on with a step that was suspended. Errors are as for `begin`."""
        under_way = step.received.lane.under_way
        assert isinstance(under_way, LaneAttempts)
        return self._advance(under_way, step)

    @staticmethod
    def retreat(lane: Lane, error: Exception) -> bool:
        """Have a step decided again that is too large or unusual, with its tasks by message.

        Args:
            lane: its lane.
            error: why it could not be decided.

        Returns:
            False if its local tasks are not to blame.
        """
        under_way = lane.under_way
        if not isinstance(under_way, LaneAttempts):
            return False
        under_way.step = None
        if under_way.is_off:
            return False
        if not isinstance(error, CannotGoOn | PayloadTooLargeError):
            return False
        under_way.is_off = True
        return True

    @staticmethod
    def undo(lane: Lane) -> None:
        """Take note that the activation of a step is undone, since the step is too large.

        Raises:
            CannotGoOn: its local tasks may be to blame. It has to be decided again without them.
        """
        under_way = lane.under_way
        if isinstance(under_way, LaneAttempts):
            if not under_way.is_off:
                raise CannotGoOn("It is too large")
            # It is too large without them, too. The next step asks for all of it again.
            under_way.fed, under_way.adopted = [], []

    @staticmethod
    def forget_try(lane: Lane) -> None:
        """Have the step of a lane be decided anew. What was begun for it is kept."""
        if isinstance(lane.under_way, LaneAttempts) and lane.under_way.step is not None:
            lane.under_way.step.received.instance.discard_live()
            lane.under_way.step = None

    async def tell(self, decided: Iterable[DecidedStep]) -> None:
        """Tell event listeners what came of the attempts of steps that are about to be committed.

        Raises:
            TransportClosed: the connection is closed for good.
        """
        fed: dict[LocalRunner, list[LocalAttempt]] = {}
        for step in decided:
            under_way = step.lane.under_way
            if isinstance(under_way, LaneAttempts):
                under_way.version = None if step.change is None else step.change.version
                for entry in under_way.fed:
                    fed.setdefault(entry.runner, []).append(entry.attempt)
        for runner, attempts in fed.items():
            await runner.tell_reports(attempts)

    def is_wanted(self, lane: Lane, taken: TakenInputs, draft: Draft, spec: WorkflowSpec) -> bool:
        """Whether an activation has asked for something that may run here.

        Args:
            lane: the lane.
            taken: what was taken.
            draft: what came of it, with the first activation.
            spec: the code.
        """
        if lane.under_way is not None:
            return True
        if not self._is_any_local(draft, len(taken.draft.outbox)):
            return False
        return not self._may_be_repeat(taken, spec, self._clock.now())

    def _may_be_repeat(self, taken: TakenInputs, spec: WorkflowSpec, now: float) -> bool:
        """Whether only the commit finds out that one of the inputs was taken before.

        What the code asks for then is not part of the history, and must not run.
        """
        if taken.deduplication_ids:
            return True
        kept = max(spec.retention if self._retention is None else self._retention, FRESH_SECONDS)
        # An older start may be that of an instance which was purged.
        return any(type(message) is inputs.Start and now - message.made_at > kept for _, message in taken.decoded)

    def _is_any_local(self, draft: Draft, first: int) -> bool:
        wanted = {effect.position for effect in draft.outbox[first:] if type(effect) is SendTask}
        if not wanted:
            return False
        for event in draft.events:
            if type(event) is ScheduleTask and event.position in wanted:
                runner = self.runners.get(event.service)
                if runner is not None and runner.can_run(event.task):
                    return True
        return False

    def _advance(self, under_way: LaneAttempts, step: OpenStep) -> Draft | None:
        while True:
            self._begin_asked(under_way, step)
            if under_way.is_off or not step.running:
                break
            over = [entry for entry in step.running if entry.is_over]
            if over:
                self._feed(under_way, step, choose_round(over))
            elif not self._suspend(under_way, step):
                break
            else:
                return None
        return self._finish(under_way, step)

    def _begin_asked(self, under_way: LaneAttempts, step: OpenStep) -> None:
        """Begin what the last activation has asked for, and stop what it has cancelled."""
        draft = step.draft
        if len(draft.outbox) == step.effects:
            return
        requests = {event.position: event for event in draft.events[step.events :] if type(event) is ScheduleTask}
        effects: list[Effect] = list(draft.outbox[: step.effects])
        for effect in draft.outbox[step.effects :]:
            if type(effect) is SendTask:
                sent = self._begin_one(under_way, step, effect, requests.get(effect.position))
                if sent is not None:
                    effects.append(sent)
            elif type(effect) is CancelSent:
                left = stop_cancelled(under_way, step, effect, effects)
                if left is not None:
                    effects.append(left)
            else:
                effects.append(effect)
        step.draft = replace(draft, outbox=effects)
        step.events, step.effects = len(draft.events), len(effects)

    def _begin_one(
        self, under_way: LaneAttempts, step: OpenStep, effect: SendTask, request: ScheduleTask | None
    ) -> SendTask | None:
        """Begin one attempt. Returns what sends it by message instead; None: it has begun."""
        head = step.draft.head
        assert head is not None
        now = self._clock.now()
        if effect.retry_sequence:
            return effect
        if effect.retry_index:
            before = under_way.entries.get((head.run, effect.position, effect.retry_index - 1))
            if before is None:
                return effect
            message = make_next(before, effect, now)
        elif request is None:
            return effect
        else:
            message = make_attempt(effect, request, head, now)
        runner = self.runners.get(message.service)
        if runner is None:
            return effect
        key = (head.run, effect.position, effect.retry_index)
        entry = under_way.entries.get(key)
        if entry is not None and is_same(entry.message, message):
            # The step was decided before, and could not be committed.
            entry.effect, entry.is_used = effect, True
            step.begun += 1
            step.running.append(entry)
            return None
        if message.tags or not runner.can_run(message.task):
            return effect
        if effect.position < head.by_message:
            return replace(effect, doubt=DIED)
        if under_way.is_off or step.is_cut or step.begun >= MOST_TASKS or self.kept.bytes >= MOST_KEPT_BYTES:
            return effect
        if now >= self._find_end(step):
            return effect
        step.begun += 1
        entry = BegunAttempt(runner, runner.begin(message, under_way.note_end), message, effect)
        under_way.put(key, entry)
        step.running.append(entry)
        return None

    def _find_end(self, step: OpenStep) -> float:
        """When the step has to end: at its bound, or when the first timer is due."""
        assert step.draft.head is not None
        due = find_next_due(step.draft.head)
        return step.until if due is None else min(due, step.until)

    def _feed(self, under_way: LaneAttempts, step: OpenStep, over: Sequence[BegunAttempt]) -> None:
        """Take reports as if they had come as messages, and activate the code."""
        received = step.received
        before, now = step.draft, self._clock.now()
        head = take_back(before.head, received)
        happened: list[Event] = list(before.events)
        effects: list[Effect] = list(before.outbox)
        under_way.rounds += 1
        for index, entry in enumerate(over):
            step.running.remove(entry)
            report = entry.attempt.report
            if report is None:
                step.rest.append(replace(entry.effect, doubt=DIED if entry.attempt.deaths else 0))
                continue
            size = len(report.message.body)
            if step.bytes + size > MOST_BYTES:
                step.is_cut = True
                self._send(under_way, step, entry)
                continue
            message = inputs.decode(report.message.body)
            if type(message) is inputs.AttemptFailed and message.delay > 0:
                if entry.was_held:
                    message = replace(message, delay=0.0)
                elif message.delay <= IN_PLACE_SECONDS and not step.is_cut:
                    hold(under_way, step, entry, message.delay)
                    continue
            step.bytes += size
            under_way.keep(entry, (under_way.rounds, index), size)
            under_way.fed.append(entry)
            result = take(head, received.instance.key, message, now, self._window)
            if result.head is not None:
                head = result.head
            happened += map(mark_local, result.events)
            effects += result.outbox
        step.draft = Draft(head, happened, effects)
        if is_runnable(head):
            self._activate(under_way, step, head, now, seen=len(before.events))

    def _activate(self, under_way: LaneAttempts, step: OpenStep, head: WorkflowHead, now: float, *, seen: int) -> None:
        instance, retention = step.received.instance, self._retention
        try:
            draft = activate(instance, step.draft, step.spec, now, retention, step.limits, seen=seen)
        except TooMuchTogether as error:
            raise CannotGoOn("Its reports do not fit into one activation") from error
        after = draft.head
        assert after is not None
        if draft.fault is not None:
            raise CannotGoOn(str(draft.fault))
        if after.run == head.run and after.pending:
            raise CannotGoOn("Its reports do not fit into one activation")
        step.draft = draft
        if after.run != head.run:
            end_run(under_way, step)

    def _suspend(self, under_way: LaneAttempts, step: OpenStep) -> bool:
        """Set the lane aside until something has ended. False if the step must end now."""
        now, end = self._clock.now(), self._find_end(step)
        if step.is_cut or now >= end or not self._may_suspend():
            return False
        # Whoever waits for the end of a method does not wait for what runs beside.
        if any(type(effect) is Answer for effect in step.draft.outbox):
            return False
        loop = asyncio.get_running_loop()
        under_way.is_suspended = True
        under_way.timer = loop.call_later(end - now, under_way.cut)
        return True

    def _send(self, under_way: LaneAttempts, step: OpenStep, entry: BegunAttempt) -> None:
        """Have an attempt go by message, from where it is."""
        if entry.attempt.withdraw() or entry.attempt.is_unrun:
            step.rest.append(replace(entry.effect, doubt=DIED if entry.attempt.deaths else 0))
        else:
            step.rest.append(replace(entry.effect, doubt=RUNS))
            under_way.adopted.append(entry.attempt)

    def _finish(self, under_way: LaneAttempts, step: OpenStep) -> Draft:
        """Make the draft of the whole step: what is left goes by message."""
        draft, under_way.step = step.draft, None
        head = take_back(draft.head, step.received)
        happened, effects = list(draft.events), list(draft.outbox)
        for entry in step.running:
            if not entry.is_held or entry.attempt.report is None:
                self._send(under_way, step, entry)
                continue
            # It waits for its next attempt, which is sent when that is due.
            under_way.fed.append(entry)
            message = inputs.decode(entry.attempt.report.message.body)
            result = take(head, step.received.instance.key, message, self._clock.now(), self._window)
            if result.head is not None:
                head = result.head
            happened += map(mark_local, result.events)
            effects += result.outbox
        effects += step.rest
        if step.begun or under_way.fed:
            # Timers of tasks that have ended need no wake.
            due = find_next_due(head)
            effects = [effect for effect in effects if type(effect) is not ArmWake]
            if due is not None:
                effects.append(ArmWake(due))
        return Draft(head, happened, effects)
