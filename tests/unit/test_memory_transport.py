"""The in-memory transport: waiting, waking, time and closing, in real and in virtual time.

What is handed out to whom is tested with the core. Rule ids are those of the transport contract.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

import pytest

from infinitic.clock import Clock, SystemClock
from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Consumer, Delivery, Message, MessageTooLarge, TransportClosed, UnknownTopic
from infinitic_transports.memory import DEFAULT_MAX_PAYLOAD, Broker, InMemoryTransport

KEYED = Topic("keyed", Ordering.KEYED, "main")
SHARED = Topic("shared", Ordering.SHARED, "main")
CLIENT = Topic("client", Ordering.SHARED, None)

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class FakeLoop(asyncio.SelectorEventLoop):
    """Time moves only when nothing can run, straight to the next timer. Fails if there is none."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.timers: list[asyncio.TimerHandle] = []
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.passed

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        self.timers.append(timer)
        return timer

    def pending(self) -> list[float]:
        """When the timers fire that are not cancelled."""
        return [timer.when() for timer in self.timers if not timer.cancelled() and timer.when() > self.passed]


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: FakeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits, and no timer is set"
        self._loop.passed += timeout
        return super().select(0)


class FakeClock(Clock):
    """Follows the fake loop; `rate` below 1 makes it slow."""

    __slots__ = ("_loop", "rate")

    def __init__(self, loop: FakeLoop, rate: float = 1.0) -> None:
        self._loop = loop
        self.rate = rate

    def now(self) -> float:
        return 1_000_000.0 + self._loop.passed * self.rate


