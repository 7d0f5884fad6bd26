"""Inputs that the storage cannot take, where it takes less than the broker. They go alone: their instance goes on."""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines.workflow import InputResult
from infinitic.errors import ExceptionDetail, PayloadTooLargeError, TaskFailure
from infinitic.failures import qualified_name
from infinitic.messages import engine as inputs
from infinitic.messages.engine import Input
from infinitic.messages.events import Event, TaskError, TaskResult

_ERROR = qualified_name(PayloadTooLargeError)


def find_too_large(message: Input, taken: InputResult, size: int, limit: int) -> str | None:
    """Why this input, of `size` bytes, can never be written; None if it is no value that somebody gave.

    Failures are cut to fit where they are made, and what code asks for is bounded there.
    """
    if taken.events and isinstance(message, inputs.Start | inputs.CallMethod | inputs.Signal):
        return f"This message of {size:,} bytes is {_above(limit)}"
    return None


def without_large_results(taken: InputResult, size: int, limit: int, now: float) -> InputResult:
    """The same, with a task that failed in place of one whose result can never be written."""
    return replace(taken, events=tuple(_fit_event(event, size, limit, now) for event in taken.events))


def _fit_event(event: Event, size: int, limit: int, now: float) -> Event:
    if type(event) is not TaskResult:
        return event
    reason = f"The task returned, but the message with its result, of {size:,} bytes, is {_above(limit)}"
    return TaskError(event.position, TaskFailure(ExceptionDetail(_ERROR, reason), at=now))


def _above(limit: int) -> str:
    return f"above the limit of the storage of {limit:,} bytes"
