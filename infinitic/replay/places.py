"""Which line of the user's code is it? For reports: the innermost line that no library has written.

Code of the user is what is not installed (in site-packages, or with Python), or is of the package
that was called first: whoever deploys workflows as a package has them in site-packages, too.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_HOME = str(Path(__file__).parent.parent) + os.sep
_NEVER = (_HOME, str(Path(sys.modules["asyncio"].__file__ or "").parent) + os.sep, "<frozen")
_STANDARD = str(Path(os.__file__).parent) + os.sep
_PACKAGES = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)

LISTED = 10
"""How many lines at which code waits are listed at most."""


def is_user_code(path: str) -> bool:
    """True if a file is neither of this package nor of asyncio."""
    return not path.startswith(_NEVER)


def is_ours(path: str) -> bool:
    """True if a file is of this package."""
    return path.startswith(_HOME)


def is_installed(path: str) -> bool:
    """True if a file came with Python or with a package."""
    return path.startswith(_STANDARD) or any(folder in path for folder in _PACKAGES)


def root_of(frame: FrameType) -> str:
    """The name of the package that a frame's code is of."""
    name: object = frame.f_globals.get("__name__")
    return name.partition(".")[0] if isinstance(name, str) else ""


def is_entrance(code: CodeType) -> bool:
    """True for the engine code that calls workflow code. No frame outside it is workflow code."""
    return code.co_qualname in ("WorkflowLoop.run_ready", "Instance.activate", "Instance.query") and is_ours(
        code.co_filename
    )


def _pick_line(places: Iterable[tuple[FrameType, int]]) -> str | None:
    """The innermost line of the user, of frames from the inside out, each with its line."""
    found = [
        (frame, line)
        for frame, line in places
        if is_user_code(frame.f_code.co_filename) and root_of(frame) != "infinitic_testing"
    ]
    # What a decorator has generated, as that of dataclasses, is in no file.
    found = [place for place in found if not place[0].f_code.co_filename.startswith("<")] or found
    if not found:
        return None
    root = root_of(found[-1][0])
    for frame, line in found:
        if not is_installed(frame.f_code.co_filename) or root_of(frame) == root:
            return f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
    return None


def find_running_line() -> str | None:
    """The line of workflow code that is running; None if there is none.

    In the form ``file:line in function``.
    """
    places: list[tuple[FrameType, int]] = []
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # documented
    while frame is not None and not is_entrance(frame.f_code):
        places.append((frame, frame.f_lineno))
        frame = frame.f_back
    return _pick_line(places)


def find_waiting_line(coroutine: object) -> str | None:
    """The innermost line of user code at which a coroutine waits.

    None if all its code is that of libraries.
    """
    places: list[tuple[FrameType, int]] = []
    step: Any = coroutine
    while step is not None:
        frame: FrameType | None = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
        frame = frame or getattr(step, "ag_frame", None)
        if frame is not None:
            places.append((frame, frame.f_lineno))
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None) or getattr(step, "ag_await", None)
    return _pick_line(reversed(places))


def find_raising_line(error: BaseException) -> str:
    """The innermost line of user code in the traceback of an exception."""
    places: list[tuple[FrameType, int]] = []
    traceback = error.__traceback__
    while traceback is not None:
        places.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return _pick_line(reversed(places)) or "unknown line"


def list_waiting_lines(pending: Sequence[asyncio.Task[Any]], last: asyncio.Task[Any] | None) -> str:
    """The line at which the last task waits; if that is unknown, those of all that are not done."""
    tasks = [last] if last is not None and find_waiting_line(last.get_coro()) else pending
    lines = [line for task in tasks if (line := find_waiting_line(task.get_coro())) is not None]
    return ", ".join(dict.fromkeys(lines[:LISTED])) or "an unknown line"
