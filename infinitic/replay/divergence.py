"""Does today's code ask for what the history holds? And if not, a report that says where."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, cast

from infinitic.messages.commands import (
    CancelMethod,
    CancelPosition,
    Command,
    CompleteMethod,
    FailMethod,
    RecordInline,
    ScheduleTask,
    StartTimer,
)


class ReplayCheck(StrEnum):
    """How much of a command is compared with the history.

    none: its position. simple: its kind and name too. strict: its arguments and times too.
    """

    NONE = "none"
    SIMPLE = "simple"
    STRICT = "strict"


_LIBRARIES = (
    str(Path(__file__).parent.parent) + os.sep,
    str(Path(sys.modules["asyncio"].__file__ or "").parent) + os.sep,
    "<frozen",
)


def same(recorded: Command, requested: Command, check: ReplayCheck) -> bool:
    """True if the command that the code asks for is the one in the history, as far as `check` looks."""
    if check is ReplayCheck.NONE:
        return getattr(recorded, "position", None) == getattr(requested, "position", None)
    if type(recorded) is not type(requested):
        return False
    match recorded, requested:
        case ScheduleTask(), ScheduleTask():
            was = (recorded.position, recorded.service, recorded.task)
            if was != (requested.position, requested.service, requested.task):
                return False
            return check is ReplayCheck.SIMPLE or bytes(recorded.arguments) == bytes(requested.arguments)
        case StartTimer(), StartTimer():
            strict = check is ReplayCheck.STRICT
            return recorded.position == requested.position and (not strict or recorded.due == requested.due)
        case RecordInline(), RecordInline():
            return (recorded.position, recorded.name) == (requested.position, requested.name)
        case CancelPosition(), CancelPosition():
            return recorded.position == requested.position
        case _:
            return getattr(recorded, "method_id", None) == getattr(requested, "method_id", None)


def describe(command: Command | None) -> str:
    """A command in words."""
    match command:
        case None:
            return "nothing more"
        case ScheduleTask():
            return f"task {command.service}.{command.task}{_call(bytes(command.arguments))}"
        case StartTimer():
            return "a timer"
        case RecordInline():
            return f"inline {command.name}"
        case CancelPosition():
            return f"cancelling position {command.position}"
        case CompleteMethod():
            return f"the return of method {command.method_id}"
        case FailMethod():
            return f"the failure of method {command.method_id} ({command.failure.exception.name})"
        case CancelMethod():
            return f"the cancellation of method {command.method_id}"


def _call(arguments: bytes, longest: int = 100) -> str:
    text = arguments.decode(errors="replace")
    return f" with {text[:longest]}{'…' if len(text) > longest else ''}"


def source_line() -> str | None:
    """The line of workflow code that is running, as ``file:line in function``; None if there is none."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # documented
    while frame is not None and frame.f_code.co_qualname != "Instance.activate":  # what called that is no workflow code
        if is_user_code(frame.f_code.co_filename):
            return _line(frame)
        frame = frame.f_back
    return None


def line_of(coroutine: object) -> str | None:
    """The innermost line of user code at which a coroutine waits, None if it is all a library's."""
    found: str | None = None
    step: Any = coroutine
    while step is not None:
        frame: FrameType | None = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
        frame = frame or getattr(step, "ag_frame", None)
        if frame is not None and is_user_code(frame.f_code.co_filename):
            found = _line(frame)
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None) or getattr(step, "ag_await", None)
    return found


def raised_at(error: BaseException) -> str:
    """The innermost line of user code in the traceback of an exception."""
    found, traceback = "unknown line", error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if is_user_code(code.co_filename):
            found = f"{code.co_filename}:{traceback.tb_lineno} in {code.co_qualname}"
        traceback = traceback.tb_next
    return found


def is_user_code(path: str) -> bool:
    """True if a file is neither of this package nor of asyncio."""
    return not path.startswith(_LIBRARIES)


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


_FOREIGN = ("attached to a different loop", "is bound to a different event loop", "Task got bad yield")


def foreign_await(error: BaseException) -> BaseException | None:
    """What asyncio raised when the code awaited something of another loop: the error itself, or one behind or in it."""
    waiting: list[BaseException | None] = [error]
    seen = set[int]()
    for each in waiting:
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, RuntimeError) and any(text in str(each) for text in _FOREIGN):
            return each
        if isinstance(each, BaseExceptionGroup):
            waiting += cast("BaseExceptionGroup[BaseException]", each).exceptions
        waiting += (each.__cause__, each.__context__)
    return None
