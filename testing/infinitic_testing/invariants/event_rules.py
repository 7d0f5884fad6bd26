"""Rules about single events of a history, checked before the event is added to it.

Each rule is a function of the event, of the history before it, and of the step that writes it. It
returns what is wrong, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infinitic.messages import commands, engine, events
from infinitic.messages.events import Event
from infinitic.messages.outcomes import RemoteStatus
from infinitic_testing.invariants.history import ObservedHistory, Request
from infinitic_testing.invariants.instances import WrittenStep
from infinitic_testing.invariants.traffic import Sent

Settlement = (
    events.TaskResult
    | events.TaskError
    | events.TaskTimeout
    | events.TaskCanceled
    | events.RemoteResult
    | events.RemoteError
)


def check_command_once(event: Request, history: ObservedHistory, step: WrittenStep, sent: Sent) -> str | None:
    """No position is asked for twice."""
    if event.position < len(history.requests):
        return f"position {event.position} is asked for twice: {history.requests[event.position]} and {event}"
    return None


def check_position_follows(event: Request, history: ObservedHistory, step: WrittenStep, sent: Sent) -> str | None:
    """Positions count on."""
    if event.position > len(history.requests):
        return f"position {event.position} comes after {len(history.requests) - 1}"
    return None


def check_cancel_was_asked(
    event: commands.CancelPosition, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """Only what was asked for is cancelled."""
    if event.position >= len(history.requests):
        return f"position {event.position} is cancelled, and nothing has asked for it"
    return None


def check_activation_follows(
    event: events.Activated, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """Activations count from 1."""
    if event.number != history.activation + 1:
        return f"activation {event.number} comes after {history.activation}"
    return None


def check_time_forward(event: events.Activated, history: ObservedHistory, step: WrittenStep, sent: Sent) -> str | None:
    """The time that the code sees does not go back, and is that of the failure if it runs again."""
    if history.reruns and event.at != history.at:
        return f"activation {event.number} runs one again of {history.at!r}, and is at {event.at!r}"
    if event.at < history.at:
        return f"activation {event.number} is at {event.at!r}, the one before was at {history.at!r}"
    return None


def check_method_starts_once(
    event: events.MethodStarted, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A method starts once."""
    if history.carried is not None and history.begun_in == step.head.sequence:
        if event.method_id not in history.carried:
            return f"method {event.method_id} begins in a new run, and nobody waited for that"
    elif event.method_id in history.running or event.method_id in history.ends:
        return f"method {event.method_id} starts twice"
    return None