def virtually(main: Callable[[FakeLoop], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine function with the loop that it is run on."""
    loop = FakeLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))


def at_once(verb: Coroutine[Any, Any, _T]) -> _T:
    """The result of a verb that must not suspend."""
    try:
        verb.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError("the verb suspended")


def messages(*names: str, at: float | None = None) -> list[Message]:
    """Messages called by their key, one letter, and a number."""
    return [Message(name, name[0], b"", {}, at) for name in names]


def names(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.id for delivery in deliveries]


async def joined(transport: InMemoryTransport, topic: Topic = KEYED, prefetch: int = 10) -> Consumer:
    """A consumer of the main subscription of a topic, which is declared."""
    await transport.declare([topic])
    return await transport.subscribe(topic, "main", prefetch)


async def waiting(awaitable: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """A task that has begun to wait."""
    task = asyncio.create_task(awaitable)
    await asyncio.sleep(0)
    assert not task.done()
    return task


# ── The verbs ─────────────────────────────────────────────────────────────────────────────────────


def test_no_verb_suspends_that_has_nothing_to_wait_for() -> None:
    transport = InMemoryTransport()
    at_once(transport.declare([KEYED]))
    consumer = at_once(transport.subscribe(KEYED, "main", 10))
    at_once(transport.publish(KEYED, messages("a1", "b1", "c1")))
    first, second, third = at_once(consumer.receive(10))
    at_once(consumer.ack([first, third]))
    at_once(consumer.nack(second))
    assert names(at_once(consumer.receive(1))) == ["b1"]
    assert at_once(transport.stats(KEYED)).subscriptions["main"].unacked == 1
    at_once(consumer.close())
    at_once(transport.close())


def test_FLO_1_receive_keeps_to_its_maximum_and_to_the_prefetch() -> None:
    transport = InMemoryTransport()
    consumer = at_once(joined(transport, prefetch=3))
    at_once(transport.publish(KEYED, messages("a1", "b1", "c1", "d1")))
    assert names(at_once(consumer.receive(2))) == ["a1", "b1"]
    assert names(at_once(consumer.receive(2))) == ["c1"]


def test_connections_of_one_name_meet() -> None:
    one, other = InMemoryTransport.named("meeting"), InMemoryTransport.named("meeting")
    elsewhere = InMemoryTransport.named("another")
    consumer = at_once(joined(one))
    at_once(other.publish(KEYED, messages("a1")))
    assert names(at_once(consumer.receive(1))) == ["a1"]
    with pytest.raises(UnknownTopic):
        at_once(elsewhere.publish(KEYED, messages("a1")))
    assert InMemoryTransport().broker is not InMemoryTransport().broker


def test_PAY_1_the_limit_is_the_brokers() -> None:
    assert InMemoryTransport().capabilities.max_payload == DEFAULT_MAX_PAYLOAD == 5 * 1024 * 1024
    transport = InMemoryTransport(max_payload=3)
    assert transport.capabilities.max_payload == 3
    at_once(transport.declare([SHARED]))
    with pytest.raises(MessageTooLarge):
        at_once(transport.publish(SHARED, [Message("m", None, b"1234")]))
    at_once(transport.publish(SHARED, [Message("m", None, b"123")]))
    with pytest.raises(UsageError):
        InMemoryTransport(Broker(), max_payload=3)


def test_wrong_calls_say_so() -> None:
    transport = InMemoryTransport()
    consumer = at_once(joined(transport))
    with pytest.raises(UsageError, match="prefetch"):
        at_once(transport.subscribe(KEYED, "main", 0))
    with pytest.raises(UsageError, match="at least 1, not 0"):
        at_once(consumer.receive(0))
    with pytest.raises(UnknownTopic):
        at_once(transport.subscribe(SHARED, "main", 1))


def test_only_one_receive_at_a_time() -> None:
    async def main() -> None:
        consumer = await joined(InMemoryTransport())
        first = await waiting(consumer.receive(1))
        with pytest.raises(UsageError, match="at a time"):
            await consumer.receive(1)
        first.cancel()

    asyncio.run(main())


# ── Waking ────────────────────────────────────────────────────────────────────────────────────────


def test_a_publish_of_another_connection_wakes() -> None:
    async def main() -> None:
        broker = Broker()
        consumer = await joined(InMemoryTransport(broker))
        receiving = await waiting(consumer.receive(10))
        await InMemoryTransport(broker).publish(KEYED, messages("a1", "a2"))
        assert names(await receiving) == ["a1", "a2"]

    asyncio.run(main())


def test_EXC_4_two_that_wait_share_a_batch() -> None:
    async def main() -> None:
        transport = InMemoryTransport()
        one, other = await joined(transport), await joined(transport)
        receiving = [await waiting(consumer.receive(10)) for consumer in (one, other)]
        await transport.publish(KEYED, messages("a1", "b1", "c1", "d1"))
        assert [names(got) for got in await asyncio.gather(*receiving)] == [["a1", "b1"], ["c1", "d1"]]

    asyncio.run(main())


def test_FLO_2_an_ack_that_makes_room_wakes() -> None:
    async def main() -> None:
        transport = InMemoryTransport()
        consumer = await joined(transport, prefetch=1)
        await transport.publish(KEYED, messages("a1", "b1"))
        taken = await consumer.receive(10)
        receiving = await waiting(consumer.receive(10))
        await consumer.ack(taken)
        assert names(await receiving) == ["b1"]

    asyncio.run(main())


def test_ORD_3_an_ack_that_frees_a_key_wakes_another_consumer() -> None:
    async def main() -> None:
        transport = InMemoryTransport()
        holder, other = await joined(transport), await joined(transport)
        await transport.publish(KEYED, messages("a1", "a2"))
        taken = await holder.receive(1)
        receiving = await waiting(other.receive(10))
        await holder.ack(taken)
        assert names(await receiving) == ["a2"]

    asyncio.run(main())


def test_RED_1_a_nack_wakes() -> None:
    async def main() -> None:
        transport = InMemoryTransport()
        consumer = await joined(transport)
        await transport.publish(KEYED, messages("a1"))
        (taken,) = await consumer.receive(1)
        receiving = await waiting(consumer.receive(1))
        await consumer.nack(taken)
        (again,) = await receiving
        assert (again.message, again.attempt) == (taken.message, 2)

    asyncio.run(main())


def test_LIF_3_a_cancelled_receive_loses_nothing() -> None:
    async def main() -> None:
        transport = InMemoryTransport()
        consumer = await joined(transport)
        receiving = await waiting(consumer.receive(1))
        receiving.cancel()
        await asyncio.wait([receiving])
        await transport.publish(KEYED, messages("a1"))
        assert names(await consumer.receive(1)) == ["a1"]

    asyncio.run(main())


def test_LIF_3_a_receive_that_is_cancelled_when_woken_passes_it_on() -> None:
    async def main() -> None:
        transport = InMemoryTransport()
        one, other = await joined(transport), await joined(transport)
        cancelled, receiving = await waiting(one.receive(1)), await waiting(other.receive(1))
        await transport.publish(KEYED, messages("a1"))
        cancelled.cancel()
        assert names(await receiving) == ["a1"]
        assert cancelled.cancelled()

    asyncio.run(main())


# ── Closing and crashing ──────────────────────────────────────────────────────────────────────────


def test_LIF_1_close_gives_back_what_is_in_hand() -> None:
    async def main() -> None:
        transport = InMemoryTransport()
        leaving, staying = await joined(transport), await joined(transport)
        await transport.publish(KEYED, messages("a1", "a2"))
        await leaving.receive(1)
        receiving = await waiting(staying.receive(10))
        await leaving.close()
        assert [(got.message.id, got.attempt) for got in await receiving] == [("a1", 2), ("a2", 1)]

    asyncio.run(main())


@pytest.mark.parametrize("crash", [False, True], ids=["close", "crash"])
def test_LIF_5_after_close_or_crash_every_call_raises(crash: bool) -> None:
    async def main() -> None:
        transport = InMemoryTransport()
        consumer, other = await joined(transport), await joined(transport)
        await transport.publish(KEYED, messages("a1"))
        (taken,) = await consumer.receive(1)
        receiving = await waiting(other.receive(1))
        for _ in range(2):
            if crash:
                transport.crash()
            else:
                await transport.close()
        await transport.close()
        await consumer.close()
        calls: list[Awaitable[object]] = [
            receiving,
            other.receive(1),
            consumer.receive(1),
            consumer.ack([taken]),
            consumer.nack(taken),
            transport.declare([KEYED]),
            transport.publish(KEYED, []),
            transport.subscribe(KEYED, "main", 1),
            transport.stats(KEYED),
        ]
        for call in calls:
            with pytest.raises(TransportClosed):
                await call

    asyncio.run(main())


def test_LIF_5_a_closed_consumer_raises_and_its_transport_goes_on() -> None:
    async def main() -> None:
        transport = InMemoryTransport()
        consumer = await joined(transport)
        receiving = await waiting(consumer.receive(1))
        await consumer.close()
        await consumer.close()
        with pytest.raises(TransportClosed):
            await receiving
        await transport.publish(KEYED, messages("a1"))
        assert names(await (await joined(transport)).receive(1)) == ["a1"]

    asyncio.run(main())


def test_RED_8_after_a_crash_others_get_what_was_in_hand_with_its_count() -> None:
    async def main() -> None:
        broker = Broker()
        crashing, surviving = InMemoryTransport(broker), InMemoryTransport(broker)
        consumer, heir = await joined(crashing), await joined(surviving)
        await crashing.publish(KEYED, messages("a1", "a2", "b1"))
        taken = await consumer.receive(10)
        receiving = await waiting(heir.receive(10))
        crashing.crash()
        with pytest.raises(TransportClosed):
            await consumer.ack(taken)
        assert [(got.message.id, got.attempt) for got in await receiving] == [("a1", 2), ("a2", 2), ("b1", 2)]

    asyncio.run(main())


def test_PER_7_an_ephemeral_topic_goes_with_its_client() -> None:
    async def main() -> None:
        broker = Broker()
        client, worker = InMemoryTransport(broker), InMemoryTransport(broker)
        with pytest.raises(UnknownTopic):
            await worker.publish(CLIENT, messages("a1"))
        consumer = await client.subscribe(CLIENT, "client", 10, durable=False)
        await worker.publish(CLIENT, messages("a2"))
        assert names(await consumer.receive(10)) == ["a2"]
        client.crash()
        with pytest.raises(UnknownTopic):
            await worker.publish(CLIENT, messages("a3"))

    asyncio.run(main())


# ── Time ──────────────────────────────────────────────────────────────────────────────────────────


def test_DLY_1_and_2_on_the_real_clock_never_early_and_without_being_asked() -> None:
    async def main() -> None:
        clock = SystemClock()
        transport = InMemoryTransport(clock=clock)
        consumer = await joined(transport)
        due = clock.now() + 0.01
        await transport.publish(KEYED, messages("a1", at=due))
        receiving = await waiting(consumer.receive(1))
        assert names(await receiving) == ["a1"]
        assert clock.now() >= due
        await transport.close()

    asyncio.run(main())


def test_DLY_2_in_virtual_time_exactly_when_due() -> None:
    async def main(loop: FakeLoop) -> None:
        clock = FakeClock(loop)
        transport = InMemoryTransport(clock=clock)
        consumer = await joined(transport)
        for name, delay in (("a1", 86_400.0), ("a2", 7.0), ("b1", 7.5)):
            await transport.publish(KEYED, messages(name, at=clock.now() + delay))
        got = [(names(await consumer.receive(10)), loop.passed) for _ in range(3)]
        assert got == [(["a2"], 7.0), (["b1"], 7.5), (["a1"], 86_400.0)]
        await transport.close()

    virtually(main)


def test_statistics_are_those_of_now() -> None:
    async def main(loop: FakeLoop) -> None:
        clock = FakeClock(loop)
        transport = InMemoryTransport(clock=clock)
        await transport.declare([KEYED])
        await transport.publish(KEYED, messages("a1", at=clock.now() + 5))
        loop.passed += 5  # and the timer has not fired yet
        stats = (await transport.stats(KEYED)).subscriptions["main"]
        assert (stats.backlog, stats.delayed) == (1, 0)
        await transport.close()

    virtually(main)


def test_RED_1_a_nack_comes_back_exactly_after_its_delay() -> None:
    async def main(loop: FakeLoop) -> None:
        transport = InMemoryTransport(clock=FakeClock(loop))
        consumer = await joined(transport)
        await transport.publish(KEYED, messages("a1"))
        for attempt in range(1, 5):
            (taken,) = await consumer.receive(1)
            assert (taken.attempt, loop.passed) == (attempt, 2.0 * (attempt - 1))
            await consumer.nack(taken, 2.0)
        await transport.close()

    virtually(main)


def test_DLY_1_a_timer_that_fires_early_by_a_slow_clock_is_set_again() -> None:
    async def main(loop: FakeLoop) -> None:
        clock = FakeClock(loop, rate=0.5)
        transport = InMemoryTransport(clock=clock)
        consumer = await joined(transport)
        due = clock.now() + 10
        await transport.publish(KEYED, messages("a1", at=due))
        await consumer.receive(1)
        assert clock.now() >= due
        assert loop.passed == pytest.approx(20.0)
        await transport.close()

    virtually(main)


def test_LIF_7_a_broker_has_one_timer_whatever_is_put_off() -> None:
    async def main(loop: FakeLoop) -> None:
        clock = FakeClock(loop)
        broker = Broker()
        one, other = InMemoryTransport(broker, clock=clock), InMemoryTransport(broker, clock=clock)
        await one.declare([KEYED])
        for delay in (300.0, 100.0, 200.0):
            await one.publish(KEYED, messages("a1", at=clock.now() + delay))
            await other.publish(KEYED, messages("b1", at=clock.now() + delay / 2))
        assert loop.pending() == [50.0]
        await one.close()
        assert loop.pending() == [50.0]
        await other.close()
        assert (loop.pending(), broker.alarm) == ([], None)

    virtually(main)


def test_LIF_7_a_crash_leaves_no_timer() -> None:
    async def main(loop: FakeLoop) -> None:
        clock = FakeClock(loop)
        transport = InMemoryTransport(clock=clock)
        await transport.declare([KEYED])
        await transport.publish(KEYED, messages("a1", at=clock.now() + 10))
        transport.crash()
        assert loop.pending() == []

    virtually(main)


def test_DLY_7_what_is_put_off_survives_the_connection_and_the_loop() -> None:
    broker = Broker()

    async def publish(loop: FakeLoop) -> None:
        clock = FakeClock(loop)
        transport = InMemoryTransport(broker, clock=clock)
        await transport.declare([KEYED])
        await transport.publish(KEYED, messages("a1", at=clock.now() + 10))

    async def receive(loop: FakeLoop) -> None:
        transport = InMemoryTransport(broker, clock=FakeClock(loop))
        consumer = await joined(transport)
        assert names(await consumer.receive(1)) == ["a1"]
        assert loop.passed == 10.0
        await transport.close()

    virtually(publish)  # and never close: the next loop needs a timer of its own
    virtually(receive)
