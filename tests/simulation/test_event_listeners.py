"""Event listeners in one worker: batches, repeats, filters, dead letters, and how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from infinitic import Channel, EventType, Worker, Workflow, topics
from infinitic.errors import RegistrationError, UsageError
from infinitic.transport import Message
from infinitic.worker.listeners import MOST_EVENTS, read_event_type
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent


class Mail:
    async def send(self, to: str) -> str:
        return f"to {to}"


class Greeting(Workflow):
    mail = Workflow.new_service(Mail)
    names = Channel[str]()

    async def greet(self, name: str) -> str:
        return await self.mail.send(name)

    async def wait(self) -> str:
        return await self.names.receive()


def host(sim: Simulation) -> None:
    sim.add_service(Mail)
    sim.add_workflow(Greeting)


async def greet(sim: Simulation, *names: str) -> None:
    for name in names:
        assert await sim.client.new_workflow(Greeting).greet(name) == f"to {name}"


class Calls:
    """A listener that raises in its first calls."""

    def __init__(self, failures: int = 0) -> None:
        self.batches: list[list[CloudEvent]] = []
        self.times: list[float] = []
        self.failures = failures

    async def __call__(self, events: list[CloudEvent]) -> None:
        self.batches.append(list(events))
        events.clear()  # it may do with the list what it likes
        if len(self.batches) <= self.failures:
            raise ConnectionError("not now")

    @property
    def ids(self) -> list[list[str]]:
        return [[event.get_id() for event in batch] for batch in self.batches]


async def test_events_are_cloud_events_in_batches(sim: Simulation) -> None:
    host(sim)
    calls = Calls()
    sim.add_event_listener(calls)
    await greet(sim, "Ada", "Grace")
    assert calls.batches == []  # they wait a second for others
    await sim.sleep(2)
    [batch] = calls.batches
    by_type = [event.get_type() for event in batch]
    assert by_type.count(EventType.WORKFLOW_COMPLETED) == by_type.count(EventType.TASK_COMPLETED) == 2
    ended = next(event for event in batch if event.get_type() == EventType.TASK_COMPLETED)
    assert ended.get_source() == "/services/Mail"
    assert ended.get_time() == sim.now - timedelta(seconds=2)
    data = ended.get_data()
    assert isinstance(data, dict)
    assert (data["task_name"], data["worker_name"]) == ("send", "sim")
    assert ended.get_subject() == data["task_id"]


async def test_a_full_batch_does_not_wait(sim: Simulation) -> None:
    host(sim)
    calls = Calls()
    sim.add_event_listener(calls, max_events=5, max_seconds=timedelta(hours=1))
    await greet(sim, "Ada")
    await sim.run_until_idle()
    assert {len(batch) for batch in calls.batches} == {5}
    known = sum(map(len, calls.batches))
    await sim.sleep(3600)
    assert sum(map(len, calls.batches)) - known == 2
    assert len({id for batch in calls.ids for id in batch}) == sum(map(len, calls.batches))


async def test_a_listener_that_raises_gets_the_same_events_again(
    sim: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    host(sim)
    calls = Calls(failures=3)
    sim.add_event_listener(calls, max_events=5)
    with caplog.at_level(logging.WARNING, "infinitic.events"):
        await greet(sim, "Ada")
        await sim.sleep(2)
    # It delayed nobody, and it was said once.
    first, *others = calls.ids
    assert others[:3] == [first] * 3
    assert first not in others[3:]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_nothing_is_acknowledged_before_the_listener_returns(sim: Simulation) -> None:
    host(sim)
    calls = Calls(failures=10_000)
    sim.add_event_listener(calls)
    await greet(sim, "Ada", "Grace")
    await sim.sleep(100)
    stats = await sim.transport.stats(topics.workflow_events("Greeting"))
    assert stats.subscriptions["listener:default"].unacked > 0
    calls.failures = 0
    await sim.sleep(60)
    stats = await sim.transport.stats(topics.workflow_events("Greeting"))
    assert (stats.subscriptions["listener:default"].unacked, stats.subscriptions["listener:default"].backlog) == (0, 0)


async def test_plain_functions_and_functions_that_return_coroutines_listen_too(sim: Simulation) -> None:
    host(sim)
    plain: list[CloudEvent] = []
    calls = Calls()
    sim.add_event_listener(plain.extend, name="plain")
    sim.add_event_listener(lambda events: calls(events), name="returned")
    await greet(sim, "Ada")
    await sim.sleep(2)
    assert [event.get_id() for event in plain] == calls.ids[0]


async def test_listeners_choose_what_they_hear(sim: Simulation) -> None:
    host(sim)
    tasks, ends, none = Calls(), Calls(), Calls()
    sim.add_event_listener(tasks, name="tasks", workflows=[])
    sim.add_event_listener(ends, name="ends", types=["workflow.completed", EventType.TASK_FAILED])
    sim.worker.add_event_listener(none, name="none", without_services=[Mail], without_workflows=["Greeting"])
    await greet(sim, "Ada")
    await sim.sleep(2)
    assert {event.get_source() for event in tasks.batches[0]} == {"/services/Mail"}
    assert [event.get_type() for event in ends.batches[0]] == [EventType.WORKFLOW_COMPLETED]
    assert none.batches == []
    # What it does not want is acknowledged all the same.
    stats = await sim.transport.stats(topics.service_events("Mail"))
    assert stats.subscriptions["listener:ends"].unacked == 0


async def test_what_is_hosted_later_is_heard(sim: Simulation) -> None:
    sim.add_service(Mail)
    calls = Calls()
    sim.add_event_listener(calls)
    await sim.run_until_idle()
    sim.add_workflow(Greeting)
    await sim.run_until_idle()
    await greet(sim, "Ada")
    await sim.sleep(2)
    assert {event.get_source() for event in calls.batches[0]} == {"/services/Mail", "/workflows/Greeting"}


async def test_what_cannot_be_decoded_is_a_dead_letter(sim: Simulation) -> None:
    """S38: alone, with its reason."""
    host(sim)
    calls = Calls()
    sim.add_event_listener(calls)
    await sim.run_until_idle()
    topic = topics.workflow_events("Greeting")
    await sim.transport.publish(topic, [Message("bad", None, b"no event")])
    await greet(sim, "Ada")
    await sim.sleep(2)
    assert calls.batches
    [letter] = await sim.transport.peek(topics.dead_letters(topic), "dead-letters", 10)
    assert letter.message.id == "bad"
    assert "no batch of CloudEvents" in letter.message.headers["infinitic-cause"]
    assert (await sim.transport.stats(topic)).subscriptions["listener:default"].unacked == 0


def test_without_events_nothing_is_published() -> None:
    async def main() -> None:
        async with InMemoryTransport() as transport, InMemoryStorage() as storage:
            worker = Worker(transport, storage)
            worker.add_service(Mail)
            worker.add_workflow(Greeting)
            async with worker.running():
                await worker.client.new_workflow(Greeting).greet("Ada")
            overview = transport.broker.overview()
            assert not [name for name in overview if name.startswith(("workflow-events:", "service-events:"))]

    run(main())


def test_events_without_a_listener_are_kept_nowhere() -> None:
    """F12."""

    async def main() -> None:
        async with InMemoryTransport() as transport, InMemoryStorage() as storage:
            worker = Worker(transport, storage, events=True)
            worker.add_service(Mail)
            worker.add_workflow(Greeting)
            async with worker.running():
                await worker.client.new_workflow(Greeting).greet("Ada")
            overview = transport.broker.overview()
            assert overview["workflow-events:Greeting"] == overview["service-events:Mail"] == {}

    run(main())


def test_two_workers_of_one_listener_share_and_two_names_each_get_all() -> None:
    async def main() -> None:
        async with InMemoryTransport() as transport, InMemoryStorage() as storage:
            first, second, other = Calls(), Calls(), Calls()
            worker = Worker(transport, storage, events=True)
            worker.add_service(Mail)
            worker.add_workflow(Greeting)
            worker.add_event_listener(first, name="shared", max_events=1)
            alone = Worker(transport)  # a listener needs no storage, and may be all that a worker has
            alone.add_event_listener(second, name="shared", services=["Mail"], workflows=[Greeting], max_events=1)
            alone.add_event_listener(other, name="other", services=[Mail], workflows=["Greeting"])
            async with alone.running(), worker.running():
                for name in "abcdefgh":
                    await worker.client.new_workflow(Greeting).greet(name)
            shared = [id for calls in (first, second) for batch in calls.ids for id in batch]
            assert first.batches
            assert second.batches
            assert len(shared) == len(set(shared))
            assert sorted(shared) == sorted(id for batch in other.ids for id in batch)

    run(main())


def test_a_worker_that_ends_hands_over_what_it_has_and_gives_back_what_is_refused() -> None:
    """S40."""

    async def main() -> None:
        async with InMemoryTransport() as transport, InMemoryStorage() as storage:
            taken, refused = Calls(), Calls(failures=1000)
            worker = Worker(transport, storage, events=True)
            worker.add_service(Mail)
            worker.add_workflow(Greeting)
            worker.add_event_listener(taken, name="taken", max_seconds=3600)
            worker.add_event_listener(refused, name="refused", max_seconds=0)
            async with worker.running():
                await worker.client.new_workflow(Greeting).greet("Ada")
            count = sum(map(len, taken.batches))
            assert count > 5
            stats = await transport.stats(topics.workflow_events("Greeting"))
            assert stats.subscriptions["listener:taken"].backlog == 0
            assert stats.subscriptions["listener:refused"].backlog > 0
            later = Worker(transport)
            again = Calls()
            later.add_event_listener(again, name="refused", services=["Mail"], workflows=["Greeting"])
            async with later.running():
                await asyncio.sleep(2)
            assert {id for batch in again.ids for id in batch} == {id for batch in taken.ids for id in batch}

    run(main())


class NeedsArguments:
    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, events: list[CloudEvent]) -> None: ...


class NotCallable:
    pass


def two(events: list[CloudEvent], more: int) -> None: ...


def generator(events: list[CloudEvent]) -> Any:
    yield events


@pytest.mark.parametrize(
    ("listener", "options", "problem"),
    [
        (None, {}, "a function, or has a method __call__"),
        (NotCallable, {}, "a function, or has a method __call__"),
        (NotCallable(), {}, "a function, or has a method __call__"),
        (NeedsArguments, {}, "cannot be made without arguments"),
        (two, {}, "cannot be called with one argument"),
        (generator, {}, "is a generator"),
        (print, {"types": ["task.complete"]}, "did you mean 'task.completed'"),
        (print, {"types": ["anything"]}, "no type of event"),
        (print, {"types": "task.completed"}, "a list of names"),
        (print, {"services": "Mail"}, "a list of names"),
        (print, {"workflows": Greeting}, "a list of names"),
        (print, {"services": [""]}, "name of a service"),
        (print, {"max_events": 0}, "max_events"),
        (print, {"max_events": True}, "max_events"),
        (print, {"max_events": MOST_EVENTS + 1}, "max_events"),
        (print, {"max_seconds": -1}, "max_seconds"),
        (print, {"max_seconds": "1"}, "duration"),
        (print, {"name": ""}, "name of an event listener"),
    ],
)
def test_what_cannot_listen_is_named_at_once(listener: Any, options: dict[str, Any], problem: str) -> None:
    async def main() -> None:
        async with InMemoryTransport() as transport:
            with pytest.raises((RegistrationError, UsageError), match=problem):
                Worker(transport).add_event_listener(listener, **options)

    run(main())


def test_one_worker_has_one_listener_of_a_name() -> None:
    async def main() -> None:
        async with InMemoryTransport() as transport:
            worker = Worker(transport)
            worker.add_event_listener(print, services=["Mail"])
            with pytest.raises(RegistrationError, match="name=…"):
                worker.add_event_listener(print, services=["Mail"])

    run(main())


def test_a_listener_that_listens_to_nothing_is_named_at_start() -> None:
    async def main() -> None:
        async with InMemoryTransport() as transport:
            worker = Worker(transport)
            worker.add_event_listener(print)
            with pytest.raises(UsageError, match=r"services=\[…\]"):
                async with worker.running():
                    pass

    run(main())


def test_names_that_nobody_has_used_are_named_at_start(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with InMemoryTransport() as transport, InMemoryStorage() as storage:
            worker = Worker(transport, storage)
            worker.add_service(Mail)
            worker.add_event_listener(print, services=["Mial", Mail], workflows=["Greeting"])
            with caplog.at_level(logging.WARNING, "infinitic.worker"):
                async with worker.running():
                    pass

    run(main())
    said = [record.getMessage() for record in caplog.records]
    assert any("service 'Mial'" in line and "did you mean 'Mail'" in line for line in said)
    assert any("workflow 'Greeting'" in line for line in said)
    assert any("events=True" in line for line in said)


def test_types_have_short_names() -> None:
    names: Sequence[str] = [each.value.removeprefix("io.infinitic.") for each in EventType]
    assert [read_event_type(name) for name in names] == [each.value for each in EventType]
