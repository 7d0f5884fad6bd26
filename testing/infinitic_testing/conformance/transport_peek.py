"""Looking at messages without taking them in hand (PEK)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infinitic.errors import UsageError
from infinitic.ids import new_id
from infinitic.topics import Topic
from infinitic.transport import Message, Peeked
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    MAIN,
    SHARED,
    TransportBench,
    TransportSuite,
    read_names,
    rule,
)


def list_names(peeked: Sequence[Peeked]) -> list[str]:
    return [each.message.body.decode() for each in peeked]


class PeekRules(TransportSuite):
    """Rules PEK."""

    @rule
    async def test_pek_1_the_oldest_exactly_as_published(self, bench: TransportBench) -> None:
        """PEK-1."""
        for ordering in (SHARED, KEYED):
            topic = await bench.declare_topic(ordering)
            sent = [
                Message("id-0", "a", b"a0", {"name": "value", "é": "ü😀"}),
                Message("", "", bytes(range(256))),
                Message("id-2", None, b""),
                Message("id-3", "a", b"a1"),
            ]
            for message in sent:
                await bench.one.publish(topic, [message])
                # The order is that of time, which some brokers count in milliseconds.
                await asyncio.sleep(0.01)
            seen = await bench.peek(topic)
            assert [
                (each.message.id, each.message.key, each.message.body, dict(each.message.headers)) for each in seen
            ] == [(each.id, each.key, each.body, dict(each.headers)) for each in sent]
            times = [each.published_at for each in seen]
            assert times == sorted(times)
            assert abs(times[0] - bench.clock.now()) < 60
            assert len(await bench.peek(topic, 2)) == 2
            assert (await bench.peek(topic, 2))[0] == seen[0]

    @rule
    async def test_pek_2_nothing_is_taken(self, bench: TransportBench) -> None:
        """PEK-2."""
        for ordering in (SHARED, KEYED):
            topic = await bench.declare_topic(ordering)
            await bench.publish(topic, "a1", "b1", "c1")
            views = await asyncio.gather(*(bench.peek(topic) for _ in range(3)))
            assert [sorted(list_names(each)) for each in views] == [["a1", "b1", "c1"]] * 3
            stats = await bench.stats(topic)
            assert (stats.unacked, stats.consumers) == (0, 0)
            peer = await bench.join(topic)
            got = await peer.take(3)
            assert sorted(read_names(got)) == ["a1", "b1", "c1"]
            assert {delivery.attempt for delivery in got} == {1}, "they were never delivered before"
            receiving = asyncio.create_task(peer.receive(1))
            await bench.peek(topic)
            await bench.publish(topic, "d1")
            assert read_names(await receiving) == ["d1"], "a peek takes nothing from one who waits"

    @rule
    async def test_pek_3_what_is_in_hand_is_shown_and_what_is_settled_is_not(self, bench: TransportBench) -> None:
        """PEK-3."""
        for ordering in (SHARED, KEYED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            for name in ("a1", "b1", "c1", "d1", "e1"):
                await bench.publish(topic, name)
            await bench.publish(topic, "later", at=bench.clock.now() + 3600)
            got = {delivery.message.body.decode(): delivery for delivery in await peer.take(5)}
            assert sorted(list_names(await bench.peek(topic))) == ["a1", "b1", "c1", "d1", "e1"]
            # Also in the middle, and then at the beginning.
            for settled, left in ((("b1", "d1"), ["a1", "c1", "e1"]), (("a1",), ["c1", "e1"])):
                await peer.ack([got[name] for name in settled])
                await bench.wait_until_durable()
                assert sorted(list_names(await bench.peek(topic))) == left
            await peer.nack(got["c1"])
            assert sorted(list_names(await bench.peek(topic))) == ["c1", "e1"]
            await peer.consumer.close()
            assert sorted(list_names(await bench.peek(topic))) == ["c1", "e1"], "they wait again"

    @rule
    async def test_pek_3_each_subscription_by_itself(self, bench: TransportBench) -> None:
        """PEK-3."""
        topic = await bench.declare_topic(SHARED)
        other = await bench.join(topic, name="other")
        await bench.publish(topic, "a1", "b1")
        await other.ack(await other.take(2))
        await bench.wait_until_durable()
        assert await bench.one.peek(topic, "other", 10) == []
        assert len(await bench.peek(topic)) == 2

    @rule
    async def test_pek_4_of_nothing(self, bench: TransportBench) -> None:
        """PEK-4."""
        topic = await bench.declare_topic(SHARED)
        assert await bench.peek(topic) == []
        assert await bench.one.peek(topic, "nobody", 10) == []
        assert await bench.one.peek(Topic(f"peek-{new_id()}", SHARED, MAIN), MAIN, 10) == []
        with pytest.raises(UsageError):
            await bench.peek(topic, 0)
