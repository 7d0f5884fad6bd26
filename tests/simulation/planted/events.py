"""Bugs of events and listeners: events that are lost, told too early, or told otherwise again."""

from __future__ import annotations

from importlib import import_module
from itertools import count
from typing import Any

from msgspec.structs import replace

from infinitic import topics
from infinitic.runtime.event_listener.buffer import EventBatch, EventBuffer
from infinitic.runtime.event_listener.listener import EventListener
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.report_publisher import ReportPublisher
from infinitic.runtime.state_engine.deciding import Deciding
from tests.simulation.planted.planting import Part, Planter, bug

EVENTS = "events"
_TAKEOVER = import_module("infinitic.runtime.state_engine.takeover")
_ANNOUNCING = import_module("infinitic.engines.workflow.announcing")
_CLOSING = import_module("infinitic.runtime.state_engine.closing")


@bug(EVENTS)
def events_not_repeated(planter: Planter) -> None:
    """Whoever takes an instance over does not publish the events of its last step again."""

    @planter.wrap(_TAKEOVER, "read_outbox")
    async def read(original: Part, *args: Any) -> Any:
        return [each for each in await original(*args) if not topics.is_for_listeners(each.topic)]


@bug(EVENTS)
def events_before_commit(planter: Planter) -> None:
    """A step publishes its events before it is written."""

    @planter.wrap(Deciding, "decide")
    async def decide(original: Part, self: Any, waiting: Any) -> Any:
        decided = await original(self, waiting)
        told = [out for step in decided for out in step.outgoing if topics.is_for_listeners(out.topic)]
        await Publisher(self._transport).publish(told)
        return decided


@bug(EVENTS)
def event_ids_change(planter: Planter) -> None:
    """An event gets another id each time that it is published."""
    numbers = count()

    @planter.wrap(_ANNOUNCING, "encode_event")
    def encode(original: Part, event_id: str, *args: Any) -> Any:
        return original(f"{event_id}/{next(numbers)}", *args)


@bug(EVENTS)
def end_without_event(planter: Planter) -> None:
    """Listeners are not told that an instance has closed."""

    @planter.wrap(_CLOSING, "announce")
    def announce(original: Part, before: Any, transition: Any, *, ran: Any) -> Any:
        if transition.head.closed_at is not None:
            return transition
        return original(before, transition, ran=ran)


@bug(EVENTS)
def report_before_event(planter: Planter) -> None:
    """The end of an attempt is reported first, and told to listeners after that."""

    @planter.wrap(ReportPublisher, "publish")
    async def publish(original: Part, self: Any, works: Any) -> Any:
        done = await self._publish_reports(works)
        await self._announcer.tell_reports(works)
        return done


@bug(EVENTS)
def acknowledged_before_listener(planter: Planter) -> None:
    """Events are acknowledged before the listener has taken them."""

    @planter.wrap(EventListener, "_hand_over")
    async def hand_over(original: Part, self: Any, batch: EventBatch) -> Any:
        await self._acknowledge(batch)
        return await original(self, batch)


@bug(EVENTS)
def listener_called_once(planter: Planter) -> None:
    """A listener that raises is not called again with the same events."""

    @planter.wrap(EventListener, "_run")
    async def run(original: Part, self: Any, events: Any) -> None:
        try:
            await original(self, events)
        except ConnectionError:
            return


@bug(EVENTS)
def part_of_message_is_all(planter: Planter) -> None:
    """A message is acknowledged when a part of its events was handed over."""

    @planter.wrap(EventBuffer, "take")
    def take(original: Part, self: Any) -> EventBatch:
        batch: EventBatch = original(self)
        if self._waiting and self._waiting[0].handed:
            cut = self._waiting.popleft()
            self.count -= len(cut.events) - cut.handed
            return replace(batch, done=[*batch.done, cut])
        return batch
