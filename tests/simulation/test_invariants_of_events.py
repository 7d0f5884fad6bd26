"""The rules about event listeners find what breaks them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from cloudevents.core.v1.event import CloudEvent
from msgspec import Raw
from msgspec.structs import replace

from infinitic import EventType, topics
from infinitic.engines import state
from infinitic.engines.effects import TellListeners
from infinitic.engines.workflow.render import render
from infinitic.messages import cloud_events, engine, events
from infinitic.runtime.event_listener.conversion import EventReader
from infinitic.storage import Change, Segment, StateKey
from infinitic.transport import Message
from infinitic_storages.memory import Database
from infinitic_testing.invariants import InvariantViolated
from infinitic_testing.invariants.book import RunBook
from infinitic_testing.invariants.instances import WrittenStep
from infinitic_testing.invariants.listening import ListenerChecks
from infinitic_testing.loop import VirtualClock, run
from infinitic_transports.memory import Broker
from tests.unit.engine_samples import NOW, RUNNING

HEAD = replace(RUNNING, sequence=2)
KEY = StateKey(HEAD.name, HEAD.id)
TOPIC = topics.workflow_events(HEAD.name)
EVENTS = EventReader(None)


class Observed:
    """One instance, one listener, and the checks that watch them."""

    def __init__(self) -> None:
        self.broken: list[InvariantViolated] = []
        self.broker = Broker()
        book = RunBook(Database(), self.broker, VirtualClock(), lambda _: {}, None, self.broken.append)
        self.checks = ListenerChecks(book)
        self.heard: list[CloudEvent] = []
        self.listener = self.checks.watch("audit", self.heard.extend, None)
        self.broker.attach(TOPIC, "listener:audit", 10, lambda: None)

    @property
    def rules(self) -> list[str]:
        return [each.rule for each in self.broken]

    def commit(self, sequence: int = 2) -> Message:
        """Write a step in which a timer fires, and return the message with its events."""
        head = replace(HEAD, sequence=sequence)
        happened = [events.TimerFired(1)]
        segment = Segment(sequence, events.encode(happened), None)
        change = Change(KEY, sequence - 1, sequence, state.encode(head), NOW, segment)
        self.checks.note_commit(WrittenStep(KEY, None, change, head, happened, [TellListeners()]))
        [outgoing] = render([TellListeners()], head, {sequence: happened}, NOW, 100_000)
        return outgoing.message

    def publish(self, message: Message) -> None:
        self.checks.publish("worker-1", TOPIC, message)


@pytest.fixture
def observed() -> Observed:
    return run(_make())


async def _make() -> Observed:
    return Observed()


def test_a_step_that_is_told_in_time_breaks_no_rule(observed: Observed) -> None:
    first = observed.commit(2)
    observed.publish(first)
    second = observed.commit(3)
    observed.publish(second)
    observed.publish(first)
    observed.checks.check_mark(KEY)
    assert observed.rules == []


def test_events_that_are_not_published_are_missed(observed: Observed) -> None:
    """events-published: before the next step, and before the outbox is said to be published."""
    observed.commit(2)
    observed.checks.check_mark(KEY)
    observed.commit(3)
    assert observed.rules == ["events-published", "events-published"]


def test_events_of_no_step_are_named(observed: Observed) -> None:
    """event-known."""
    early = Observed.commit(observed, 2)
    other = replace(early, body=early.body.replace(b"/2/0", b"/9/0"))
    observed.publish(other)
    assert observed.rules == ["event-known"]
    wrong_type = replace(early, body=early.body.replace(b"timerCompleted", b"timerDispatched"))
    observed.publish(wrong_type)
    assert observed.rules == ["event-known", "event-known"]


def test_an_event_that_changes_is_named(observed: Observed) -> None:
    """event-stable."""
    message = observed.commit(2)
    observed.publish(message)
    observed.publish(replace(message, body=message.body.replace(b'"position":1', b'"position":2')))
    assert observed.rules == ["event-stable"]


def test_a_report_before_its_event_is_named(observed: Observed) -> None:
    """event-before-report."""
    report = engine.TaskCompleted(made_at=NOW, position=4, value=Raw(b"1"), run=HEAD.run)
    observed.checks.check_report("worker-1", KEY, report)
    assert observed.rules == ["event-before-report"]
    data = cloud_events.EventData(task_id=f"{HEAD.id}-4")
    time = cloud_events.format_time(NOW)
    told = cloud_events.encode_event("a/completed", "/services/S", EventType.TASK_COMPLETED, data.task_id, time, data)
    observed.checks.publish("worker-1", topics.service_events("S"), Message("1", None, b"[" + told + b"]"))
    observed.checks.check_report("worker-1", KEY, report)
    assert len(observed.rules) == 1


@pytest.mark.parametrize("heard", [True, False])
def test_a_listener_that_was_not_told_is_named(heard: bool) -> None:
    """events-heard."""
    observed = run(_make())
    message = observed.commit(2)
    observed.publish(message)
    if heard:
        _hand_over(observed, message)
    observed.checks.check_healed()
    assert observed.rules == ([] if heard else ["events-heard"])


def test_a_listener_that_was_told_of_nothing_is_named(observed: Observed) -> None:
    """events-heard."""
    message = observed.commit(2)
    _hand_over(observed, replace(message, body=message.body.replace(b"/2/0", b"/9/0")))
    _hand_over(observed, message)
    observed.checks.check_healed()
    assert observed.rules == ["events-heard"]


def _hand_over(observed: Observed, message: Message) -> None:
    told: Sequence[CloudEvent] = EVENTS.read(message.body)

    async def call() -> None:
        found = observed.listener(list(told))
        assert asyncio.iscoroutine(found)
        await found

    run(call())
