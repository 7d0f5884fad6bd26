"""The two sides of the network: the processes on this one, broker and database on the far one."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Protocol, TypeVar

from infinitic.errors import UsageError

T = TypeVar("T")

FAR = Context()
"""Where all that happens on the way and on the far side runs. No process can be killed there."""


class HasConnections(Protocol):
    """What the network needs to know of a simulated process."""

    @property
    def name(self) -> str:
        """Names it in the calls of observers."""
        ...

    @property
    def is_alive(self) -> bool:
        """False once it is killed. What it still calls then goes nowhere."""
        ...

    def on_kill(self, callback: Callable[[], object], /) -> object:
        """Call a function when the process is killed: the broker sees that its connections end."""
        ...


class Server:
    """A broker or a database, as others can reach it.

    Attributes:
        is_up: False: nothing reaches it, and no reply comes from it.
        cuts: how often it became unreachable so far. A reply that was on its way then is lost.
    """

    __slots__ = ("_until", "_waiters", "cuts", "is_up")

    def __init__(self) -> None:
        self.is_up = True
        self.cuts = 0
        self._until = 0.0
        self._waiters: list[Callable[[], object]] = []

    def cut(self, seconds: float) -> None:
        """Become unreachable for a while. If it is already, it stays so for at least as long.

        Args:
            seconds: how long.
        """
        if self.is_up:
            self.is_up = False
            self.cuts += 1
        self._until = max(self._until, asyncio.get_running_loop().time() + seconds)
        run_far(seconds, self._come_up_in_time)

    def come_up(self) -> None:
        """Become reachable now, and call all that wait for it, in their order."""
        self.is_up = True
        self._until = 0.0
        waiters, self._waiters = self._waiters, []
        for callback in waiters:
            callback()

    def when_up(self, callback: Callable[[], object]) -> None:
        """Call a function as soon as it can be reached: now, if that is so."""
        if self.is_up:
            callback()
        else:
            self._waiters.append(callback)

    def _come_up_in_time(self) -> None:
        if not self.is_up and asyncio.get_running_loop().time() >= self._until:
            self.come_up()


class Path:
    """The path of one process to a server. It can be cut off while others reach the server.

    Args:
        server: where it leads to.

    Attributes:
        own: the path itself, which can be cut.
    """

    __slots__ = ("_server", "own")

    def __init__(self, server: Server) -> None:
        self._server = server
        self.own = Server()

    @property
    def is_up(self) -> bool:
        """False: nothing of this process reaches the server, and no reply comes from it."""
        return self._server.is_up and self.own.is_up

    @property
    def cuts(self) -> int:
        """How often it became impassable so far. A reply that was on its way then is lost."""
        return self._server.cuts + self.own.cuts

    def when_up(self, callback: Callable[[], object]) -> None:
        """Call a function as soon as the server can be reached: now, if that is so."""
        if self.is_up:
            callback()
        else:
            # Whichever of the two is down comes up first. Then the other one may be down.
            waited_for = self.own if self._server.is_up else self._server
            waited_for.when_up(partial(self.when_up, callback))


class Session(ABC):
    """What a process has on the far side. It is there even if the process never learns of it."""

    __slots__ = ()

    @abstractmethod
    def end(self) -> None:
        """End it on the far side, as if its process had died. Idempotent."""


def run_far(delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
    """Call a function later, on the far side.

    Args:
        delay: seconds.
        callback: called without arguments.
    """
    return asyncio.get_running_loop().call_later(delay, callback, context=FAR)


def run_at_once(call: Callable[[], Awaitable[T]]) -> T:
    """Run a call of an in-memory adapter, none of which suspends, and return its result.

    Raises:
        UsageError: it suspends.
    """
    steps = call().__await__()
    try:
        next(steps)
    except StopIteration as done:
        # The result of a coroutine is the value of this exception.
        result: T = done.value
        return result
    raise UsageError("The network needs adapters that do not wait, and this call waits")
