"""Simulated operating-system processes: a power cut, a pause, and what lives through them.

A process is a name that tasks carry in their context. All that they start belongs to it, too:
tasks, timers and callbacks. So the loop can hold back or drop all of them::

    process = Process("worker-1")
    process.start(run_worker())
    ...
    process.kill()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from infinitic.errors import UsageError
from infinitic_testing.loop.owners import find_current_process
from infinitic_testing.loop.remains import close_remains
from infinitic_testing.loop.virtual import VirtualLoop

T = TypeVar("T")


class Process:
    """A simulated process. It runs until it is killed.

    Args:
        name: any text. It appears in errors and traces.
        loop: where it runs. None: the loop that runs now.

    Raises:
        UsageError: there is no `loop`, and no `VirtualLoop` runs.
    """

    def __init__(self, name: str, *, loop: VirtualLoop | None = None) -> None:
        running = loop or asyncio._get_running_loop()
        if not isinstance(running, VirtualLoop):
            raise UsageError("A Process needs a VirtualLoop that runs, or one as its argument `loop`")
        self.name = name
        self.number = 0
        """Its number among the processes of the loop, from 1. Read only."""
        self.runs = True
        """False while it is paused, and after it was killed. Read only."""
        self.is_alive = True
        """False after `kill`. Read only."""
        self.is_paused = False
        """True from `pause` until `resume` or `kill`. Read only."""
        self._loop = running
        self._callbacks: list[Callable[[], object]] = []
        # What came for it while it was paused. After a kill: what the garbage collector must not
        # find before the loop is closed.
        self._held: list[asyncio.Handle] = []
        self._remains: list[Any] = []
        running.adopt(self)

    def start(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Run a coroutine in this process. Whatever it starts belongs to the process, too.

        Args:
            coro: the coroutine.
            name: the name of its task.

        Returns:
            Its task. If the process is killed, this task is never done. But somebody who waits for
            it can be cancelled, and then the task counts as cancelled.

        Raises:
            UsageError: the process was killed.
        """
        if not self.is_alive:
            coro.close()
            raise UsageError(f"The process {self.name!r} was killed: make a new one")
        return self._loop.start_task(coro, self, name)

    def on_kill(self, callback: Callable[[], object]) -> None:
        """Add a function that `kill` calls, in the order of adding. It must not raise.

        Args:
            callback: called without arguments, in the context of the caller of `kill`. For
                instance it tells the broker that the connection is lost.
        """
        self._callbacks.append(callback)

    def kill(self) -> None:
        """Cut the power. If it is cut already, nothing happens.

        No step, timer or callback of the process runs from now on. Its `finally` blocks do not run,
        and its objects are not finalized before the loop is closed. Who waits for one of its tasks
        waits for ever.

        A process may kill itself. Then the code that does so runs on until its next `await` that
        waits. Code at the edge of the process, such as a connection, has to look at `is_alive`
        there, and to await `halt`.
        """
        if self.is_alive:
            self.is_alive = self.runs = self.is_paused = False
            self._remains += self._loop.forget(self)
            for callback in self._callbacks:
                callback()
            self._callbacks.clear()

    def pause(self) -> None:
        """Stop the process as SIGSTOP does. Time goes on, and what comes for it has to wait.

        If it is paused or dead already, nothing happens. A process that pauses itself runs on until
        its next `await` that waits.
        """
        if self.is_alive:
            self.runs, self.is_paused = False, True

    def resume(self) -> None:
        """End the pause. All that became ready meanwhile runs now, in its order.

        These are also timers whose time came during the pause. Without a pause nothing happens.
        """
        if self.is_paused:
            self.runs, self.is_paused = True, False
            held, self._held = self._held, []
            self._loop.run_soon(held)

    async def halt(self) -> NoReturn:
        """Wait for ever. This is all that code of a killed process may do."""
        while True:
            await self._loop.create_future()

    def hold(self, handle: asyncio.Handle) -> None:
        """Keep a callback that may not run now. The loop calls this."""
        self._held.append(handle)

    def close_remains(self) -> None:
        """End what is left of a killed process. The loop calls this when it is closed."""
        remains = [*self._remains, *self._held]
        self._remains.clear()
        self._held.clear()
        close_remains(self, remains)
        # Clean-up may have started tasks. They never run.
        close_remains(self, self._loop.forget(self))

    def __repr__(self) -> str:
        state = "paused" if self.is_paused else "running" if self.is_alive else "killed"
        return f"<Process {self.name} {state}>"


def current_process() -> Process | None:
    """Return the process that the running code belongs to. None: it belongs to none.

    Futures, and callbacks of other processes, run in the process that registered the callback.
    """
    process = find_current_process()
    return process if isinstance(process, Process) else None
