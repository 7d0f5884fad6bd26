"""Checks what event listeners are told: all that is committed, nothing else, the same each time."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infinitic import ids
from infinitic.engines.effects import TellListeners
from infinitic.engines.workflow.announcing import render_events
from infinitic.engines.workflow.render import find_referenced_segments
from infinitic.errors import DecodingError
from infinitic.messages import cloud_events, engine, events
from infinitic.messages.cloud_events import EventType
from infinitic.storage import StateKey
from infinitic.storage.integrity import check_segment
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic.worker.listeners import Listener
from infinitic_testing.invariants.book import RunBook
from infinitic_testing.invariants.instances import WrittenStep

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

LONGEST = 1024 * 1024
"""Bytes of a message, for what is rendered here. Events do not depend on it."""


class _Heard:
    """A listener, and what it was told.

    Args:
        types: the types that it gets; None: all.
    """

    def __init__(self, types: frozenset[str] | None) -> None:
        self.types = types
        self.ids: dict[tuple[str, str], None] = {}
        self.expected: dict[tuple[str, str], str] = {}


class ListenerChecks:
    """Checks events, from the commit to the listener.

    Args:
        book: what is known of the run.
    """

    def __init__(self, book: RunBook) -> None:
        self._book = book
        self._listeners: dict[str, _Heard] = {}
        # By source and id: the type, and the content with which it was first published.
        self._committed: dict[tuple[str, str], str] = {}
        self._published: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._ends: set[tuple[str, str]] = set()
        self._unpublished: dict[StateKey, dict[tuple[str, str], None]] = {}

    @property
    def is_used(self) -> bool:
        """True if there is a listener."""
        return bool(self._listeners)

    def watch(self, name: str, listener: Listener, types: frozenset[str] | None) -> Listener:
        """Wrap a listener, to note what it has taken: what it was called with when it returned."""
        heard = self._listeners[name] = _Heard(types)

        async def call(told: list[CloudEvent]) -> None:
            found = listener(told)
            if inspect.isawaitable(found):
                await found
            for event in told:
                heard.ids[event.get_source(), event.get_id()] = None

        return call

    def note_commit(self, step: WrittenStep) -> None:
        """Note what a step tells listeners, and that the one before has been told."""
        if step.change.segment is None:  # only a flag or a waiter is written
            return
        left = self._unpublished.pop(step.key, None)
        if left is not None:
            wrong = f"the next step is written, and events of the last one are not published: {list(left)}"
            self._book.judge("events-published", wrong if left else None, step.key)
        if not any(isinstance(each, TellListeners) for each in step.outbox):
            return
        wanted: dict[tuple[str, str], None] = {}
        for topic, event in self._render(step):
            at = (event.attributes["source"], event.attributes["id"])
            self._committed[at] = event.type
            wanted[at] = None
            self._expect(topic, at, event.type)
        self._unpublished[step.key] = wanted

    def check_mark(self, key: StateKey) -> None:
        """Check that all events of an instance are published, when that is said of its outbox."""
        left = self._unpublished.get(key)
        if left is not None:
            wrong = f"it is marked as published, and events are not: {list(left)}" if left else None
            self._book.judge("events-published", wrong, key)

    def _render(self, step: WrittenStep) -> list[tuple[Topic, cloud_events.DecodedEvent]]:
        tell = next(each for each in step.outbox if isinstance(each, TellListeners))
        segments = {step.head.sequence: step.events}
        missing = find_referenced_segments(step.outbox, step.head.sequence - 1)
        if missing:
            for segment in self._book.database.history(step.key, sequences=sorted(missing), limit=len(missing)):
                segments[segment.sequence] = events.decode(check_segment(step.key, segment).events)
        outgoing = render_events(tell, step.outbox, step.head, segments, step.change.at, LONGEST)
        return [(each.topic, event) for each in outgoing for event in cloud_events.decode(each.message.body)]

    def _expect(self, topic: Topic, at: tuple[str, str], type: str) -> None:
        there = self._book.broker.stats(topic).subscriptions
        for name, heard in self._listeners.items():
            if f"listener:{name}" in there and (heard.types is None or type in heard.types):
                heard.expected[at] = type

    def publish(self, who: str, topic: Topic, message: Message) -> None:
        """Check events that the broker has accepted."""
        try:
            told = cloud_events.decode(message.body)
        except DecodingError:
            return
        for event in told:
            at = (event.attributes["source"], event.attributes["id"])
            is_task = topic.name.startswith("service-events:") and event.type != EventType.TASK_DISPATCH
            if not is_task:
                wrong = f"{who} publishes {at}, which is in no step that is written"
                self._book.judge("event-known", None if self._committed.get(at) == event.type else wrong)
                content = {**event.attributes, **event.data}
                first = self._published.setdefault(at, content)
                changed = f"{at} is published as {content}, and was {first}"
                self._book.judge("event-stable", None if first == content else changed)
            elif event.type != EventType.TASK_STARTED:
                self._ends.add((str(event.attributes.get("subject")), event.type))
                self._expect(topic, at, event.type)
        for left in self._unpublished.values():
            for event in told:
                left.pop((event.attributes["source"], event.attributes["id"]), None)

    def check_report(self, who: str, key: StateKey, report: engine.Input) -> None:
        """Check that the end of an attempt was told before it is reported."""
        if not self._listeners or not isinstance(report, engine.TaskCompleted | engine.AttemptFailed):
            return
        task_id = ids.task_id(key.id, report.run, report.position)
        is_end = isinstance(report, engine.TaskCompleted)
        wanted = EventType.TASK_COMPLETED if is_end else EventType.TASK_RETRY_SCHEDULED
        wrong = f"{who} reports an attempt of {task_id}, and has not told listeners before: {wanted}"
        self._book.judge("event-before-report", None if (task_id, wanted) in self._ends else wrong, key)

    def check_healed(self) -> None:
        """Check that each listener was told of all that has happened since it first subscribed."""
        for name, heard in self._listeners.items():
            missing = [at for at in heard.expected if at not in heard.ids]
            wrong = f"the listener {name} was never told of {len(missing)} events: {missing[:5]}" if missing else None
            self._book.judge("events-heard", wrong)
            unknown = [at for at in heard.ids if at not in self._committed and not _is_of_task(at)]
            wrong = f"the listener {name} was told of what never happened: {unknown[:5]}" if unknown else None
            self._book.judge("events-heard", wrong)


def _is_of_task(at: tuple[str, str]) -> bool:
    return at[0].startswith("/services/")
