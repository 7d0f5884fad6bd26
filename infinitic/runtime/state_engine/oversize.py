"""Inputs that are too large for the storage, where it takes less than the broker.

The instance goes on without them.
"""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines.workflow import InputResult
from infinitic.errors import ExceptionDetail, PayloadTooLargeError, TaskFailure
from infinitic.failures import qualified_name
from infinitic.messages import engine as inputs
from infinitic.messages.engine import Input
from infinitic.messages.events import Event, RemoteError, RemoteResult, TaskError, TaskResult
from infinitic.messages.outcomes import MethodFailure, RemoteStatus

_ERROR = qualified_name(PayloadTooLargeError)


def find_too_large(message: Input, result: InputResult, size: int, limit: int) -> str | None:
    """Say why an input can never be written; None if it holds no value that somebody gave.

    Failures are cut to fit where they are made, and what code asks for is bounded there.

    Args:
        message: the input.
        result: what came of it.
        size: its bytes.
        limit: how many bytes the storage can take.
    """
    if result.events and isinstance(message, inputs.Start | inputs.CallMethod | inputs.Signal):
        return f"This message of {size:,} bytes is {_describe_limit(limit)}"
    return None


def drop_large_results(result: InputResult, size: int, limit: int, now: float) -> InputResult:
    """Make a task, child or call fail whose result can never be written.

    Args:
        result: what came of the input with the result.
        size: the bytes of the input.
        limit: how many bytes the storage can take.
        now: seconds since the Unix epoch.
    """
    return replace(result, events=tuple(_fit_event(event, size, limit, now) for event in result.events))


def _fit_event(event: Event, size: int, limit: int, now: float) -> Event:
    if type(event) is RemoteResult:
        reason = f"The method returned, but the message with its result, of {size:,} bytes, is {_describe_limit(limit)}"
        return RemoteError(event.position, RemoteStatus.FAILED, MethodFailure(ExceptionDetail(_ERROR, reason)))
    if type(event) is not TaskResult:
        return event
    reason = f"The task returned, but the message with its result, of {size:,} bytes, is {_describe_limit(limit)}"
    return TaskError(event.position, TaskFailure(ExceptionDetail(_ERROR, reason), at=now))


def _describe_limit(limit: int) -> str:
    return f"above the limit of the storage of {limit:,} bytes"
