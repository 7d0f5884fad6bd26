"""An event listener of a user: called with batches of events, until each was handed over.

Events are acknowledged when the listener has returned. If it raises, it is called again with the
same events, later each time. Publishers know nothing of listeners. So one that is slow, fails or is
gone delays nobody: its subscription keeps the events.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, cast

from infinitic.runtime.backoff import compute_delay
from infinitic.runtime.event_listener.buffer import EventBatch, EventBuffer
from infinitic.runtime.event_listener.conversion import EventReader
from infinitic.runtime.event_listener.source import EventSource
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.wakeup import wake
from infinitic.topics import Topic

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

_logger = logging.getLogger("infinitic.events")

LONGEST_SECONDS = 30.0
"""The longest time until a listener that raises is called again."""

_Blocking = Callable[[Callable[[], object]], Awaitable[object]]
_Call = Callable[["list[CloudEvent]"], object]


class EventListener:
    """Calls the function of a user with events.

    Args:
        name: that of the listener.
        call: the function of the user, `def` or `async def`.
        subscription: the name of its subscription, on each topic.
        reader: decodes messages.
        publisher: declares topics, and publishes dead letters.
        max_events: how many events a call gets at most.
        max_seconds: how long an event waits for others, in seconds.
        blocking: runs a `def` function.
        close_blocking: called at the end; None: there is nothing to close.
    """

    def __init__(
        self,
        name: str,
        call: _Call,
        subscription: str,
        reader: EventReader,
        publisher: Publisher,
        *,
        max_events: int,
        max_seconds: float,
        blocking: _Blocking,
        close_blocking: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        self._call = call
        self._subscription = subscription
        self._reader = reader
        self._publisher = publisher
        self._prefetch = max_events
        self._buffer = EventBuffer(max_events, max_seconds)
        self._blocking = blocking
        self._close_blocking = close_blocking
        self._sources: dict[str, EventSource] = {}
        self._group: asyncio.TaskGroup | None = None
        self._receivers: list[asyncio.Task[None]] = []
        self._batch: EventBatch | None = None
        self._is_ending = False
        self._pause: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def topics(self) -> Iterable[str]:
        """The names of the topics that it listens to."""
        return self._sources

    @property
    def joined(self) -> bool:
        """True while it receives from all its topics."""
        return all(each.joined for each in self._sources.values())

    def count_held(self) -> Mapping[str, int]:
        """Count what is in memory and was not handed over."""
        return {"events": self._buffer.count + (0 if self._batch is None else len(self._batch.events))}

    def listen_to(self, topic: Topic) -> None:
        """Listen to one more topic, also while it runs."""
        if topic.name in self._sources:
            return
        source = EventSource(topic, self._subscription, self._publisher, self._reader, self._buffer, self._prefetch)
        self._sources[topic.name] = source
        if self._group is not None and not self._is_ending:
            self._receivers.append(self._group.create_task(source.run()))

    async def start(self) -> None:
        """Join the subscriptions."""
        for source in list(self._sources.values()):
            await source.join()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._worker = group.create_task(self._work())
            self._group = group
            self._receivers = [group.create_task(each.run()) for each in self._sources.values()]

    async def drain(self) -> None:
        """Take nothing more, hand over what was received, and leave.

        If the listener raises now, it is not called again: the events go back.
        """
        self._is_ending = True
        for each in self._receivers:
            each.cancel()
        wake(self._pause)
        if self._worker is not None:
            self._buffer.end()
            await asyncio.wait({self._worker})
        await self.close()

    async def close(self) -> None:
        """Give back what is in hand, and leave."""
        if self._close_blocking is not None:
            self._close_blocking()
        for source in self._sources.values():
            await source.close()

    def unfinished(self) -> str:
        """Say what is in hand, for the log. Empty if nothing is."""
        count = self.count_held()["events"]
        return f"event listener {self.name}: {count} events" if count else ""

    async def _work(self) -> None:
        while not self._is_ending or self._buffer.count:
            await self._buffer.wait_for_batch()
            batch = self._batch = self._buffer.take()
            if batch.events and not await self._hand_over(batch):
                return
            self._batch = None
            await self._acknowledge(batch)

    async def _hand_over(self, batch: EventBatch) -> bool:
        """Call the listener until it takes the events. False if it raises while the worker ends."""
        tries = 0
        while True:
            try:
                # A list of its own: the listener may change it, and get the same events again.
                await self._run(list(batch.events))
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                failure: BaseException = error
            except Exception as error:  # noqa: BLE001 (whatever it raises, it is called again)
                failure = error
            else:
                if tries:
                    _logger.warning("The event listener %s works again after %d failed calls", self.name, tries)
                return True
            tries += 1
            delay = compute_delay(tries, LONGEST_SECONDS)
            log = _logger.error if tries == 1 else _logger.debug
            log(
                "The event listener %s raised with %d events: it is called again with them, until it returns",
                self.name,
                len(batch.events),
                exc_info=failure,
            )
            if self._is_ending:
                return False
            await self._wait(delay)
            if self._is_ending:
                return False

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        pause = self._pause = loop.create_future()
        timer = loop.call_later(seconds, wake, pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pause = None

    async def _run(self, events: list[CloudEvent]) -> None:
        if inspect.iscoroutinefunction(self._call) or inspect.iscoroutinefunction(
            getattr(self._call, "__call__", None)  # noqa: B004 (an object with `async def __call__`)
        ):
            await cast("Awaitable[object]", self._call(events))
            return
        result = await self._blocking(lambda: self._call(events))
        if inspect.isawaitable(result):
            await result

    async def _acknowledge(self, batch: EventBatch) -> None:
        for name, source in self._sources.items():
            await source.ack([each.delivery for each in batch.done if each.source == name])
