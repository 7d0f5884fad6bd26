"""Functions that workflow code calls once.

What came of them is recorded, and given again in replay.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from infinitic import ids
from infinitic.codec.values import ValueCodec, value_codec
from infinitic.definitions.home import Home
from infinitic.definitions.service_contract import result_hint
from infinitic.errors import (
    PayloadError,
    PayloadTooLargeError,
    RegistrationError,
    TaskFailedError,
    TaskFailure,
    UsageError,
)
from infinitic.failures import describe, qualified_name
from infinitic.limits import MAX_VALUE_DEPTH, describe_too_deep, is_deeper
from infinitic.messages.commands import RecordInline
from infinitic.messages.outcomes import MethodFailure, find_cause, fit_method
from infinitic.replay.loop import WorkflowLoop
from infinitic.replay.recorder import INLINE, RECORD, Recorder

_REFUSALS = {qualified_name(cls): cls for cls in (UsageError, PayloadError, PayloadTooLargeError, RegistrationError)}


def call_once(
    home: Home,
    loop: WorkflowLoop,
    recorder: Recorder,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a function once and record what came of it; in replay, give what was recorded.

    Args:
        home: the instance.
        loop: its loop.
        recorder: records the result.
        function: a plain function.
        args: its positional arguments.
        kwargs: its other arguments.

    Raises:
        TaskFailedError: the function raised.
        UsageError: it is not a plain function, or it used the workflow.
        PayloadError: its result cannot be encoded, or is too large.
    """
    name = getattr(function, "__qualname__", type(function).__qualname__)
    codec = value_codec(result_hint(function))
    position = recorder.next_position()
    command = RecordInline(position, name)
    if recorder.replaying:
        recorded = recorder.next_recorded()
        if isinstance(recorded, RecordInline):
            command = RecordInline(position, name, recorded.value, recorded.failure)
    else:
        command = _run(loop, recorder, command, codec, function, args, kwargs)
    recorder.record(command)
    if command.failure is None:
        return codec.decode(bytes(recorder.decode_payload(command.value)))
    failure = command.failure.exception
    refusal = _REFUSALS.get(failure.name)
    if refusal is not None:
        raise refusal(failure.message)
    task_id = ids.task_id(home.id, home.run, position)
    raise TaskFailedError("inline", name, task_id, TaskFailure(failure, at=loop.now))


def _run(
    loop: WorkflowLoop,
    recorder: Recorder,
    command: RecordInline,
    codec: ValueCodec,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> RecordInline:
    budget = recorder.budget
    recorder.mode, loop.runs_inline = INLINE, True
    try:
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value):
            value.close()
            raise UsageError(f"inline takes a plain function; {command.name} is a coroutine function: use a task")
        data = recorder.encode_payload(codec.encode(value))
        what = f"The result of inline {command.name}"
        if is_deeper(data, MAX_VALUE_DEPTH):
            raise PayloadTooLargeError(describe_too_deep(what))
        refusal = budget.count(what, len(data), is_call=False)
        if refusal is not None:
            raise PayloadTooLargeError(refusal)
        recorder.check_together()
        return RecordInline(command.position, command.name, Raw(data))
    except Exception as error:  # noqa: BLE001 (recorded, whatever it is)
        failure = MethodFailure(describe(error), find_cause(error))
        if budget.limits is not None:
            failure = fit_method(failure, budget.limits.call)
        return RecordInline(command.position, command.name, failure=failure)
    finally:
        recorder.mode, loop.runs_inline = RECORD, False
