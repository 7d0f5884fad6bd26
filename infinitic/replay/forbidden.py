"""Refuses what workflow code must not do: files, threads, processes, sockets.

Python tells of each such call by an *audit event*, before it happens. The hook looks at those of
which something is known here, and only in the thread in which the loop of a workflow runs:
elsewhere it costs a dictionary look-up, on the way of workflow code nothing. An event is let pass
if it is not the workflow's own doing: an import, a log record, a traceback, what the engine does,
what a finalizer does that happens to run then. In `inline` all is allowed.

What raises no event is not seen: looking whether a file exists, `send` and `recv` of a socket that
is open, `time.sleep` before Python 3.13, and extension modules that do their own system calls.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from infinitic.replay import places

_REFUSED: dict[str, tuple[str, str]] = {}
"""By audit event: what it is called in reports, and what to do instead."""


def _refuse(events: str, instead: str, what: str = "{}") -> None:
    for event in events.split():
        _REFUSED[event] = what.format(event), instead


_FILES = "Read and write files in a task of a service, or read a small one by self.inline(…), which remembers it"
_refuse("open", _FILES, "opening a file")
_refuse(
    """os.chdir os.chflags os.chmod os.chown os.fwalk os.getxattr os.link os.listdir os.listdrives os.listmounts
    os.listvolumes os.listxattr os.lockf os.mkdir os.remove os.removexattr os.rename os.rmdir os.scandir os.setxattr
    os.symlink os.truncate os.utime os.walk
    fcntl.fcntl fcntl.flock fcntl.ioctl fcntl.lockf glob.glob glob.glob/2 pathlib.Path.glob pathlib.Path.rglob
    shutil.chown shutil.copyfile shutil.copymode shutil.copystat shutil.copytree shutil.make_archive shutil.move
    shutil.rmtree shutil.unpack_archive tempfile.mkdtemp tempfile.mkstemp mmap.__new__""",
    _FILES,
)
_refuse("sqlite3.connect sqlite3.connect/handle", "Ask the database in a task of a service")
_refuse(
    "_thread.start_new_thread _thread.start_joinable_thread",
    "Workflow code runs in one thread: start coroutines by asyncio, or put it into a task of a service",
    "starting a thread",
)
_PROCESSES = "Start processes in a task of a service"
_refuse("subprocess.Popen", _PROCESSES, "starting a process")
_refuse(
    """os.exec os.fork os.forkpty os.kill os.killpg os.posix_spawn os.spawn os.startfile os.startfile/2 os.system
    pty.spawn webbrowser.open signal.pthread_kill""",
    _PROCESSES,
)
TALK = "Talk to others in a task of a service"
_refuse("socket.__new__", TALK, "opening a socket")
_refuse(
    """socket.bind socket.connect socket.getaddrinfo socket.gethostbyaddr socket.gethostbyname socket.gethostname
    socket.getnameinfo socket.getservbyname socket.getservbyport socket.sendmsg socket.sendto socket.sethostname
    http.client.connect http.client.send urllib.Request ftplib.connect ftplib.sendcmd imaplib.open imaplib.send
    nntplib.connect nntplib.putline poplib.connect poplib.putline smtplib.connect smtplib.send telnetlib.Telnet.open
    telnetlib.Telnet.write""",
    TALK,
)
SLEEP = "Wait by `await asyncio.sleep(…)`, which is a durable timer"
_refuse("time.sleep", SLEEP, "time.sleep()")
_refuse("builtins.input", "Ask people outside, and send the answer as a signal", "input()")
_refuse("os.putenv os.unsetenv", "Workflow code must not depend on the process it runs in", "changing os.environ")

# Whose frames on the way to a call say that the workflow is not to blame.
_TRUSTED = {
    *("importlib", "zipimport", "pkgutil", "logging", "warnings", "linecache", "traceback", "tokenize", "weakref"),
    *("pdb", "bdb", "cmd", "code", "pydevd", "_pydevd_bundle", "_pydevd_frame_eval", "debugpy", "coverage"),
    *("pytest", "_pytest", "structlog", "loguru", "logfire", "sentry_sdk", "opentelemetry", "ddtrace", "newrelic"),
    *("elasticapm", "prometheus_client"),
}
_LOCAL_TIME = ("/etc/localtime", "/usr/share/zoneinfo/", "/usr/lib/zoneinfo/", "/usr/share/lib/zoneinfo/")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_loop_class: type[Any] | None = None


def install(loop_class: type[Any]) -> None:
    """Refuse from now on, where a loop of this class runs.

    Only the first call does something: hooks are for ever.
    """
    global _loop_class
    if _loop_class is None:
        _loop_class = loop_class
        sys.addaudithook(_look_at)
        if sys.version_info < (3, 12):
            _tell_of_threads()


def _tell_of_threads() -> None:
    """Python 3.11 has no audit event of a new thread: raise that of later versions."""
    start: Callable[..., Any] = vars(threading)["_start_new_thread"]

    def start_new_thread(*args: Any) -> Any:
        sys.audit("_thread.start_new_thread", *args)
        return start(*args)

    setattr(threading, "_start_new_thread", start_new_thread)  # noqa: B010 (type checkers do not know it)


def _look_at(
    event: str,
    args: tuple[Any, ...],
    # Bound here: the hook is called until the very end of the process, when modules are gone.
    refused: dict[str, tuple[str, str]] = _REFUSED,
    running_loop: Callable[[], object] = asyncio._get_running_loop,
) -> None:
    if event in refused:
        loop: Any = running_loop()
        if type(loop) is _loop_class and not loop.runs_inline and not _is_harmless(event, args):
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # documented
            if is_own_doing(frame, loop.home):
                loop.home.refuse(*refused[event])


def _is_harmless(event: str, args: tuple[Any, ...]) -> bool:
    """True for reading what belongs to the code.

    That is: files of packages, of Python, of time zones, and a file that is open.
    """
    if event != "open":
        return False
    path, flags = args[0], args[2]
    if isinstance(path, int):
        return True
    if isinstance(flags, int) and flags & _WRITES:
        return False
    name = os.path.abspath(os.fsdecode(path))
    return places.is_installed(name) or name.startswith(_LOCAL_TIME) or name.startswith(_time_zones())


def _time_zones() -> tuple[str, ...]:
    return tuple(str(path) for path in getattr(sys.modules.get("zoneinfo"), "TZPATH", ()))


def is_own_doing(frame: FrameType | None, home: Any) -> bool:
    """True if the code of a workflow called what runs in a frame.

    Else somebody happens to run meanwhile: an import, a log record, a finalizer.

    Args:
        frame: the innermost frame.
        home: the instance whose loop runs.
    """
    root = home.spec.cls.__module__.partition(".")[0]
    seen = False  # a line of the workflow
    while frame is not None and not places.is_entrance(frame.f_code):
        code, package = frame.f_code, places.root_of(frame)
        if package in _TRUSTED or code.co_name == "__del__":
            return False
        if places.is_ours(code.co_filename):
            if not seen and code.co_qualname not in _CALLERS:
                return False  # the engine's doing
        elif package == root or not places.is_installed(code.co_filename):
            seen = True
        frame = frame.f_back
    return True


_CALLERS = ("Methods._run", "WorkflowLoop.enter", "make_object", "_tell_of_threads.<locals>.start_new_thread")
"""The engine's functions that call the code of a workflow, or that it calls."""
