"""Rules about a step as a whole: what was written, in view of what was there before.

Each rule is a function of the step. It returns what is wrong, or None. Those of `BEFORE` are
checked before the events of the step are added to the history, those of `RESULT` and `AFTER` after
that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from msgspec.structs import replace

from infinitic.engines import delegations, positions, timers
from infinitic.engines.effects import (
    ActivateElsewhere,
    Answer,
    ArmWake,
    CancelSent,
    ClaimCustomId,
    Confirm,
    ProbeElsewhere,
    Refuse,
    Reject,
    SendRemote,
    SendTask,
    Tag,
    TellCanceled,
    TellListeners,
    TellReopened,
)
from infinitic.engines.state import TimerKind, WorkflowHead
from infinitic.engines.workflow.due import find_next_due
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON
from infinitic.messages import commands, engine, events
from infinitic.messages.events import Event
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import StateKey
from infinitic_testing.invariants.cancel_rules import check_cancel_is_told
from infinitic_testing.invariants.history import ObservedHistory, cut_carried
from infinitic_testing.invariants.instances import ObservedInstance, WrittenStep
from infinitic_testing.invariants.refusal_rules import is_refusal, is_refused
from infinitic_testing.invariants.requests import is_asked_again, is_deleted
from infinitic_testing.invariants.retry_rules import check_retry_not_early
from infinitic_testing.invariants.tag_rules import check_tag_effect
from infinitic_testing.invariants.traffic import Sent

ROUNDING = 1e-6
"""Seconds by which sums of times may differ."""

_COMPARED = 20
"""Up to so many open timers and running methods are compared one by one."""


def check_one_writer(step: WrittenStep, sent: Sent) -> str | None:
    """A change is written over the version that it expects, and has a higher one."""
    before = None if step.instance is None or step.instance.purged else step.instance.version
    if step.change.expected != before:
        return f"a change that expects version {step.change.expected} was written over {before}"
    if before is not None and step.change.version <= before:
        return f"version {step.change.version} was written over {before}"
    return None


def check_one_instance(step: WrittenStep, sent: Sent) -> str | None:
    """Each start makes one instance."""
    if step.change.expected is not None:
        return None
    if step.instance is not None:
        newer = any(start.made_at > step.instance.head.started_at for start in sent.starts.values())
        return None if step.instance.purged and newer else "it is started, but it was there before"
    return None


def check_one_end(step: WrittenStep, sent: Sent) -> str | None:
    """A closed instance is never changed, but for what an operator asks for."""
    if step.instance is not None and step.instance.head.closed and not step.instance.purged:
        if is_refusal(step):
            return None
        before = step.instance.head
        if is_deleted(step, sent):
            # Who waits for a probe is told, and what was claimed for it is given up.
            freed = before.probe is not None and before.unique and step.head.epoch == before.epoch + 1
            epoch = before.epoch if freed else step.head.epoch
            same = replace(step.head, sequence=before.sequence, retention=before.retention, epoch=epoch)
            if replace(same, probe=before.probe) == before and not step.events and not step.head.retention:
                return None
        if is_asked_again(step, sent):
            # Whatever was claimed for one with a custom id is given up, if it is not re-opened.
            epoch = before.epoch if before.unique and step.head.epoch == before.epoch + 1 else step.head.epoch
            same = replace(step.head, sequence=before.sequence, probe=before.probe, epoch=epoch)
            reopens = any(isinstance(event, events.Reopened) for event in step.events)
            stays = same == before and step.change.expires_at == step.instance.expires_at
            if reopens or (stays and not step.events):
                return None
        return f"it is closed, and changes all the same: {step.instance.head} becomes {step.head}"
    return None


def check_segment_follows(step: WrittenStep, sent: Sent) -> str | None:
    """Segments count on, and the head knows the last one."""
    last = 0 if step.instance is None or step.instance.purged else step.instance.history.sequence
    segment = step.change.segment
    expected = last if segment is None else last + 1
    if segment is not None and segment.sequence != expected:
        return f"segment {segment.sequence} comes after {last}"
    if step.head.sequence != expected:
        return f"its head knows {step.head.sequence} segments, and {expected} are written"
    return None


def check_head_time(step: WrittenStep, sent: Sent) -> str | None:
    """The times in the head do not go back, but for an activation that runs again."""
    if step.instance is None or step.instance.purged:
        return None
    before = step.instance.head
    earliest = before.at if before.rerun_at is None else before.rerun_at
    if step.head.at < earliest or step.head.started_at != before.started_at:
        return f"times went back: {before} became {step.head}"
    return None


def check_inputs(step: WrittenStep, sent: Sent) -> str | None:
    """The signals, calls and commands in a segment are those of its deduplication ids, in order."""
    expected: list[Event] = []
    is_canceling = step.instance is not None and step.instance.head.canceling
    for deduplication_id in step.change.deduplication_ids:
        found = sent.inputs.get(deduplication_id)
        if found is None:
            return f"nobody has sent an input with the id {deduplication_id!r}"
        if is_refused(found.message, step, expected):
            continue
        match found.message:
            case engine.Signal(channel=channel, value=value, meta=meta, by=by):
                expected.append(events.SignalReceived(channel, value, meta=meta, by=by))
            case engine.CallMethod() if is_canceling:
                pass
            case engine.CallMethod(method_id=method_id, method=method, arguments=arguments, meta=meta, by=by):
                expected.append(events.MethodStarted(method_id, method, arguments, meta=meta, by=by))
            case engine.Cancel(method_id=method_id, by=by) if not is_canceling:
                is_canceling = not method_id
                expected.append(events.CancelRequested(method_id, by=by))
            case engine.Terminate(reason=reason, by=by):
                was_deciding = step.instance is not None and step.instance.head.deciding != 0
                expected.append(events.Abandoned(fit_text(reason, STALL_REASON), was_deciding, by=by))
            case _:
                pass
    taken = [each for each in cut_carried(step.events) if isinstance(each, _INPUTS)]
    if step.change.expected is None and taken:
        first = taken.pop(0)
        if not any(_starts(first, step.key.id, start) for start in sent.starts.values()):
            return f"nobody has sent this start: {first}"
    for event, wanted in zip_longest(taken, expected):
        if _without_time(event) != wanted:
            return f"the history has {event}, and what was sent is {wanted}"
    return None


def _without_time(event: Event | None) -> Event | None:
    """What was sent does not say when the engine took it."""
    return replace(event, at=0.0) if isinstance(event, _INPUTS) else event


_INPUTS = (events.SignalReceived, events.MethodStarted, events.CancelRequested, events.Abandoned)


def _starts(event: Event, workflow_id: str, start: engine.Start) -> bool:
    return _without_time(event) == events.MethodStarted(workflow_id, start.method, start.arguments, by=start.by)


def check_input_once(step: WrittenStep, sent: Sent) -> str | None:
    """An input is taken once, also by the ids that the storage keeps."""
    if step.instance is not None:
        for deduplication_id in step.change.deduplication_ids:
            if deduplication_id in step.instance.taken:
                return f"the input with the id {deduplication_id!r} is taken a second time"
            if deduplication_id in sent.refused:
                return f"the input with the id {deduplication_id!r} is taken, and its sender was told that it is not"
    return None


def check_signal_order(step: WrittenStep, sent: Sent) -> str | None:
    """The signals of one sender come in the order of sending, but for those before the start."""
    last = {} if step.instance is None else dict(step.instance.senders)
    for deduplication_id in step.change.deduplication_ids:
        found = sent.inputs.get(deduplication_id)
        if found is None or not isinstance(found.message, engine.Signal):
            continue
        if is_refused(found.message, step, ()):
            continue
        if found.waited or sent.started is None or found.number < sent.started:
            continue
        if found.number < last.get(found.sender, 0):
            return f"a signal of {found.sender} comes after one that was sent later: {found.message}"
        last[found.sender] = found.number
    return None


def check_outbox_drained(step: WrittenStep, sent: Sent) -> str | None:
    """The outbox before is published: nobody ever publishes it after this step."""
    before = step.instance
    if before is None or step.change.segment is None or not before.unpublished or before.head.parked:
        return None
    return f"the next step is written, and of the outbox before was not published: {list(before.unpublished)}"


def check_mark_true(step: WrittenStep, sent: Sent) -> str | None:
    """A change that has no outbox of its own says that the one before is published only if so."""
    before = step.instance
    if not step.change.published or (step.change.segment is not None and not step.outbox):
        return None
    if step.outbox:
        return f"it is written with a new outbox that is marked as published: {step.outbox}"
    return None if before is None or not before.unpublished else f"not published is {list(before.unpublished)}"


def check_nothing_left_open(step: WrittenStep, sent: Sent) -> str | None:
    """Nothing of a closed instance is open, and somebody will remove it."""
    if not step.head.closed:
        return None
    change = step.change
    answers = any(isinstance(effect, Reject | ProbeElsewhere | ClaimCustomId) for effect in step.outbox)
    as_before = answers or is_refusal(step) or is_deleted(step, sent) or is_asked_again(step, sent)
    if change.entry is None and change.expires_at is not None and as_before:
        return find_left_open(step.key, step.head)
    if change.expires_at is None or change.entry is None or change.entry.closed_at is None:
        return f"it is closed, but nobody will remove it: {change.expires_at} {change.entry}"
    return find_left_open(step.key, step.head)


def find_left_open(key: StateKey, head: WorkflowHead) -> str | None:
    """What is open of an instance that is closed; None if nothing is.

    Args:
        key: the instance.
        head: its head.
    """
    left = (head.open, head.timers, head.retries, head.armed, head.pending, head.deciding, head.parked)
    if any(left) or (head.stalled is not None and head.status is not WorkflowStatus.TERMINATED):
        return f"it is closed, and has left {head}"
    if [method.id for method in head.methods] != [key.id] or head.methods[0].waiters:
        return f"it is closed, and has methods {head.methods}"
    return None


def check_wake_armed(step: WrittenStep, sent: Sent) -> str | None:
    """While something has to happen at a time, a wake is armed for then, or for before."""
    head = step.head
    due = find_next_due(head)
    if due is None or head.closed or head.parked:
        return None
    if head.armed is None or head.armed > due + ROUNDING:
        return f"the next timer or retry is due at {due!r}, and a wake is armed for {head.armed!r}"
    if step.change.entry is not None and step.change.entry.next_wake != head.armed:
        return f"a wake is armed for {head.armed!r}, and lists say {step.change.entry.next_wake!r}"
    return None


def check_outbox_bounded(step: WrittenStep, sent: Sent) -> str | None:
    """Each effect of a step has a reason in the events or inputs of this step."""
    if not step.outbox:
        return None
    tasks = {each.position for each in step.events if isinstance(each, commands.ScheduleTask)}
    remotes = {each.position for each in step.events if isinstance(each, commands.Remote)}
    retries = {retry.position for retry in step.head.retries}
    ended = {each.method_id for each in step.events if isinstance(each, _ENDS)}
    is_terminated = any(isinstance(each, events.Abandoned) for each in step.events)
    confirms = wakes = activations = 0
    # The request of an operator may have been taken in an earlier step.
    answered = sum(isinstance(event, events.Reopened) for event in step.events)
    answered += sum(isinstance(effect, Reject) for effect in step.outbox)
    for effect in step.outbox:
        match effect:
            case SendTask(position=position, retry_index=0, retry_sequence=0):
                if position not in tasks:
                    return f"task {position} is sent, and this step does not ask for it"
            case SendTask(position=position):
                if position not in retries:
                    return f"task {position} is sent again, and no attempt of it has failed"
            case SendRemote(position=position, retry_sequence=sequence):
                if position not in remotes and not (sequence and answered):
                    return f"request {position} is sent to another instance, and this step does not ask for it"
            case Answer(method_id=method_id):
                if method_id not in ended and not is_terminated:
                    return f"the end of method {method_id} is told, and it does not end here"
            case Confirm() | TellCanceled() | Reject() | Refuse():
                confirms += 1
            case ArmWake():
                wakes += 1
            case TellReopened():
                if not answered:
                    return f"{effect} is in an outbox, and nothing is re-opened"
            case ActivateElsewhere() | ProbeElsewhere():
                activations += 1
            case CancelSent() | TellListeners():
                # "cancel-told" and "events-published" look at them.
                pass
            case Tag() | ClaimCustomId():
                wrong = check_tag_effect(effect, step)
                if wrong is not None:
                    return wrong
            case _:
                return f"{effect} is in an outbox"
    taken = len(step.change.deduplication_ids)
    if confirms > taken + answered or wakes > 2 or activations > taken + 1:
        return f"an outbox has more than its step can cause: {list(step.outbox)}"
    return None


_ENDS = (commands.CompleteMethod, commands.FailMethod, commands.CancelMethod)


def check_no_late_task(step: WrittenStep, instance: ObservedInstance) -> str | None:
    """Only open tasks are sent, with the number of their newest attempt."""
    history = instance.history
    for effect in step.outbox:
        if isinstance(effect, SendTask):
            if effect.position not in history.open_tasks:
                return f"task {effect.position} is sent, and is not open"
            attempts = history.attempts.get(effect.position, 0)
            if effect.retry_index != attempts:
                return f"attempt {effect.retry_index} of task {effect.position} is sent, {attempts} have failed"
        elif isinstance(effect, SendRemote):
            request = history.requests[effect.position]
            if not isinstance(request, commands.SignalRemote) and effect.position not in history.open_tasks:
                return f"{request} is sent, and is not open"
    return None


def check_head_matches(step: WrittenStep, instance: ObservedInstance) -> str | None:
    """The head says what is open by the history. Only what may have changed is looked at."""
    return compare_head(step.key, step.head, instance.history, step.events)


def compare_head(key: StateKey, head: WorkflowHead, history: ObservedHistory, happened: Sequence[Event]) -> str | None:
    """Say where a head differs from its history; None if it does not.

    Args:
        key: the instance.
        head: its head.
        history: what follows from all its events.
        happened: the events whose positions are compared one by one.
    """
    if (head.activation, head.position) != (history.activation, len(history.requests)):
        return (
            f"the head knows {head.activation} activations and {head.position} positions, "
            f"and the history has {history.activation} and {len(history.requests)}"
        )
    if (head.name, head.id) != (key.name, key.id):
        return f"the head is that of {head.name} {head.id}"
    if head.closed:
        return None if head.canceling or not history.open_tasks else f"tasks {sorted(history.open_tasks)} are open"
    if (head.pending != 0) != (history.unseen != 0):
        return f"the head says that stimuli wait from segment {head.pending} on, and {history.unseen} do"
    return _compare_open(head, history, happened) or _compare_methods(head, history)


def _compare_open(head: WorkflowHead, history: ObservedHistory, happened: Sequence[Event]) -> str | None:
    if positions.count(head.open) != len(history.open_tasks):
        return f"{positions.count(head.open)} tasks are open in the head, by the history {sorted(history.open_tasks)}"
    delegated = history.delegated & history.open_tasks
    if (head.delegated or delegated) and set(delegations.list_open(head)) != delegated:
        return f"{delegations.list_open(head)} are delegated in the head, by the history {sorted(delegated)}"
    for event in happened:
        position: int | None = getattr(event, "position", None)
        if position is None:
            continue
        is_open = positions.find_request(head.open, position) is not None
        if is_open != (position in history.open_tasks):
            return f"position {position} is {'' if is_open else 'not '}open in the head"
    wanted = {**history.open_timers, **history.timeouts}
    found = sum(timers.count(head.timers, kind) for kind in TimerKind)
    if found != len(wanted):
        return f"the head has {found} timers, and the history {len(wanted)}"
    if found <= _COMPARED:
        due = {timer.position: timer.due for timer in timers.list_timers(head.timers)}
        if due != wanted:
            return f"the head has timers {due}, and the history {wanted}"
    return None


def _compare_methods(head: WorkflowHead, history: ObservedHistory) -> str | None:
    running = [method.id for method in head.methods if not method.ended]
    if len(running) != len(history.running) or (len(running) <= _COMPARED and running != list(history.running)):
        return f"methods {running} run by the head, and {list(history.running)} by the history"
    return None


def _always(step: WrittenStep) -> object:
    return True


def _is_known(step: WrittenStep) -> object:
    return step.instance is not None


def _creates(step: WrittenStep) -> object:
    return step.change.expected is None


def _takes_inputs(step: WrittenStep) -> object:
    return step.change.deduplication_ids or step.change.expected is None


def _has_inputs(step: WrittenStep) -> object:
    return _takes_inputs(step) or any(isinstance(event, _INPUTS) for event in step.events)


def _follows_outbox(step: WrittenStep) -> object:
    return step.change.segment is not None and step.instance is not None and step.instance.had_outbox


def _is_marked(step: WrittenStep) -> object:
    return step.change.published and (step.outbox or step.change.segment is None)


def _has_retries(step: WrittenStep) -> object:
    return step.head.retries


def _is_closed(step: WrittenStep) -> object:
    return step.head.closed


def _waits_for_time(step: WrittenStep) -> object:
    return step.head.timers or step.head.retries


def _has_outbox(step: WrittenStep) -> object:
    return step.outbox


def _sends_tasks(step: WrittenStep) -> object:
    return any(isinstance(effect, SendTask | SendRemote) for effect in step.outbox)


def _closes_tasks(step: WrittenStep) -> object:
    kinds = (CancelSent, commands.CancelPosition, events.TaskTimeout, events.TaskCanceled)
    return step.head.closed or any(isinstance(each, kinds) for each in (*step.outbox, *step.events))


class StepRule(NamedTuple):
    """A rule about steps.

    Attributes:
        name: of the rule.
        check: returns what is wrong, or None.
        applies: whether there is anything to check in a step. If not, it does not count.
    """

    name: str
    check: Callable[[WrittenStep, Sent], str | None]
    applies: Callable[[WrittenStep], object] = _always


class InstanceRule(NamedTuple):
    """A rule about an instance after a step. Its fields are those of `StepRule`."""

    name: str
    check: Callable[[WrittenStep, ObservedInstance], str | None]
    applies: Callable[[WrittenStep], object] = _always


BEFORE: tuple[StepRule, ...] = (
    StepRule("one-writer", check_one_writer),
    StepRule("one-instance", check_one_instance, _creates),
    StepRule("one-end", check_one_end, _is_known),
    StepRule("history-gapless", check_segment_follows),
    StepRule("time-forward", check_head_time, _is_known),
    StepRule("input-once", check_input_once, _takes_inputs),
    StepRule("input-known", check_inputs, _has_inputs),
    StepRule("signal-order", check_signal_order, _takes_inputs),
    StepRule("outbox-drained", check_outbox_drained, _follows_outbox),
    StepRule("mark-true", check_mark_true, _is_marked),
    StepRule("retry-not-early", check_retry_not_early, _has_retries),
    StepRule("cancel-told", check_cancel_is_told, _closes_tasks),
)
"""They compare the step with what was there before."""

RESULT: tuple[StepRule, ...] = (
    StepRule("nothing-left-open", check_nothing_left_open, _is_closed),
    StepRule("wake-armed", check_wake_armed, _waits_for_time),
    StepRule("outbox-bounded", check_outbox_bounded, _has_outbox),
)
"""They look at what is written only. If an event of it is wrong, that comes first."""

AFTER: tuple[InstanceRule, ...] = (
    InstanceRule("no-late-task", check_no_late_task, _sends_tasks),
    InstanceRule("head-matches-history", check_head_matches),
)
"""They compare the step with what follows from all events so far."""
