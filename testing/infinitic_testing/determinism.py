"""Refuses calls in workflow code whose answer is not the same in a replay.

These are the time, randomness, environment variables, and what sockets receive. A call is refused
at the line of the workflow that leads to it, also if a library makes it. Inside `inline`, all calls
are allowed.

This works in simulations only: it looks at each call that workflow code makes, which costs too much
in production. Two things it does not see: calls that an extension module makes by itself (such as a
`default_factory=datetime.now` of pydantic, or a generator of numpy), and a time that is given as
None (`time.localtime(None)`).
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
"""Libraries measure with these, for caches and metrics. They may; workflow code may not."""
_ARGUMENTS_NEEDED = {time.localtime: 1, time.gmtime: 1, time.ctime: 1, time.asctime: 1, time.strftime: 2}
"""With fewer arguments than this, these functions use the current time."""
if hasattr(os, "getrandom"):
    _FUNCTIONS[os.getrandom] = _RANDOM
if hasattr(time, "clock_gettime"):
    _FUNCTIONS.update(dict.fromkeys((time.clock_gettime, time.clock_gettime_ns), _NOW))
if "ssl" in sys.modules:
    _FUNCTIONS[sys.modules["ssl"].RAND_bytes] = _RANDOM
_WATCHED = {*_FUNCTIONS, *_STOPWATCHES, *_ARGUMENTS_NEEDED}
# The base class of `socket.socket` from the extension module: its methods are what is called.
_SOCKET: type[Any] = socket.socket.__mro__[1]
_OWNERS = (type, _SOCKET)
_SOCKET_METHODS = {"recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "send", "sendall"}
_CALL = dis.opmap["CALL"]
# Class methods of datetime, date, and the classes derived from them.
_DATES = ("now", "today", "utcnow")
# The generator behind the functions of the module `random`.
_GLOBAL: object = vars(random)["_inst"]
_UNSEEDED: CodeType = random.Random.__init__.__code__
# Made of the clock and the machine.
_UUID1: CodeType = uuid.uuid1.__code__  # noqa: TID251 (as above)
_READS: set[CodeType] = {
    each.__code__ for each in (type(os.environ).__getitem__, type(os.environ).__iter__, type(os.environ).__len__)
}


def check_call(frame: FrameType, event: str, called: Any) -> None:
    """Refuse one call, if its answer may differ in a replay. `sys.setprofile` calls this.

    Args:
        frame: the caller at "c_call", the called function at "call".
        event: "call" for a Python function, "c_call" for a built-in one. Others are ignored.
        called: the built-in function, at "c_call".
    """
    if event == "c_call":
        itself = getattr(called, "__self__", None)
        if itself.__class__ is ModuleType:
            # A function of a module. Most calls end here, so this test comes first.
            if called not in _WATCHED:
                return
        elif itself is not _GLOBAL and not isinstance(itself, _OWNERS):
            return
        instead = _find_replacement(frame, called)
        if instead is None and called in _STOPWATCHES and not places.is_installed(frame.f_code.co_filename):
            instead = _NOW
        if instead is not None:
            _refuse(frame, _name_builtin(called), instead)
    elif event == "call":
        code = frame.f_code
        if code in _READS:
            if _comes_from_user(frame):
                _refuse(frame.f_back, "reading os.environ", _ENVIRONMENT)
        elif code is _UNSEEDED and frame.f_locals.get("x") is None:
            _refuse(frame.f_back, "random.Random() without a seed", _RANDOM)
        elif code is _UUID1:
            _refuse(frame, "uuid.uuid1()", _RANDOM)


def _find_replacement(frame: FrameType, called: Any) -> str | None:
    """Say what to use instead of a built-in function. None: the call is allowed."""
    itself = getattr(called, "__self__", None)
    if itself is _GLOBAL:
        return _RANDOM
    if isinstance(itself, type):
        return _NOW if issubclass(itself, datetime.date) and called.__name__ in _DATES else None
    if isinstance(itself, _SOCKET):
        return TALK if called.__name__ in _SOCKET_METHODS else None
    if called in _ARGUMENTS_NEEDED:
        given = _count_arguments(frame)
        return _NOW if given is not None and given < _ARGUMENTS_NEEDED[called] else None
    return _FUNCTIONS.get(called)


def _count_arguments(frame: FrameType) -> int | None:
    """Count the arguments of the call that a frame makes. None: unknown, as in `f(*args)`."""
    code, at = frame.f_code.co_code, frame.f_lasti
    return code[at + 1] if code[at] == _CALL else None


def _refuse(frame: FrameType | None, name: str, instead: str) -> None:
    loop: Any = asyncio._get_running_loop()
    if type(loop) is WorkflowLoop and not loop.runs_inline and not loop.dead and is_own_doing(frame, loop.home):
        loop.home.refuse(_name_library_call(frame) or name, instead)


def _name_builtin(called: Any) -> str:
    if getattr(called, "__self__", None) is _GLOBAL:
        return f"random.{called.__name__}()"
    return f"{called.__module__}.{called.__qualname__}()" if called.__module__ else f"{called.__qualname__}()"


def _name_library_call(frame: FrameType | None) -> str | None:
    """Name the library function that the workflow called, such as "uuid.uuid4()". None: none."""
    name: str | None = None
    while frame is not None and places.is_installed(frame.f_code.co_filename):
        module: str = frame.f_globals.get("__name__", "")
        name = f"{module}.{frame.f_code.co_qualname.replace('Random.', '')}()"
        frame = frame.f_back
    return name


def _comes_from_user(frame: FrameType) -> bool:
    """True if the user's code reads a variable of the environment. Libraries may read them."""
    caller = frame.f_back
    while caller is not None and caller.f_globals.get("__name__") in ("os", "_collections_abc", "collections.abc"):
        caller = caller.f_back
    return caller is not None and not places.is_installed(caller.f_code.co_filename)