def check_method_ends_once(
    event: commands.EndMethod, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A method ends once, after it has started."""
    if event.method_id in history.ends:
        return f"method {event.method_id} ends twice: {history.ends[event.method_id]} and {event}"
    if event.method_id not in history.running:
        return f"method {event.method_id} ends, but has never started"
    return None


def check_result_once(event: Settlement, history: ObservedHistory, step: WrittenStep, sent: Sent) -> str | None:
    """A task, child or call gets a result only while it is open."""
    if event.position not in history.open_tasks:
        return f"task {event.position} gets {event}, but {_tell_why_closed(event.position, history)}"
    return None


def check_timer_once(event: events.TimerFired, history: ObservedHistory, step: WrittenStep, sent: Sent) -> str | None:
    """A timer fires only while it is open."""
    if event.position not in history.open_timers:
        return f"timer {event.position} fires, but {_tell_why_closed(event.position, history)}"
    return None


def check_timer_not_early(
    event: events.TimerFired, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A timer fires only when it is due, by the clock of the engine that writes it.

    Or when somebody completes it.
    """
    if event.completed:
        return None
    due = history.open_timers.get(event.position, 0.0)
    if due > step.change.at:
        return f"timer {event.position} fires {due - step.change.at:.6f} s early"
    return None


def check_timer_completed(
    event: events.TimerFired, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A timer is completed before its time only if a client wants that, and code waits for it."""
    if not event.completed:
        return None
    request = history.requests[event.position]
    if not isinstance(request, commands.StartTimer) or request.method is None:
        return f"timer {event.position} is completed, and is a limit: {request}"
    method_id = request.method or step.key.id
    for deduplication_id in step.change.deduplication_ids:
        found = sent.inputs.get(deduplication_id)
        asked = None if found is None else found.message
        if isinstance(asked, engine.CompleteTimers) and asked.method_id in ("", method_id):
            return None
    return f"timer {event.position} of method {method_id} is completed, and nobody has asked for it"


def check_timeout_not_early(
    event: events.TaskTimeout, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A total timeout is over only when it is due, by the clock of the engine that writes it."""
    due = history.timeouts.get(event.position)
    if due is None:
        return f"task {event.position} has no total timeout that is open"
    if due > step.change.at:
        return f"the total timeout of task {event.position} is over {due - step.change.at:.6f} s early"
    return None


def check_cancellation_was_sent(
    event: events.TaskCanceled, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A task is cancelled by its tag only if somebody has asked for that, and in this very step."""
    for deduplication_id in step.change.deduplication_ids:
        found = sent.inputs.get(deduplication_id)
        asked = None if found is None else found.message
        if isinstance(asked, engine.CancelTask) and (asked.run, asked.position) == (history.run, event.position):
            return None
    return f"task {event.position} is cancelled by a tag, and nobody has asked for it"


def check_result_was_sent(
    event: events.TaskResult, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A result is one that an executor has reported, with how its attempt went."""
    if event.local:
        return None
    if (bytes(event.value), event.execution) not in sent.results.get(event.position, ()):
        return f"nobody has sent this result of task {event.position}: {bytes(event.value)!r:.200}"
    return None


def check_failure_was_sent(
    event: events.TaskError, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A failure is one that was reported, or stands for a report that cannot be used."""
    position = event.position
    if event.local:
        return None
    if position not in sent.failures and position not in sent.results and position not in sent.garbled:
        return f"nobody has sent a failure of task {position}"
    return None


def check_local_in_step(
    event: events.TaskResult | events.TaskError | events.AttemptError,
    history: ObservedHistory,
    step: WrittenStep,
    sent: Sent,
) -> str | None:
    """An attempt runs as a local task only in the step that asks for the task."""
    if not event.local:
        return None
    for asked in step.events:
        if asked is event:
            break
        if isinstance(asked, commands.ScheduleTask) and asked.position == event.position:
            return None
    return f"task {event.position} ran as a local task, and this step has not asked for it before: {event}"


def check_settlement_was_sent(
    event: events.RemoteResult | events.RemoteError, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """What a child or a call has ended with is what was told, or stands for what cannot be used."""
    position = event.position
    if position in sent.garbled:
        return None
    told = sent.settlements.get(position, ())
    if isinstance(event, events.RemoteResult):
        wanted = any(each.status is RemoteStatus.COMPLETED and bytes(each.value) == bytes(event.value) for each in told)
    else:
        # A result that is too large for the storage becomes a failure.
        wanted = any(each.status in (event.status, RemoteStatus.COMPLETED) for each in told)
    return None if wanted else f"nobody has sent this end of what is asked for at position {position}: {event}"


def check_is_remote(
    event: events.RemoteResult | events.RemoteError, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """Only a child or a call ends so."""
    if event.position < len(history.requests):
        request = history.requests[event.position]
        if not isinstance(request, commands.StartChild | commands.CallRemote):
            return f"{event} is for {request}"
    return None


def check_last_attempt_failed(
    event: events.TaskError, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A task fails for good only by its attempt that was sent last."""
    position = event.position
    reported = sent.failures.get(position)
    if reported is None or position in sent.garbled or event.local:
        return None
    attempts = history.attempts.get(position, 0)
    sequence = history.sequences.get(position, 0)
    if not any(asked == sequence and (index is None or index == attempts) for asked, index in reported):
        return f"task {position} fails for good, but its attempt {attempts} was not reported as the last one"
    return None


def check_attempt_counted_once(
    event: events.AttemptError, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A failed attempt is the one that was sent last, and its executor wants another one."""
    position, attempts = event.position, history.attempts.get(event.position, 0)
    if position not in history.open_tasks:
        return f"attempt {attempts} of task {position} fails, but {_tell_why_closed(position, history)}"
    if not event.local and (position, history.sequences.get(position, 0), attempts) not in sent.delays:
        return f"attempt {attempts} of task {position} was not reported as failed, or its executor wants no other one"
    return None


def check_delegated_once(
    event: events.TaskHandedOver, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """A task is noted as delegated once for each attempt: the one that was sent last."""
    position, attempts = event.position, history.attempts.get(event.position, 0)
    if position not in history.open_tasks:
        return f"task {position} is delegated, but {_tell_why_closed(position, history)}"
    if position in history.delegated:
        return f"attempt {attempts} of task {position} is delegated twice"
    if (position, history.sequences.get(position, 0), attempts) not in sent.delegated:
        return f"attempt {attempts} of task {position} was not reported as delegated"
    return None


def check_delegated_goes_on(
    event: events.AttemptError, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """An attempt whose function has returned does not fail after that: others have its token."""
    if event.position in history.delegated:
        return f"task {event.position} is delegated, and is asked for once more"
    return None


def check_reopened_tasks(event: events.Reopened, history: ObservedHistory, step: WrittenStep, sent: Sent) -> str | None:
    """A task runs again only if it failed or was cancelled, with the next retry sequence."""
    for task in event.tasks:
        position = task.position
        if position >= len(history.requests) or position in history.open_tasks or position in history.results:
            return f"task {position} is asked for again, but it has not failed: {history.requests[position:][:1]}"
        if not task.canceled and position not in history.settled:
            return f"the failure of task {position} is undone, and it has none"
        asked = history.requests[position]
        if (getattr(asked, "timeout_at", None) is None) != (task.timeout_at is None):
            return f"task {position} gets a total timeout until {task.timeout_at}, and it was asked for as {asked}"
        follows = isinstance(asked, commands.StartChild | commands.CallRemote) and not task.canceled
        # What failed on another instance, and runs again there, is not asked for once more.
        if task.retry_sequence != history.sequences.get(position, 0) + (0 if follows else 1):
            return f"task {position} gets retry sequence {task.retry_sequence} after {history.sequences.get(position)}"
    for method_id in event.methods:
        if not isinstance(history.ends.get(method_id), commands.FailMethod):
            return f"method {method_id} is re-opened, and it has not failed: {history.ends.get(method_id)}"
    return None


_REOPENS = engine.RetryTasks | engine.RetryWorkflowTask | engine.ChildReopened


def check_rerun_of_failure(
    event: events.Reopened, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """Code runs again from where the first method failed, if nothing was asked for since."""
    if not event.rerun:
        return None
    if event.rerun != history.failed_in or history.main not in event.methods:
        return f"activation {event.rerun} runs again, and the first method failed in activation {history.failed_in}"
    if history.asked_since:
        return f"activation {event.rerun} runs again, and the code has asked for more since then"
    return None


def check_reopening_was_asked(
    event: events.Reopened, history: ObservedHistory, step: WrittenStep, sent: Sent
) -> str | None:
    """Nothing is re-opened unless an operator asks for it, once for each time."""
    asked = [sent.inputs.get(each) for each in step.change.deduplication_ids]
    waited = step.instance is not None and step.instance.head.probe is not None
    if not waited and not any(each is not None and isinstance(each.message, _REOPENS) for each in asked):
        return f"nobody has asked for this: {event}"
    return None


def _tell_why_closed(position: int, history: ObservedHistory) -> str:
    if position >= len(history.requests):
        return "nothing has asked for it"
    if position in history.settled:
        return f"it has a result in segment {history.settled[position]}"
    return f"it is not open: {history.requests[position]}"


def check_run_settled(event: events.RunStarted, history: ObservedHistory, step: WrittenStep, sent: Sent) -> str | None:
    """A run begins only if the one before has asked for it, and has nothing left to do."""
    if event.run != history.run + 1 or not history.continues:
        return f"run {event.run} begins, and run {history.run} has not asked for it"
    if history.open_tasks or history.unseen:
        return f"run {event.run} begins, and {sorted(history.open_tasks)} are open, {history.unseen} stimuli unseen"
    return None


Rule = Callable[[Any, ObservedHistory, WrittenStep, Sent], str | None]

_ASKED: tuple[tuple[str, Rule], ...] = (
    ("command-once", check_command_once),
    ("history-gapless", check_position_follows),
)
_ENDED: tuple[tuple[str, Rule], ...] = (("method-once", check_method_ends_once),)
_ONCE: tuple[str, Rule] = ("result-once", check_result_once)
_LOCAL: tuple[str, Rule] = ("local-in-step", check_local_in_step)
_REMOTE: tuple[tuple[str, Rule], ...] = (
    _ONCE,
    ("input-known", check_settlement_was_sent),
    ("history-gapless", check_is_remote),
)

EVENT_RULES: dict[type[Event], tuple[tuple[str, Rule], ...]] = {
    commands.ScheduleTask: _ASKED,
    commands.StartTimer: _ASKED,
    commands.RecordInline: _ASKED,
    commands.StartChild: _ASKED,
    commands.CallRemote: _ASKED,
    commands.SignalRemote: _ASKED,
    commands.CancelPosition: (("history-gapless", check_cancel_was_asked),),
    commands.CompleteMethod: _ENDED,
    commands.FailMethod: _ENDED,
    commands.CancelMethod: _ENDED,
    events.Activated: (("history-gapless", check_activation_follows), ("time-forward", check_time_forward)),
    events.RunStarted: (("run-settled", check_run_settled),),
    events.MethodStarted: (("method-once", check_method_starts_once),),
    events.TaskResult: (_ONCE, ("input-known", check_result_was_sent), _LOCAL),
    events.TaskError: (
        _ONCE,
        ("input-known", check_failure_was_sent),
        ("retry-counted", check_last_attempt_failed),
        _LOCAL,
    ),
    events.RemoteResult: _REMOTE,
    events.RemoteError: _REMOTE,
    events.TaskCanceled: (_ONCE, ("input-known", check_cancellation_was_sent)),
    events.TaskTimeout: (_ONCE, ("timer-not-early", check_timeout_not_early)),
    events.TimerFired: (
        ("timer-once", check_timer_once),
        ("timer-not-early", check_timer_not_early),
        ("input-known", check_timer_completed),
    ),
    events.TaskHandedOver: (("delegated-once", check_delegated_once),),
    events.AttemptError: (
        ("retry-counted", check_attempt_counted_once),
        ("delegated-once", check_delegated_goes_on),
        _LOCAL,
    ),
    events.Reopened: (
        ("reopened-failed", check_reopened_tasks),
        ("reopened-asked", check_reopening_was_asked),
        ("rerun-of-failure", check_rerun_of_failure),
    ),
}
"""The rules of each type of event, with their names."""
