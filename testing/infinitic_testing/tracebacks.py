"""Tracebacks that show lines of the user. Lines of Infinitic stay only where it is at fault."""

from __future__ import annotations

from types import FrameType, TracebackType
from typing import Any, TypeVar

from infinitic.errors import InfiniticError

E = TypeVar("E", bound=BaseException)

_OURS = {"infinitic", "infinitic_testing", "infinitic_storages", "infinitic_transports"}
_LIBRARIES = _OURS | {"asyncio", "anyio", "contextlib", "_pytest", "pluggy"}


def is_user_frame(frame: FrameType) -> bool:
    """False for a frame of Infinitic, of asyncio, anyio, contextlib or pytest."""
    return frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES


def find_waiting_frames(coroutine: object) -> list[tuple[FrameType, int, int]]:
    """Find where a coroutine waits: frame, instruction and line of each call, outermost first."""
    found: list[tuple[FrameType, int, int]] = []
    step: Any = coroutine
    while step is not None:
        frame: FrameType | None = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
        frame = frame or getattr(step, "ag_frame", None)
        if frame is not None:
            found.append((frame, frame.f_lasti, frame.f_lineno))
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None) or getattr(step, "ag_await", None)
    return found


def make_traceback(coroutine: object) -> TracebackType | None:
    """Make a traceback of the user's lines at which a coroutine waits, as if they had raised."""
    found: TracebackType | None = None
    for frame, instruction, line in reversed(find_waiting_frames(coroutine)):
        if is_user_frame(frame):
            found = TracebackType(found, frame, instruction, line)
    return found


def shorten_traceback(error: E) -> E:
    """Remove frames from the traceback of an error, and return the error.

    Our own errors say what is wrong, so only the user's lines stay. For other errors, the frames
    before the first line of the user are removed, and all after it stay.
    """
    frames: list[TracebackType] = []
    step = error.__traceback__
    while step is not None:
        frames.append(step)
        step = step.tb_next
    if isinstance(error, InfiniticError):
        kept = [each for each in frames if is_user_frame(each.tb_frame)]
    else:
        first = next((index for index, each in enumerate(frames) if is_user_frame(each.tb_frame)), 0)
        kept = frames[first:]
    found: TracebackType | None = None
    for each in reversed(kept):
        found = TracebackType(found, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return error.with_traceback(found)


def has_no_user_frame(error: BaseException) -> bool:
    """True for an error of Infinitic whose traceback has only frames of libraries and pytest."""
    step = error.__traceback__
    while step is not None:
        if is_user_frame(step.tb_frame) and not _is_pytest_frame(step.tb_frame):
            return False
        step = step.tb_next
    return isinstance(error, InfiniticError)


def _is_pytest_frame(frame: FrameType) -> bool:
    root = frame.f_globals.get("__name__", "").partition(".")[0]
    return root in ("pytest_asyncio", "hypothesis", "_hypothesis_pytestplugin")
