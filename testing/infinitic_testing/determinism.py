"""Refuses calls in workflow code whose answer is another one at each call: the time, randomness, the environment.

In a simulation only: all calls of workflow code are looked at there, which costs too much for production. A call is
refused at the line of the workflow that leads to it, also through libraries; in `inline` all is allowed. What an
extension module calls by itself is not seen (a `default_factory=datetime.now` of pydantic, a generator of numpy).
"""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import time
import uuid
from types import CodeType, FrameType, ModuleType
from typing import Any

from infinitic.replay import places
from infinitic.replay.forbidden import SLEEP, is_own_doing
from infinitic.replay.loop import WorkflowLoop

_NOW = "Use self.now(), which replay repeats"
_RANDOM = "Use self.random or self.uuid4(), which replay repeats"
_ENVIRONMENT = "Read it once by self.inline(…), or where the module is imported"

_FUNCTIONS: dict[Any, str] = {
    **dict.fromkeys((time.time, time.time_ns), _NOW),  # noqa: TID251 (only to recognise them)
    os.urandom: _RANDOM,  # noqa: TID251 (as above)
    time.sleep: SLEEP,  # noqa: TID251 (as above)
}
_STOPWATCHES = {
    *(time.monotonic, time.monotonic_ns, time.perf_counter, time.perf_counter_ns),  # noqa: TID251 (as above)
    *(time.process_time, time.process_time_ns, time.thread_time, time.thread_time_ns),
}
"""What libraries measure with, for caches and metrics: theirs to use."""
if hasattr(os, "getrandom"):
    _FUNCTIONS[os.getrandom] = _RANDOM
_WATCHED = {*_FUNCTIONS, *_STOPWATCHES}
_DATES = ("now", "today", "utcnow")  # class methods of datetime, date, and what is derived from them
_GLOBAL: object = vars(random)["_inst"]  # the generator behind the functions of `random`
_UNSEEDED: CodeType = random.Random.__init__.__code__
_UUID1: CodeType = uuid.uuid1.__code__  # noqa: TID251 (as above; made of the clock and the machine)
_GET: CodeType = type(os.environ).__getitem__.__code__


def look_at(frame: FrameType, event: str, called: Any) -> None:
    """What `sys.setprofile` calls."""
    if event == "c_call":
        itself = getattr(called, "__self__", None)
        if itself.__class__ is ModuleType:  # a function, which is all that most calls are looked at for
            if called not in _WATCHED:
                return
        elif itself is not _GLOBAL and not isinstance(itself, type):
            return
        instead = _why_not(called)
        if instead is None and called in _STOPWATCHES and not places.is_installed(frame.f_code.co_filename):
            instead = _NOW
        if instead is not None:
            _refuse(frame, _name_of(called), instead)
    elif event == "call":
        code = frame.f_code
        if code is _GET:
            if _is_users_own(frame):
                _refuse(frame.f_back, "reading os.environ", _ENVIRONMENT)
        elif code is _UNSEEDED and frame.f_locals.get("x") is None:
            _refuse(frame.f_back, "random.Random() without a seed", _RANDOM)
        elif code is _UUID1:
            _refuse(frame, "uuid.uuid1()", _RANDOM)


def _why_not(called: Any) -> str | None:
    """What to use instead of a built-in function, None if there is nothing wrong with it."""
    itself = getattr(called, "__self__", None)
    if itself is _GLOBAL:
        return _RANDOM
    if isinstance(itself, type):
        return _NOW if issubclass(itself, datetime.date) and called.__name__ in _DATES else None
    return _FUNCTIONS.get(called)


def _refuse(frame: FrameType | None, name: str, instead: str) -> None:
    loop: Any = asyncio._get_running_loop()
    if type(loop) is WorkflowLoop and not loop.sealed and not loop.dead and is_own_doing(frame, loop.owner):
        loop.owner.refuse(_named_by(frame) or name, instead)


def _name_of(called: Any) -> str:
    if getattr(called, "__self__", None) is _GLOBAL:
        return f"random.{called.__name__}()"
    return f"{called.__module__}.{called.__qualname__}()" if called.__module__ else f"{called.__qualname__}()"


def _named_by(frame: FrameType | None) -> str | None:
    """The function of a library that the workflow has called, as in "uuid.uuid4()"; None if there is none."""
    name: str | None = None
    while frame is not None and places.is_installed(frame.f_code.co_filename):
        module: str = frame.f_globals.get("__name__", "")
        name = f"{module}.{frame.f_code.co_qualname.replace('Random.', '')}()"
        frame = frame.f_back
    return name


def _is_users_own(frame: FrameType) -> bool:
    """True if no library asks for a variable of the environment: those may."""
    caller = frame.f_back
    while caller is not None and caller.f_globals.get("__name__") in ("os", "_collections_abc", "collections.abc"):
        caller = caller.f_back
    return caller is not None and not places.is_installed(caller.f_code.co_filename)
