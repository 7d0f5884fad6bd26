"""Does today's code ask for what the history holds? And if not, a report that says where."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType

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


PACKAGE = str(Path(__file__).parent.parent)
_ASYNCIO = str(Path(sys.modules["asyncio"].__file__ or "").parent)


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


def source_line() -> str:
    """The line of user code that is running, as ``file:line in function``."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # documented
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith((PACKAGE, _ASYNCIO)) and not path.startswith("<frozen"):
            return f"{path}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "unknown line"
