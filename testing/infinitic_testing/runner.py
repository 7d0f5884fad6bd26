"""Runs one test in one simulation: its async fixtures, the test, and the clean-up of the fixtures.

All of them run on one loop, one after the other. A task of its own, the host, holds the simulation
open meanwhile, because a worker must be closed by the task that started it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from infinitic_testing.loop import VirtualLoop, cancel_remaining_tasks

if TYPE_CHECKING:
    from infinitic_testing.simulation import Simulation

T = TypeVar("T")


class _TestFailed(Exception):
    """Ends the simulation of a failed test. The replay of its workflows is not checked."""


class Runner:
    """One loop in virtual time for one simulation. No event loop may run in this thread.

    Attributes:
        simulation: the simulation.
        is_kept: true if something is to be run after the test. Then the simulation stays open until
            `close`.
        virtual_seconds: how much virtual time has passed when `close` returns.
        trace_digest: then a digest of all steps of the loop; empty for a plain simulation.

    Args:
        simulation: a new one. The runner opens and closes it.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.is_kept = False
        self.virtual_seconds = 0.0
        self.trace_digest = ""
        self._loop: VirtualLoop | None = None
        self._host: asyncio.Task[None] | None = None
        # The host waits for it. Its result is the next task that the simulation stays open for, or
        # None: close the simulation.
        self._turn: asyncio.Future[asyncio.Task[object] | None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._failed = False
        self._is_dead = False

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run a coroutine in the simulation, and return its result. The first call opens it.

        Args:
            awaitable: a part of the test.

        Raises:
            DeadlockError: nothing can run, and no timer is left.
            Exception: what `awaitable` raises, or what ended the worker of the simulation.
        """
        __tracebackhide__ = True
        loop, host = self._start()
        self._let_host_take_turn(loop, host)
        self._task = task = asyncio.ensure_future(awaitable, loop=loop)
        if host.done():
            # The worker died while another part of the test ran.
            task.cancel()
        else:
            assert self._turn is not None
            self._turn.set_result(task)
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            self._failed = True
            if self._is_dead or host.done():
                # This raises the error that ended the worker.
                loop.run_until_complete(host)
            raise
        except BaseException:
            self._failed = True
            raise

    def run_test(self, awaitable: Awaitable[object]) -> None:
        """Run the test itself. Then close the simulation, unless a fixture still has to clean up.

        Args:
            awaitable: the coroutine of the test.

        Raises:
            NonDeterminismError: a workflow does not repeat its history.
            Exception: as `run`.
        """
        __tracebackhide__ = True
        try:
            self.run(awaitable)
            if self.is_kept:
                self.run(self.simulation.check_replay())
        finally:
            if not self.is_kept:
                self.close()

    def close(self) -> None:
        """Close the simulation and the loop. If they are closed already, nothing happens.

        Raises:
            Exception: what the simulation raises when it is closed.
        """
        __tracebackhide__ = True
        loop, host = self._loop, self._host
        if loop is None or loop.is_closed():
            return
        try:
            try:
                if host is not None and not host.done():
                    if self._task is not None and not self._task.done():
                        # Interrupted in the middle of a test.
                        self._task.cancel()
                    self._let_host_take_turn(loop, host)
                    self._end_host()
                    loop.run_until_complete(host)
            finally:
                cancel_remaining_tasks(loop)
                loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            self.virtual_seconds = loop.time()
            if not self.simulation.is_plain:
                self.trace_digest = loop.trace_digest()
            loop.close()

    def _let_host_take_turn(self, loop: VirtualLoop, host: asyncio.Task[None]) -> None:
        """Run until the host has taken the last turn.

        A short part of a test may end before the host runs: in a loop with choices, any order may
        come.
        """
        while self._turn is not None and self._turn.done() and not host.done():
            loop.run_until_complete(asyncio.sleep(0))

    def _end_host(self) -> None:
        if self._host is None or self._host.done():
            # It has ended by itself: it raises its error.
            return
        assert self._turn is not None
        if self._failed:
            self._turn.set_exception(_TestFailed())
        else:
            self._turn.set_result(None)

    def _start(self) -> tuple[VirtualLoop, asyncio.Task[None]]:
        if self._loop is None:
            plain = self.simulation.is_plain
            self._loop = VirtualLoop() if plain else VirtualLoop(choices=self.simulation.choices, trace=True)
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
        except _TestFailed:
            pass

    async def _wait_for_end(self) -> None:
        """Wait until nothing is left to run. If the worker dies, cancel what runs."""
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
