"""S2: a task is neither lost nor run twice when it is postponed or handed back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import PayloadCodec, service as named, task, task_context
from infinitic.codec.payloads import make_coder
from infinitic.errors import TransportError
from infinitic.messages import control, engine, service
from infinitic.messages.service import Guard
from infinitic.runtime.service_executor.deaths import SUSPECT
from infinitic.runtime.service_executor.taking import LAST_MESSAGES_SECONDS
from infinitic.topics import Topic
from infinitic.transport import Consumer, UnknownTopic
from infinitic_testing.loop import VirtualClock
from tests.simulation.desk import make_desk
from tests.unit.scripted import ScriptedConsumer, ScriptedTransport, delivery, request
from tests.unit.test_service_executor import Bench, counting, played, quiet

LIMIT = 192 * 1024


def copies(transport: ScriptedTransport) -> list[service.ExecuteTask]:
    return [service.decode(message.body) for message in transport.on("service-executor")]


def hears(bench: Bench, *messages: control.Control) -> None:
    for each in messages:
        bench.transport.consumers["service-control:Desk"].waiting.put_nowait(delivery(control.encode(each)))


def answers(transport: ScriptedTransport) -> list[control.Alive]:
    said = [control.decode(message.body) for message in transport.on("service-control")]
    return [each for each in said if isinstance(each, control.Alive)]


def test_a_suspect_whose_marked_copy_is_too_large_takes_no_place_from_others() -> None:
    """The one place for suspects was never given back: all others were put off for ever."""
    ran, transport = list[str](), ScriptedTransport(LIMIT)
    bench = Bench(transport, counting(ran))

    async def scenario() -> None:
        large = request(["x" * 1000], deaths=SUSPECT)
        transport.limit = len(service.encode(large))
        await bench.give(delivery(large), second := delivery(request(["a"], position=1, deaths=SUSPECT)))
        assert ran == ["a"]
        assert second in bench.consumer.acked
        failed = [each for each in bench.reports() if isinstance(each, engine.TaskFailed)]
        assert [each.position for each in failed] == [0]

    played(bench, scenario)


@pytest.mark.parametrize("suspect", [False, True], ids=["a death", "a trial"])
def test_who_drains_while_a_doubt_is_settled_runs_nothing_and_sends_it_once(suspect: bool) -> None:
    ran, transport = list[str](), ScriptedTransport()
    bench = Bench(transport, counting(ran))

    async def scenario() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        transport.before_publish = lambda topic: gate if topic.name.startswith("service-executor") else None
        message = request(["a"], deaths=SUSPECT, asked=2) if suspect else request(["a"])
        await bench.give(given := delivery(message, attempt=2))
        await asyncio.sleep(2.0)
        draining = asyncio.create_task(bench.executor.drain())
        await quiet()
        gate.set_result(None)
        await draining
        assert bench.consumer.acked == [given]
        assert ran == []
        plain = [each for each in copies(transport) if not each.asked]
        assert len(plain) == (0 if suspect else 1)
        assert len(copies(transport)) == (2 if suspect else 1), "a marked copy, and what was handed back"

    played(bench, scenario)


def test_what_is_handed_back_when_the_grace_period_ends_is_sent_once() -> None:
    """The drain is cut while the broker takes the task. It must not be sent a second time."""
    transport = ScriptedTransport()
    bench = Bench(transport, counting([]))

    async def scenario() -> None:
        sent = list[asyncio.Future[None]]()

        def slow(topic: Topic) -> asyncio.Future[None] | None:
            if topic.name.startswith("service-executor"):
                sent.append(asyncio.get_running_loop().create_future())
                return sent[-1]
            return None

        transport.before_publish = slow
        await bench.give(given := delivery(request(["a"]), attempt=2))
        draining = asyncio.create_task(bench.executor.drain())
        await asyncio.sleep(2 * LAST_MESSAGES_SECONDS)
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        closing = asyncio.create_task(bench.executor.close())
        await asyncio.sleep(2 * LAST_MESSAGES_SECONDS)
        assert len(sent) == 1
        sent[0].set_result(None)
        await closing
        assert bench.consumer.acked == [given]
        assert copies(transport) == [request(["a"])]

    played(bench, scenario)


def test_ten_thousand_that_come_again_at_once_are_looked_into_together() -> None:
    """One second for all, and a few messages: not one or two round trips for each."""
    transport = ScriptedTransport()
    calls = 0

    def count(topic: object) -> None:
        nonlocal calls
        calls += 1

    bench = Bench(transport, counting([]), concurrency=5_000)

    async def scenario() -> None:
        transport.before_publish = count
        given = [delivery(request([str(number)], position=number), attempt=2) for number in range(10_000)]
        for each in given:
            bench.consumer.waiting.put_nowait(each)
        await quiet()
        await asyncio.sleep(3.0)
        assert len(bench.consumer.acked) == 10_000
        assert {each.deaths for each in copies(transport)} == {1}
        assert len(copies(transport)) == 10_000
        assert calls < 20

    played(bench, scenario)


def test_many_questions_are_answered_by_few_messages() -> None:
    async def work(self: object, text: str) -> str:
        await asyncio.sleep(1000.0)
        return text

    transport = ScriptedTransport()
    calls = 0

    def count(topic: object) -> None:
        nonlocal calls
        calls += 1

    bench = Bench(transport, make_desk(work), concurrency=1000)

    async def scenario() -> None:
        messages = [request(["a"], position=number) for number in range(1000)]
        await bench.give(*(delivery(each) for each in messages))
        transport.before_publish = count
        hears(bench, *(control.Ping((each.attempt, replace(each, run=7).attempt)) for each in messages))
        await quiet()
        assert {attempt for answer in answers(transport) for attempt in answer.attempts} == {
            each.attempt for each in messages
        }
        assert calls <= 10

    played(bench, scenario)


def test_an_answer_to_a_huge_question_fits() -> None:
    """A forged one: its answer was too large for the broker, and ended the executor."""

    async def work(self: object, text: str) -> str:
        await asyncio.sleep(1000.0)
        return text

    transport = ScriptedTransport()
    bench = Bench(transport, make_desk(work), concurrency=1000)

    async def scenario() -> None:
        messages = [request(["a"], position=number) for number in range(1000)]
        await bench.give(*(delivery(each) for each in messages))
        transport.limit = 5000
        hears(bench, control.Ping(tuple(each.attempt for each in messages)))
        await quiet()
        assert sum(len(answer.attempts) for answer in answers(transport)) == 1000

    played(bench, scenario)


def test_a_control_topic_that_cannot_be_joined_at_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = ScriptedTransport()
    bench = Bench(transport, counting([]))
    subscribe = transport.subscribe
    refusals = [UnknownTopic("it is being removed"), TransportError("odd")]

    async def refuses(topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        if refusals:
            raise refusals.pop(0)
        return await subscribe(topic, subscription, prefetch, durable=durable)

    async def scenario() -> None:
        monkeypatch.setattr(transport, "subscribe", refuses)
        transport.consumers["service-control:Desk"].waiting.put_nowait(UnknownTopic("removed"))
        await asyncio.sleep(10.0)
        assert refusals == []
        await bench.give(delivery(request(["a"])))
        hears(bench, control.Ping((request().attempt,)))
        await quiet()
        assert answers(transport) == [control.Alive((), (request().attempt,))]

    played(bench, scenario)


def test_who_ends_while_it_joins_the_control_topic_anew_leaves_no_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody read what came to it, for as long as the connection lived."""
    transport = ScriptedTransport()
    bench = Bench(transport, counting([]))
    late = ScriptedConsumer()

    async def scenario() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def slow(*args: object, **options: object) -> Consumer:
            await gate
            return late

        monkeypatch.setattr(transport, "subscribe", slow)
        transport.consumers["service-control:Desk"].waiting.put_nowait(UnknownTopic("removed"))
        await asyncio.sleep(1.0)
        await bench.executor.drain()
        gate.set_result(None)
        await quiet()
        assert late.closed

    played(bench, scenario)


