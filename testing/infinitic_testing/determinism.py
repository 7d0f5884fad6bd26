"""Refuses calls whose answer differs: the time, randomness, the environment, what sockets receive.

In a simulation only: all calls of workflow code are looked at there, which costs too much for production. A call is
refused at the line of the workflow that leads to it, also through libraries; in `inline` all is allowed. What an
extension module calls by itself is not seen (a `default_factory=datetime.now` of pydantic, a
generator of numpy), nor an argument of None for the time (`time.localtime(None)`).
"""

from __future__ import annotations

import asyncio
import datetime
import dis
import os
import random
import socket
import sys
import time
import uuid
from types import CodeType, FrameType, ModuleType
from typing import Any

from infinitic.replay import places
from infinitic.replay.forbidden import SLEEP, TALK, is_own_doing
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
    *(time.process_time, time.process_time_ns, time.thread_time, time.thread_time_ns, os.times),
}
"""What libraries measure with, for caches and metrics: theirs to use."""
_NEED = {time.localtime: 1, time.gmtime: 1, time.ctime: 1, time.asctime: 1, time.strftime: 2}
"""These take the time that it is unless they get so many arguments."""
if hasattr(os, "getrandom"):
    _FUNCTIONS[os.getrandom] = _RANDOM
if hasattr(time, "clock_gettime"):
    _FUNCTIONS.update(dict.fromkeys((time.clock_gettime, time.clock_gettime_ns), _NOW))
if "ssl" in sys.modules:
    _FUNCTIONS[sys.modules["ssl"].RAND_bytes] = _RANDOM
_WATCHED = {*_FUNCTIONS, *_STOPWATCHES, *_NEED}
# The class of the extension module, whose methods are called.
_SOCKET: type[Any] = socket.socket.__mro__[1]
_OWNERS = (type, _SOCKET)
_TALKS = {"recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "send", "sendall"}
_CALL = dis.opmap["CALL"]
_DATES = ("now", "today", "utcnow")  # class methods of datetime, date, and what is derived from them
_GLOBAL: object = vars(random)["_inst"]  # the generator behind the functions of `random`
_UNSEEDED: CodeType = random.Random.__init__.__code__
_UUID1: CodeType = uuid.uuid1.__code__  # noqa: TID251 (as above; made of the clock and the machine)
_READS: set[CodeType] = {
    each.__code__ for each in (type(os.environ).__getitem__, type(os.environ).__iter__, type(os.environ).__len__)
}


def look_at(frame: FrameType, event: str, called: Any) -> None:
    """What `sys.setprofile` calls."""
    if event == "c_call":
        itself = getattr(called, "__self__", None)
        if itself.__class__ is ModuleType:  # a function, which is all that most calls are looked at for
            if called not in _WATCHED:
                return
        elif itself is not _GLOBAL and not isinstance(itself, _OWNERS):
            return
        instead = _why_not(frame, called)
        if instead is None and called in _STOPWATCHES and not places.is_installed(frame.f_code.co_filename):
            instead = _NOW
        if instead is not None:
            _refuse(frame, _name_of(called), instead)
    elif event == "call":
        code = frame.f_code
        if code in _READS:
            if _is_users_own(frame):
                _refuse(frame.f_back, "reading os.environ", _ENVIRONMENT)
        elif code is _UNSEEDED and frame.f_locals.get("x") is None:
            _refuse(frame.f_back, "random.Random() without a seed", _RANDOM)
        elif code is _UUID1:
            _refuse(frame, "uuid.uuid1()", _RANDOM)


def _why_not(frame: FrameType, called: Any) -> str | None:
    """What to use instead of a built-in function that a frame calls. None: nothing is wrong."""
    itself = getattr(called, "__self__", None)
    if itself is _GLOBAL:
        return _RANDOM
    if isinstance(itself, type):
        return _NOW if issubclass(itself, datetime.date) and called.__name__ in _DATES else None
    if isinstance(itself, _SOCKET):
        return TALK if called.__name__ in _TALKS else None
    if called in _NEED:
        given = _arguments(frame)
        return _NOW if given is not None and given < _NEED[called] else None
    return _FUNCTIONS.get(called)


def _arguments(frame: FrameType) -> int | None:
    """How many arguments the call gives that a frame is at. None: unknown, as in `f(*args)`."""
    code, at = frame.f_code.co_code, frame.f_lasti
    return code[at + 1] if code[at] == _CALL else None


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
