"""Runs the components of a worker, and drains them (rule S40).

To drain is to take nothing more, to finish what runs, and to hand the rest back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from infinitic.runtime.lifecycle.ending import Ending

_logger = logging.getLogger("infinitic.worker")


class Component(Protocol):
    """One consumer of a worker."""

    @property
    def joined(self) -> bool:
        """True while it receives what it is there for."""
        ...

    def count_held(self) -> Mapping[str, int]:
        """Count what is in memory for work that is not done. All is 0 once everything is done."""
        ...

    async def start(self) -> None:
        """Join the subscription. From here on messages are taken as soon as `run` runs."""
        ...

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    async def drain(self) -> None:
        """Take nothing more, finish what runs, and leave."""
        ...

    async def close(self) -> None:
        """Leave at once, and give back what is in hand."""
        ...


class Supervisor:
    """Starts components, also while others run, and ends them together.

    One that fails ends them all.

    Args:
        ending: the time that is left for the end.

    Attributes:
        on_failure: called when a component has failed: somebody has to end the others.
    """

    def __init__(self, ending: Ending | None = None) -> None:
        self._ending = ending or Ending()
        self._components: list[Component] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._started = False
        self._draining = False
        self.on_failure: Callable[[], object] | None = None

    @property
    def ready(self) -> bool:
        """True while all that was there at the start is subscribed, until the end."""
        return self._started and all(each.joined for each in self._components)

    def count_held(self) -> Mapping[str, int]:
        """Count what all components hold, see `Component.count_held`."""
        held = Counter[str]()
        for component in self._components:
            held.update(component.count_held())
        return held

    @property
    def failure(self) -> BaseException | None:
        """Why a component has failed, None if none has."""
        failed = self._failed
        return failed.exception() if failed is not None and failed.done() and not failed.cancelled() else None

    @property
    def running(self) -> bool:
        """True between the begin of `start` and the end."""
        return self._failed is not None

    async def start(self, components: list[Component]) -> None:
        """Start components. All of them are subscribed when this returns.

        Raises:
            Exception: what the start of a component raises.
        """
        if self._failed is None:
            self._failed = asyncio.get_running_loop().create_future()
        for component in components:
            await component.start()
            self._components.append(component)
            task = asyncio.get_running_loop().create_task(component.run(), name=f"infinitic {type(component).__name__}")
            self._tasks.add(task)
            task.add_done_callback(self._on_end)
        self._started = True

    def start_soon(self, components: list[Component]) -> asyncio.Task[None]:
        """Start more components in a task. If they cannot be started, all have to end."""
        task = asyncio.get_running_loop().create_task(self.start(components))
        task.add_done_callback(self._on_start)
        return task

    def _on_start(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.leave(error)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if self._failed is None or self._draining or self._failed.done():  # the worker ends already
            _logger.error("%s failed while the worker ended", task.get_name(), exc_info=error)
        else:
            self.leave(error)

    def leave(self, reason: BaseException) -> None:
        """Have `wait` raise an error: all components have to end, whether one has failed or not."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(reason)
            if self.on_failure is not None:
                self.on_failure()

    async def wait(self, stop: asyncio.Future[None]) -> None:
        """Wait until the worker is to stop.

        Args:
            stop: done when somebody wants it to stop.

        Raises:
            BaseException: what a component raises, or what `leave` was given.
        """
        assert self._failed is not None
        await asyncio.wait({stop, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            self._failed.result()

    async def drain(self, grace: float) -> None:
        """Drain all components, then stop what is left.

        Args:
            grace: seconds that they have.
        """
        components, self._components = self._components, []
        self._draining = True
        self._ending.begin(grace)
        in_hand = "; ".join(told for each in components if (told := _describe_unfinished(each)))
        _logger.info("Draining, at most %g s: %s", round(grace, 2), in_hand or "nothing runs")
        try:
            late = await self._ending.call_all({each: each.drain for each in reversed(components)}, grace)
            if late:
                left = ", ".join(map(_describe, late))
                _logger.warning(
                    "Not everything was finished within %g s, the rest is handed back: %s", round(grace, 2), left
                )
            else:
                _logger.info("Drained: everything is finished or handed back")
        finally:
            await self._stop(components)

    async def kill(self) -> None:
        """Stop at once. What is in hand goes back to the broker."""
        components, self._components = self._components, []
        self._draining = True
        self._ending.begin(0.0)
        await self._stop(components)

    async def _stop(self, components: list[Component]) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self._ending.seconds / 2)  # the rest is for closing
            late = await self._ending.call_all({each: each.close for each in components}, self._ending.seconds)
            for each in late:
                self._ending.leave(_describe(each))
        finally:
            if self._failed is not None and self._failed.done() and not self._failed.cancelled():
                self._failed.exception()
            self._failed = None
            self._started = False


def _describe_unfinished(component: Component) -> str:
    """What a component has in hand, for the log. Empty if that is nothing, or not known."""
    tell: Callable[[], str] | None = getattr(component, "unfinished", None)
    return "" if tell is None else tell()


def _describe(component: Component) -> str:
    return _describe_unfinished(component) or f"{type(component).__name__} {getattr(component, 'name', '')}".rstrip()
