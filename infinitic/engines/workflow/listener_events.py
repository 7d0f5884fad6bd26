"""What event listeners are told of the history of an instance, event by event.

Payloads are left out: arguments, results, signals and meta. Of an exception, the name and the
beginning of its text are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from infinitic import ids
from infinitic.engines.effects import TellListeners
from infinitic.engines.state import WorkflowHead
from infinitic.failures import fit_text
from infinitic.messages import commands, events
from infinitic.messages.cloud_events import TEXT_BYTES, EventData, EventType, format_time, make_error
from infinitic.messages.commands import CallRemote, ScheduleTask, StartChild
from infinitic.messages.events import Event
from infinitic.messages.outcomes import RemoteStatus, WorkflowStatus

_ENDED: Mapping[WorkflowStatus, EventType] = {
    # That it was terminated is in the history.
    WorkflowStatus.COMPLETED: EventType.WORKFLOW_COMPLETED,
    WorkflowStatus.FAILED: EventType.WORKFLOW_FAILED,
    WorkflowStatus.CANCELED: EventType.WORKFLOW_CANCELED,
}

_REMOTE_ENDS: Mapping[RemoteStatus, EventType] = {
    RemoteStatus.COMPLETED: EventType.WORKFLOW_REMOTE_METHOD_COMPLETED,
    RemoteStatus.FAILED: EventType.WORKFLOW_REMOTE_METHOD_FAILED,
    RemoteStatus.CANCELED: EventType.WORKFLOW_REMOTE_METHOD_CANCELED,
    RemoteStatus.UNKNOWN: EventType.WORKFLOW_REMOTE_METHOD_UNKNOWN,
    RemoteStatus.REFUSED: EventType.WORKFLOW_REMOTE_METHOD_UNKNOWN,
    RemoteStatus.TERMINATED: EventType.WORKFLOW_REMOTE_METHOD_FAILED,
}

Told = tuple[EventType, EventData]


def describe_transition(
    tell: TellListeners, head: WorkflowHead, segments: Mapping[int, Sequence[Event]]
) -> Iterator[Told]:
    """Describe what the segment of a transition holds, and what only its effect says.

    Args:
        tell: what the history does not say.
        head: the instance, after the transition.
        segments: that of the transition, and those to which its effects refer.
    """
    base = EventData(workflow_name=head.name, workflow_id=head.id, workflow_version=head.version, run=tell.run)
    started: events.Started | None = None
    if tell.retried:
        yield EventType.WORKFLOW_RETRY_EXECUTOR, base
    for event in segments.get(head.sequence, ()):
        if isinstance(event, events.Started):
            started = event
        elif isinstance(event, events.RunStarted):
            base = replace(base, run=event.run)
            yield EventType.WORKFLOW_RUN_STARTED, base
        elif isinstance(event, events.MethodStarted):
            yield _describe_call(event, head, base, started)
        elif isinstance(event, events.TaskTimeout):
            yield _describe_timeout(event.position, head, base, segments)
        elif (describe := _DESCRIBED.get(type(event))) is not None:
            yield from describe(event, head, base)
    if tell.ran is not None:
        yield EventType.WORKFLOW_EXECUTOR_COMPLETED, replace(base, activation=tell.ran)
    if tell.stalled is not None:
        yield EventType.WORKFLOW_EXECUTOR_FAILED, replace(base, reason=tell.stalled)
    if tell.ended is not None and tell.ended in _ENDED:
        yield _ENDED[tell.ended], base


def _describe_call(
    event: events.MethodStarted, head: WorkflowHead, base: EventData, started: events.Started | None
) -> Told:
    data = replace(base, method_name=event.method, method_id=event.method_id, by=event.by)
    if event.method_id != head.id:
        return EventType.WORKFLOW_DISPATCH_METHOD, data
    if started is not None:
        data = replace(data, tags=started.tags, custom_id=started.custom_id)
    return EventType.WORKFLOW_DISPATCH, data


def _describe_timeout(
    position: int, head: WorkflowHead, base: EventData, segments: Mapping[int, Sequence[Event]]
) -> Told:
    """Describe the end of a total timeout: what it was for is in one of the segments."""
    found: ScheduleTask | StartChild | CallRemote | None = None
    for happened in segments.values():
        for event in happened:
            if isinstance(event, ScheduleTask | StartChild | CallRemote) and event.position == position:
                found = event
    if found is None:
        return EventType.WORKFLOW_TASK_TIMED_OUT, _at_task(base, head, position)
    if isinstance(found, ScheduleTask):
        return EventType.WORKFLOW_TASK_TIMED_OUT, _of_request(base, head, found)
    return EventType.WORKFLOW_REMOTE_METHOD_TIMED_OUT, _of_remote(base, head, found)


def _at_task(base: EventData, head: WorkflowHead, position: int) -> EventData:
    return replace(base, position=position, task_id=ids.task_id(head.id, base.run, position))


def _of_request(base: EventData, head: WorkflowHead, request: ScheduleTask) -> EventData:
    data = _at_task(base, head, request.position)
    return replace(data, service_name=request.service, task_name=request.task, tags=request.tags)


def _of_remote(base: EventData, head: WorkflowHead, request: StartChild | CallRemote) -> EventData:
    data = replace(
        base,
        position=request.position,
        method_name=request.method,
        remote_workflow_name=request.workflow,
        custom_id=request.custom_id,
    )
    if isinstance(request, StartChild):
        child_id = ids.remote_id(head.id, base.run, request.position)
        return replace(data, remote_workflow_id=child_id, tags=request.tags)
    return replace(data, remote_workflow_id=request.workflow_id)


def _tell_signal(event: events.SignalReceived, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    data = replace(base, channel_name=event.channel, by=event.by)
    yield EventType.WORKFLOW_SIGNAL, data
    yield EventType.WORKFLOW_SIGNAL_RECEIVED, data


def _tell_cancel(event: events.CancelRequested, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    data = replace(base, method_id=event.method_id, by=event.by)
    yield EventType.WORKFLOW_CANCEL_METHOD if event.method_id else EventType.WORKFLOW_CANCEL, data


def _tell_task_result(event: events.TaskResult, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_TASK_COMPLETED, replace(_at_task(base, head, event.position), by=event.by)


def _tell_task_error(event: events.TaskError, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    data = replace(
        _at_task(base, head, event.position),
        error=make_error(event.failure.exception),
        worker_name=event.failure.worker_name,
        retry_sequence=event.failure.retry_sequence,
        retry_index=event.failure.retry_index,
    )
    yield EventType.WORKFLOW_TASK_FAILED, data


def _tell_task_canceled(event: events.TaskCanceled, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_TASK_CANCELED, replace(_at_task(base, head, event.position), by=event.by)


def _tell_task_request(event: ScheduleTask, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_TASK_DISPATCHED, _of_request(base, head, event)


def _tell_timer(event: commands.StartTimer, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    data = replace(base, position=event.position, due=format_time(event.due), method_id=event.method or "")
    yield EventType.WORKFLOW_TIMER_DISPATCHED, data


def _tell_timer_fired(event: events.TimerFired, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_TIMER_COMPLETED, replace(base, position=event.position)


def _tell_activated(event: events.Activated, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_EXECUTOR_DISPATCHED, replace(base, activation=event.number)


def _tell_remote_request(event: StartChild | CallRemote, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_REMOTE_METHOD_DISPATCHED, _of_remote(base, head, event)


def _tell_signal_request(event: commands.SignalRemote, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    data = replace(
        base,
        position=event.position,
        channel_name=event.channel,
        remote_workflow_name=event.workflow,
        remote_workflow_id=event.workflow_id,
        tag=event.tag,
        custom_id=event.custom_id,
    )
    yield EventType.WORKFLOW_SIGNAL_DISPATCHED, data


def _tell_remote_result(event: events.RemoteResult, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_REMOTE_METHOD_COMPLETED, replace(base, position=event.position)


def _tell_remote_error(event: events.RemoteError, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    error = None if event.failure is None else make_error(event.failure.exception)
    reason = event.reason or ("" if event.failure is not None else event.status.value)
    data = replace(base, position=event.position, error=error, reason=fit_text(reason, TEXT_BYTES))
    yield _REMOTE_ENDS[event.status], data


def _tell_completed(event: commands.CompleteMethod, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_METHOD_COMPLETED, replace(base, method_id=event.method_id)


def _tell_failed(event: commands.FailMethod, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    data = replace(base, method_id=event.method_id, error=make_error(event.failure.exception))
    yield EventType.WORKFLOW_METHOD_FAILED, data


def _tell_canceled(event: commands.CancelMethod, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_METHOD_CANCELED, replace(base, method_id=event.method_id)


def _tell_terminated(event: events.Abandoned, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    yield EventType.WORKFLOW_TERMINATED, replace(base, reason=fit_text(event.reason, TEXT_BYTES), by=event.by)


def _tell_reopened(event: events.Reopened, head: WorkflowHead, base: EventData) -> Iterator[Told]:
    if event.rerun:
        yield EventType.WORKFLOW_RETRY_EXECUTOR, replace(base, activation=event.rerun)
    for task in event.tasks:
        if not task.canceled:
            data = replace(_at_task(base, head, task.position), retry_sequence=task.retry_sequence)
            yield EventType.WORKFLOW_RETRY_TASK, data


_DESCRIBED: dict[type[Event], Callable[[Any, WorkflowHead, EventData], Iterator[Told]]] = {
    events.SignalReceived: _tell_signal,
    events.CancelRequested: _tell_cancel,
    events.TaskResult: _tell_task_result,
    events.TaskError: _tell_task_error,
    events.TaskCanceled: _tell_task_canceled,
    events.TimerFired: _tell_timer_fired,
    events.Activated: _tell_activated,
    events.RemoteResult: _tell_remote_result,
    events.RemoteError: _tell_remote_error,
    events.Abandoned: _tell_terminated,
    events.Reopened: _tell_reopened,
    ScheduleTask: _tell_task_request,
    commands.StartTimer: _tell_timer,
    StartChild: _tell_remote_request,
    CallRemote: _tell_remote_request,
    commands.SignalRemote: _tell_signal_request,
    commands.CompleteMethod: _tell_completed,
    commands.FailMethod: _tell_failed,
    commands.CancelMethod: _tell_canceled,
}
"""What is told by other means is not here, nor what only a replay needs."""