class Away(PayloadCodec):
    """A key service that does not answer."""

    away = False

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        return data

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        if self.away:
            raise ConnectionError("the key service does not answer")
        return data


def test_who_has_put_off_a_task_says_so_until_it_is_due() -> None:
    """A marked copy that comes sooner is no sign of a death: nobody had the task in hand."""
    transport, codec = ScriptedTransport(), Away()
    coder = make_coder(codec)
    assert coder is not None
    bench = Bench(transport, counting([]), codec=codec)

    async def scenario() -> None:
        codec.away = True
        message = request([], deaths=SUSPECT)
        await bench.give(delivery(replace(message, arguments=Raw(coder.encode(b'["a"]')))))
        await asyncio.sleep(40.0)
        marked, later = transport.on("service-executor")
        assert (service.decode(marked.body).asked, service.decode(later.body).asked) == (1, 0)
        hears(bench, control.Ping((message.attempt,)))
        await quiet()
        assert answers(transport) == [control.Alive((message.attempt,))]
        await asyncio.sleep(60.0)
        hears(bench, control.Ping((message.attempt,)))
        await quiet()
        assert len(answers(transport)) == 1, "it is due: whoever has it answers for it"

    played(bench, scenario)


def test_a_workflow_whose_topic_takes_nothing_holds_up_no_report_of_another() -> None:
    """For instance, its backlog is full. Reports for other workflows must not wait for it."""
    ran, transport = list[str](), ScriptedTransport()
    bench = Bench(transport, counting(ran))

    async def scenario() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        transport.before_publish = lambda topic: gate if topic.name == "workflow-engine:Full" else None
        full = [delivery(replace(request(["a"], position=number), workflow_name="Full")) for number in range(3)]
        await bench.give(*full)
        others = [delivery(request(["b"], position=number)) for number in range(10, 13)]
        await bench.give(*others)
        assert bench.consumer.acked == others
        draining = asyncio.create_task(bench.executor.drain())
        await asyncio.sleep(5.0)
        assert not draining.done()
        assert bench.executor.unfinished() == "service Desk: 3 report(s) not sent"
        gate.set_result(None)
        await draining
        assert bench.consumer.acked == others + full

    played(bench, scenario)


