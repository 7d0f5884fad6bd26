"""Tracebacks that show lines of the user, and of Infinitic only where it is at fault."""

from __future__ import annotations

from types import FrameType, TracebackType
from typing import Any, TypeVar

from infinitic.errors import InfiniticError

E = TypeVar("E", bound=BaseException)

_OURS = {"infinitic", "infinitic_testing", "infinitic_storages", "infinitic_transports"}
_LIBRARIES = _OURS | {"asyncio", "anyio", "contextlib"}


def is_users(frame: FrameType) -> bool:
    """False for a frame of Infinitic, or of what it stands on."""
    return frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES


def waiting_frames(coroutine: object) -> list[tuple[FrameType, int, int]]:
    """Where a coroutine waits, outermost first: frames, each with its last instruction and its line."""
    found: list[tuple[FrameType, int, int]] = []
    step: Any = coroutine
    while step is not None:
        frame: FrameType | None = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
        frame = frame or getattr(step, "ag_frame", None)
        if frame is not None:
            found.append((frame, frame.f_lasti, frame.f_lineno))
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None) or getattr(step, "ag_await", None)
    return found


def traceback_of(coroutine: object) -> TracebackType | None:
    """A traceback of the user's lines at which a coroutine waits, as if each of them had raised."""
    found: TracebackType | None = None
    for frame, instruction, line in reversed(waiting_frames(coroutine)):
        if is_users(frame):
            found = TracebackType(found, frame, instruction, line)
    return found


def tidy(error: E) -> E:
    """Leave frames out of the traceback of an error, and return it.

    Of our own errors, which say what is wrong, only the lines of the user stay. Of others the way into the user's code
    goes, and all that comes after stays.
    """
    frames: list[TracebackType] = []
    step = error.__traceback__
    while step is not None:
        frames.append(step)
        step = step.tb_next
    if isinstance(error, InfiniticError):
        kept = [each for each in frames if is_users(each.tb_frame)]
    else:
        first = next((index for index, each in enumerate(frames) if is_users(each.tb_frame)), 0)
        kept = frames[first:]
    found: TracebackType | None = None
    for each in reversed(kept):
        found = TracebackType(found, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return error.with_traceback(found)


def shows_nothing(error: BaseException) -> bool:
    """True for an error of ours that no line of a test has raised: its traceback is our own and pytest's."""
    step = error.__traceback__
    while step is not None:
        if is_users(step.tb_frame) and not _is_pytests(step.tb_frame):
            return False
        step = step.tb_next
    return isinstance(error, InfiniticError)


def _is_pytests(frame: FrameType) -> bool:
    root = frame.f_globals.get("__name__", "").partition(".")[0]
    return root in ("_pytest", "pluggy", "pytest_asyncio", "hypothesis", "_hypothesis_pytestplugin")
