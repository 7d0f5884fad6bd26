"""Runs what one test does in one simulation: its asynchronous fixtures, the test, what the fixtures clean up.

All of it is on one loop. A task of its own holds the simulation open between them, because a worker must be closed by
the task that has started it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from infinitic_testing.loop import VirtualLoop, cancel_leftovers

if TYPE_CHECKING:
    from infinitic_testing.simulation import Simulation

T = TypeVar("T")


class _Failed(Exception):
    """The test has failed: how its workflows replay is not looked at."""


class Runner:
    """One loop in virtual time for one simulation. Not for use where an event loop runs.

    `is_kept` says that something is to be run after the test: then the simulation is open until `close`.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.is_kept = False
        self._loop: VirtualLoop | None = None
        self._host: asyncio.Task[None] | None = None
        self._turn: asyncio.Future[asyncio.Task[object] | None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._failed = False
        self._is_dead = False

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run something in the simulation, which is started before the first one.

        Raises what that raises; `DeadlockError`; or what ended the worker of the simulation.
        """
        __tracebackhide__ = True
        loop, host = self._start()
        self._task = task = asyncio.ensure_future(awaitable, loop=loop)
        if host.done():  # the worker died while another part of the test ran
            task.cancel()
        else:
            assert self._turn is not None
            self._turn.set_result(task)
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            self._failed = True
            if self._is_dead or host.done():
                loop.run_until_complete(host)  # raises what ended the worker
            raise
        except BaseException:
            self._failed = True
            raise

    def run_test(self, awaitable: Awaitable[object]) -> None:
        """Run the test: the simulation is closed with it, unless a fixture still has to clean up."""
        __tracebackhide__ = True
        try:
            self.run(awaitable)
            if self.is_kept:
                self.run(self.simulation.check_replay())
        finally:
            if not self.is_kept:
                self.close()

    def close(self) -> None:
        """Close the simulation and the loop. Nothing happens if it is closed. Raises what the simulation raises."""
        __tracebackhide__ = True
        loop, host = self._loop, self._host
        if loop is None or loop.is_closed():
            return
        try:
            try:
                if host is not None and not host.done():
                    self._leave()
                    loop.run_until_complete(host)
            finally:
                cancel_leftovers(loop)
                loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _leave(self) -> None:
        assert self._turn is not None
        if self._turn.done():  # interrupted in the middle of a test
            assert self._host is not None
            self._host.cancel()
        elif self._failed:
            self._turn.set_exception(_Failed())
        else:
            self._turn.set_result(None)

    def _start(self) -> tuple[VirtualLoop, asyncio.Task[None]]:
        if self._loop is None:
            self._loop = VirtualLoop()
        if self._host is None:
            self._turn = self._loop.create_future()
            opened: asyncio.Future[None] = self._loop.create_future()
            self._host = self._loop.create_task(self._hold_open(opened), name="simulation")
            self._loop.run_until_complete(asyncio.wait([opened, self._host], return_when=asyncio.FIRST_COMPLETED))
            if self._host.done():
                self._host.result()
        return self._loop, self._host

    async def _hold_open(self, opened: asyncio.Future[None]) -> None:
        try:
            async with self.simulation:
                opened.set_result(None)
                await self._wait_for_end()
        except _Failed:
            pass

    async def _wait_for_end(self) -> None:
        """Wait until nothing is to be run any more. Cancelled, because the worker died, cancel what runs."""
        try:
            while True:
                assert self._turn is not None
                task = await self._turn
                if task is None:
                    return
                self._turn = asyncio.get_running_loop().create_future()
                await asyncio.wait([task])
        except asyncio.CancelledError:
            self._is_dead = True
            if self._task is not None:
                self._task.cancel()
            raise