@named(name="Desk")
class Walking:
    """Its task says how far it is."""

    def __init__(self, found: list[object]) -> None:
        self._found = found

    @task(heartbeat_timeout=12)
    async def work(self) -> None:
        self._found.append((task_context().last_heartbeat, task_context().retry_index))


@pytest.mark.parametrize("attempt", [1, 2], ids=["new", "delivered before"])
@pytest.mark.parametrize("pause", [0.0, 0.5, 2.0], ids=["together", "while it asks", "while it is held"])
def test_S40_what_was_handed_back_runs_also_if_its_guard_came_before_it(pause: float, attempt: int) -> None:
    """All workers were stopped for longer than the timeout: no attempt is lost by that."""
    found, transport = list[object](), ScriptedTransport()
    bench = Bench(transport, Walking(found))

    async def scenario() -> None:
        guard = Guard(3, VirtualClock().now() + 4.0, 12.0)
        due = delivery(request(asked=1, guard=guard, last_heartbeat=Raw(b"6")))
        handed = delivery(request(guard=guard, last_heartbeat=Raw(b"7")), attempt=attempt)
        await bench.give(due)
        await asyncio.sleep(pause)
        await bench.give(handed)
        await asyncio.sleep(60.0)
        for copy in copies(transport):
            if not copy.asked:
                await bench.give(delivery(copy))
        assert found == [(7, 0)]
        assert {type(each) for each in bench.reports()} == {engine.TaskCompleted}
        assert bench.consumer.acked[:2] == [due, handed]
        assert bench.executor.count_held()["attempts"] == 0

    played(bench, scenario)


def test_many_guards_at_once_leave_room_for_tasks() -> None:
    """A worker died with more tasks than another one may have in hand. Their timeout is an hour."""
    found, transport = list[object](), ScriptedTransport()
    bench = Bench(transport, Walking(found))

    async def scenario() -> None:
        guard = Guard(1, VirtualClock().now() + 1200.0, 3600.0)
        given = [delivery(request(asked=1, guard=guard, position=number)) for number in range(50)]
        await bench.give(*given)
        await asyncio.sleep(5.0)
        assert bench.executor.count_held()["attempts"] == 5
        assert len(bench.consumer.acked) == 45
        later = [message for message in transport.on("service-executor") if message.deliver_at is not None]
        assert [round(each.deliver_at - VirtualClock().now(), -1) for each in later if each.deliver_at] == [1200] * 45
        assert {each.asked for each in copies(transport)} == {2}
        await bench.give(*(delivery(each) for each in copies(transport)))
        await asyncio.sleep(1200.0)
        lost = [each.position for each in bench.reports() if isinstance(each, engine.AttemptFailed)]
        assert sorted(lost) == list(range(50))
        assert set(given) <= set(bench.consumer.acked)
        assert bench.executor.count_held()["attempts"] == 0
        assert found == []

    played(bench, scenario)
