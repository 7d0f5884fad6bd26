"""Where blocking code runs: in threads, or inline where time is virtual.

A thread cannot be stopped from outside. If its caller is cancelled, the thread is *abandoned*: it
is counted until its function returns, and the log says where it is. Threads are daemons, so none of
them keeps the process from ending.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from queue import SimpleQueue

from infinitic.errors import InfiniticError
from infinitic.runtime.wakeup import wake

_logger = logging.getLogger("infinitic.executor")

Blocking = Callable[[Callable[[], object]], Awaitable[object]]
"""Runs a plain function that may block, and returns what it returns."""

IDLE_SECONDS = 10.0
"""A thread without work ends after this time, when another one is given work."""


async def inline(function: Callable[[], object]) -> object:
    """Run it here and now: for simulation, where nothing may happen beside the loop."""
    return function()


class _Call:
    """A function that runs in a thread, for a future of a loop."""

    __slots__ = ("abandoned", "function", "future", "loop")

    def __init__(self, function: Callable[[], object], loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.loop = loop
        self.future: asyncio.Future[object] = loop.create_future()
        self.abandoned = False


class Threads:
    """Runs blocking functions in daemon threads, each in a thread of its own. It is a `Blocking`.

    A call never waits for a free thread, as it would in a pool with a limit. The caller decides how
    many run at once, and looks at `abandoned` for that.

    Args:
        name: the name of the service, for the log.

    Attributes:
        abandoned: how many threads still run whose caller was cancelled.
    """

    def __init__(self, name: str) -> None:
        self.abandoned = 0
        self._name = name
        self._idle: deque[tuple[float, _Thread]] = deque()
        self._fewer: asyncio.Future[None] | None = None
        self._closed = False

    async def __call__(self, function: Callable[[], object]) -> object:
        """Run a function in a thread, and return what it returns.

        Cancelling this does not stop the function.

        Args:
            function: what to run. What it needs of context variables, it has to bring along.

        Raises:
            BaseException: what the function raises, also `SystemExit`.
        """
        loop = asyncio.get_running_loop()
        call = _Call(function, loop)
        thread = self._idle.pop()[1] if self._idle else _Thread(self._name, self._ended)
        while self._idle and self._idle[0][0] < loop.time() - IDLE_SECONDS:
            self._idle.popleft()[1].end()
        thread.run(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            if call.future.cancelled():
                call.abandoned = True
                self.abandoned += 1
                _logger.warning(
                    "%s: a thread goes on although its attempt is over (%d such now). It cannot be stopped: a task "
                    "that runs long has to look at `is_cancelled`. It is at:\n%s",
                    self._name,
                    self.abandoned,
                    thread.stack(),
                )
            raise

    async def wait_for_fewer(self) -> None:
        """Return when the function of an abandoned thread has ended."""
        self._fewer = asyncio.get_running_loop().create_future()
        await self._fewer

    def close(self) -> None:
        """End the threads. One that runs a function ends after it."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].end()

    def _ended(self, thread: _Thread, call: _Call, result: object, error: BaseException | None) -> None:
        if self._closed:
            thread.end()
        else:
            self._idle.append((call.loop.time(), thread))
        if call.abandoned:
            self.abandoned -= 1
            wake(self._fewer)
        if call.future.done():
            return
        if error is None:
            call.future.set_result(result)
        elif isinstance(error, StopIteration):  # a future takes none
            wrapped = InfiniticError("The function raised StopIteration")
            wrapped.__cause__ = error
            call.future.set_exception(wrapped)
        else:
            call.future.set_exception(error)


class _Thread:
    """A daemon thread that runs one call after another."""

    def __init__(self, name: str, ended: Callable[[_Thread, _Call, object, BaseException | None], object]) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._ended = ended
        self._thread = threading.Thread(target=self._work, name=f"infinitic {name}", daemon=True)
        self._thread.start()

    def run(self, call: _Call) -> None:
        """Run this next."""
        self._calls.put(call)

    def end(self) -> None:
        """End once there is nothing to run."""
        self._calls.put(None)

    def stack(self) -> str:
        """Where it is, as text."""
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # documented
        frame = frames.get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else "  it has not begun\n"

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            result: object = None
            raised: BaseException | None = None
            try:
                result = call.function()
            except BaseException as error:  # noqa: BLE001 (handed on to who awaits it, also SystemExit)
                raised = error
            try:
                call.loop.call_soon_threadsafe(self._ended, self, call, result, raised)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del call, result, raised  # they are not kept while there is nothing to do
