"""Why something did not complete, as data: part of messages and of the history."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec.structs import replace

from infinitic.bounds import NoName, Whole
from infinitic.errors import (
    ChannelClosedError,
    DeferredError,
    ExceptionDetail,
    RequestRefusedError,
    TaskCanceledError,
    TaskFailedError,
    TaskFailure,
    TaskTimedOutError,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowTerminatedError,
    WorkflowTimedOutError,
    WorkflowUnknownError,
)
from infinitic.failures import SMALLEST, fit

MAX_CAUSES = 20
"""Exceptions of a chain that are looked at."""


class WorkflowStatus(StrEnum):
    """What has become of an instance or of one of its methods."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    TERMINATED = "terminated"


class RemoteStatus(StrEnum):
    """What has become of a child, or of a method that was called on another instance."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    UNKNOWN = "unknown"
    """There is no such instance, or it is closed."""
    REFUSED = "refused"
    """The request went to the dead letters."""
    TERMINATED = "terminated"


class CauseKind(StrEnum):
    """Which `DeferredError` it was."""

    TASK_FAILED = "task_failed"
    TASK_TIMED_OUT = "task_timed_out"
    TASK_CANCELED = "task_canceled"
    WORKFLOW_FAILED = "workflow_failed"
    WORKFLOW_TIMED_OUT = "workflow_timed_out"
    WORKFLOW_CANCELED = "workflow_canceled"
    WORKFLOW_UNKNOWN = "workflow_unknown"
    CHANNEL_CLOSED = "channel_closed"
    WORKFLOW_TERMINATED = "workflow_terminated"
    REQUEST_REFUSED = "request_refused"


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `DeferredError` as data.

    Attributes:
        kind: which error it is.
        name: that of the service, workflow or channel.
        method: the name of the task or method; empty for a channel.
        id: that of the task or workflow; empty for a channel.
        last_failure: why a task failed.
        failure: why a workflow failed.
        cause: the error behind the failure of a workflow.
        limit: that of a receiver.
        reason: why a workflow was terminated, or a request refused.
    """

    kind: CauseKind
    name: str
    method: NoName = ""
    id: str = ""
    last_failure: TaskFailure | None = None
    failure: ExceptionDetail | None = None
    cause: Cause | None = None
    limit: Whole = 0
    reason: str = ""


class MethodFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a method of a workflow raised, and the `DeferredError` behind it, if there is one."""

    exception: ExceptionDetail
    cause: Cause | None = None


_KINDS: dict[type[DeferredError], CauseKind] = {
    TaskFailedError: CauseKind.TASK_FAILED,
    TaskTimedOutError: CauseKind.TASK_TIMED_OUT,
    TaskCanceledError: CauseKind.TASK_CANCELED,
    WorkflowFailedError: CauseKind.WORKFLOW_FAILED,
    WorkflowTimedOutError: CauseKind.WORKFLOW_TIMED_OUT,
    WorkflowCanceledError: CauseKind.WORKFLOW_CANCELED,
    WorkflowUnknownError: CauseKind.WORKFLOW_UNKNOWN,
    ChannelClosedError: CauseKind.CHANNEL_CLOSED,
    WorkflowTerminatedError: CauseKind.WORKFLOW_TERMINATED,
    RequestRefusedError: CauseKind.REQUEST_REFUSED,
}


def find_cause(error: BaseException) -> Cause | None:
    """Find the first `DeferredError` in an exception and those behind it. Returns it as data."""
    seen = 0
    current: BaseException | None = error
    while current is not None and seen < MAX_CAUSES:
        if isinstance(current, DeferredError):
            return _to_cause(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        seen += 1
    return None


def _to_cause(error: DeferredError) -> Cause | None:
    kind = next((_KINDS[cls] for cls in type(error).__mro__ if cls in _KINDS), None)
    match error:
        case TaskFailedError():
            return Cause(
                CauseKind.TASK_FAILED,
                error.service_name,
                error.method_name,
                error.task_id,
                error.last_failure,
            )
        case TaskTimedOutError() | TaskCanceledError() if kind is not None:
            return Cause(kind, error.service_name, error.method_name, error.task_id)
        case WorkflowFailedError():
            nested = _to_cause(error.cause) if error.cause is not None else None
            return Cause(
                CauseKind.WORKFLOW_FAILED,
                error.workflow_name,
                error.method_name,
                error.workflow_id,
                failure=error.failure,
                cause=nested,
            )
        case WorkflowTimedOutError() | WorkflowCanceledError() | WorkflowUnknownError() if kind is not None:
            return Cause(kind, error.workflow_name, error.method_name, error.workflow_id)
        case WorkflowTerminatedError():
            return Cause(
                CauseKind.WORKFLOW_TERMINATED,
                error.workflow_name,
                error.method_name,
                error.workflow_id,
                reason=error.reason,
            )
        case ChannelClosedError():
            return Cause(CauseKind.CHANNEL_CLOSED, error.channel_name, limit=error.limit)
        case RequestRefusedError():
            return Cause(
                CauseKind.REQUEST_REFUSED,
                error.workflow_name,
                error.method_name,
                error.workflow_id,
                reason=error.reason,
            )
        case _:
            return None


def make_error(cause: Cause) -> DeferredError:
    """Make the `DeferredError` that a cause stands for."""
    match cause.kind:
        case CauseKind.TASK_FAILED:
            failure = cause.last_failure or TaskFailure(ExceptionDetail("", ""))
            return TaskFailedError(cause.name, cause.method, cause.id, failure)
        case CauseKind.WORKFLOW_FAILED:
            nested = make_error(cause.cause) if cause.cause is not None else None
            detail = cause.failure or ExceptionDetail("", "")
            error = WorkflowFailedError(cause.name, cause.method, cause.id, detail, nested)
            # So a traceback shows all of them.
            error.__cause__ = nested
            return error
        case CauseKind.CHANNEL_CLOSED:
            return ChannelClosedError(cause.name, cause.limit)
        case CauseKind.TASK_TIMED_OUT:
            return TaskTimedOutError(cause.name, cause.method, cause.id)
        case CauseKind.TASK_CANCELED:
            return TaskCanceledError(cause.name, cause.method, cause.id)
        case CauseKind.WORKFLOW_TIMED_OUT:
            return WorkflowTimedOutError(cause.name, cause.method, cause.id)
        case CauseKind.WORKFLOW_CANCELED:
            return WorkflowCanceledError(cause.name, cause.method, cause.id)
        case CauseKind.WORKFLOW_UNKNOWN:
            return WorkflowUnknownError(cause.name, cause.method, cause.id)
        case CauseKind.WORKFLOW_TERMINATED:
            return WorkflowTerminatedError(cause.name, cause.method, cause.id, cause.reason)
        case CauseKind.REQUEST_REFUSED:
            return RequestRefusedError(cause.name, cause.method, cause.id, cause.reason)


def fit_method(failure: MethodFailure, limit: int) -> MethodFailure:
    """Cut the failure of a method until it fits.

    Its parts are cut as `failures.fit` does. If that is not enough, the causes are left out, the
    deepest first.

    Args:
        failure: what is cut.
        limit: bytes of JSON that it may have, 4,096 or more.
    """
    share = limit
    while _measure(failure) > limit:
        share = max(share // 2, SMALLEST)
        failure = MethodFailure(fit(failure.exception, share), _fit_cause(failure.cause, share))
        if share == SMALLEST:
            break
    while _measure(failure) > limit and failure.cause is not None:
        failure = replace(failure, cause=_drop_deepest(failure.cause))
    return failure


def _measure(failure: MethodFailure) -> int:
    return len(msgspec.json.encode(failure))


def _fit_cause(cause: Cause | None, limit: int) -> Cause | None:
    if cause is None:
        return None
    return replace(
        cause,
        last_failure=None if cause.last_failure is None else fit(cause.last_failure, limit),
        failure=None if cause.failure is None else fit(cause.failure, limit),
        cause=_fit_cause(cause.cause, limit),
    )


def _drop_deepest(cause: Cause) -> Cause | None:
    return None if cause.cause is None else replace(cause, cause=_drop_deepest(cause.cause))
