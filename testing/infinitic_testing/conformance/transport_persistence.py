"""Persistence (PER) and exclusive consumption (EXC)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from infinitic.ids import new_id
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message, MessageTooLarge, TransportClosed, UnknownTopic
from infinitic_testing.conformance.transport_bench import KEYED, SHARED, Bench, Seams, mail, names, numbered, rule


class Persistence(Seams):
    """Rules PER and EXC."""

    @rule
    async def test_per_1_what_was_accepted_outlives_its_publisher(self, bench: Bench) -> None:
        """PER-1."""
        topic = await bench.topic()
        publisher = bench.connect()
        await publisher.publish(topic, mail("a1", "b1"))
        await publisher.close()
        assert sorted(names(await (await bench.join(topic)).take(2))) == ["a1", "b1"]

    @rule
    async def test_per_1_a_topic_that_was_never_declared_is_unknown(self, bench: Bench) -> None:
        """PER-1."""
        with pytest.raises(UnknownTopic):
            await bench.one.publish(Topic(f"conformance:{new_id()}", KEYED, "main"), mail("a1"))

    @rule
    async def test_per_2_unacked_survives_a_close(self, bench: Bench) -> None:
        """PER-2."""
        for ordering in (KEYED, SHARED):
            topic = await bench.topic(ordering)
            first = await bench.join(topic)
            await bench.publish(topic, "a1", "b1", "c1")
            await first.take(2)
            await first.transport.close()
            assert sorted(names(await (await bench.join(topic)).take(3))) == ["a1", "b1", "c1"]

    @rule
    async def test_per_2_unacked_survives_a_crash(self, bench: Bench) -> None:
        """PER-2."""
        for ordering in (KEYED, SHARED):
            topic = await bench.topic(ordering)
            first = await bench.join(topic)
            await bench.publish(topic, "a1", "b1", "c1")
            await first.take(2)
            await self.crash(first.transport)
            assert sorted(names(await (await bench.join(topic)).take(3))) == ["a1", "b1", "c1"]

    @rule
    async def test_per_2_unacked_survives_a_restart(self, bench: Bench) -> None:
        """PER-2."""
        topic = await bench.topic()
        await bench.publish(topic, "a1", "a2")
        await self.restart()
        assert names(await (await bench.join(topic)).take(2)) == ["a1", "a2"]

    @rule
    async def test_per_3_acked_does_not_come_again(self, bench: Bench) -> None:
        """PER-3."""
        for ordering in (KEYED, SHARED):
            topic = await bench.topic(ordering)
            first = await bench.join(topic)
            await bench.publish(topic, "a1", "b1")
            await first.ack(await first.take(2))
            await bench.settled()
            await first.transport.close()
            await (await bench.join(topic)).nothing()

    @rule
    async def test_per_3_acked_does_not_come_again_after_a_restart(self, bench: Bench) -> None:
        """PER-3."""
        topic = await bench.topic()
        first = await bench.join(topic)
        await bench.publish(topic, "a1", "a2")
        await first.ack(await first.take(2))
        await bench.settled()
        await first.transport.close()
        await self.restart()
        await (await bench.join(topic)).nothing()

    @rule
    async def test_per_4_a_subscription_without_consumers_keeps_all(self, bench: Bench) -> None:
        """PER-4."""
        topic = await bench.topic()
        count = self.many(1000)
        await bench.one.publish(topic, numbered("a", count))
        assert (await bench.stats(topic)).backlog == count
        assert names(await (await bench.join(topic, count)).take(count)) == names_of(count)

    @rule
    async def test_per_5_a_topic_without_subscription_keeps_nothing(self, bench: Bench) -> None:
        """PER-5."""
        topic = Topic(f"conformance:{new_id()}", SHARED, None)
        with suppress(UnknownTopic):
            await bench.publish(topic, "a1")
        late = await bench.join(topic, durable=False)
        await late.nothing()
        await bench.publish(topic, "a2")
        assert names(await late.take(1)) == ["a2"]

    @rule
    async def test_per_6_subscriptions_are_independent(self, bench: Bench) -> None:
        """PER-6."""
        topic = await bench.topic(SHARED)
        one, other = await bench.join(topic), await bench.join(topic, name="other")
        await bench.publish(topic, "a1", "b1")
        await one.ack(await one.take(2))
        got = await other.take(2)
        assert names(got) == ["a1", "b1"]
        await other.nack(got[0])
        assert names(await other.take(1)) == ["a1"]
        await one.nothing()

    @rule
    async def test_per_7_an_ephemeral_subscription_gets_what_is_published_meanwhile(self, bench: Bench) -> None:
        """PER-7."""
        topic = await bench.topic(SHARED)
        await bench.publish(topic, "a1")
        listener = await bench.join(topic, name="listener", durable=False)
        second = await bench.join(topic, name="listener", durable=False)
        await bench.publish(topic, "a2", "a3")
        assert names(await listener.take(2)) == names(await second.take(2)) == ["a2", "a3"]
        await listener.close()
        await second.close()

        async def gone() -> bool:
            return list((await bench.one.stats(topic)).subscriptions) == ["main"]

        await bench.eventually(gone)
        await bench.publish(topic, "a4")
        await (await bench.join(topic, name="listener", durable=False)).nothing()

    @rule
    async def test_per_7_an_ephemeral_topic_goes_with_its_subscriber(self, bench: Bench) -> None:
        """PER-7."""
        topic = Topic(f"conformance:{new_id()}", SHARED, None)
        listener = await bench.join(topic, durable=False)
        await bench.publish(topic, "a1")
        assert names(await listener.take(1)) == ["a1"]
        await listener.close()

        async def gone() -> bool:
            return not (await bench.one.stats(topic)).subscriptions

        await bench.eventually(gone)

    @rule
    async def test_per_8_a_publish_that_fails_leaves_nothing(self, bench: Bench) -> None:
        """PER-8."""
        topic = await bench.topic(SHARED)
        large = Message("large", None, bytes(bench.capabilities.max_payload + 1))
        with pytest.raises(MessageTooLarge):
            await bench.one.publish(topic, [*mail("a1"), large, *mail("a2")])
        await (await bench.join(topic)).nothing()

    @rule
    async def test_per_8_a_cancelled_publish_is_whole_or_absent(self, bench: Bench) -> None:
        """PER-8."""
        topic = await bench.topic(SHARED)
        body = b"x" * min(100_000, bench.capabilities.max_payload)
        publishing = asyncio.create_task(bench.one.publish(topic, [Message("m", "k", body)] * 3))
        await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.wait([publishing])
        got = await (await bench.join(topic)).rest()
        assert len(got) <= 3
        assert {delivery.message.body for delivery in got} <= {body}
        await bench.publish(topic, "a1")

    @rule
    async def test_exc_1_a_message_is_with_one_consumer(self, bench: Bench) -> None:
        """EXC-1."""
        for ordering in (KEYED, SHARED):
            topic = await bench.topic(ordering)
            peers = [await bench.join(topic) for _ in range(3)]
            sent = [f"{key}{number}" for key in "abcdef" for number in range(3)]
            await bench.publish(topic, *sent)
            assert sorted([name for peer in peers for name in names(await peer.rest())]) == sorted(sent)

    @rule
    async def test_exc_2_after_a_crash_another_consumer_gets_it(self, bench: Bench) -> None:
        """EXC-2."""
        topic = await bench.topic(SHARED)
        first, heir = await bench.join(topic), await bench.join(topic)
        await bench.publish(topic, "a1", "b1", "c1", "d1")
        held, kept = await first.receive(2), names(await heir.take(2))
        await heir.nothing()
        await self.crash(first.transport)
        assert sorted(kept + names(await heir.take(len(held)))) == ["a1", "b1", "c1", "d1"]
        await heir.nothing()

    @rule
    async def test_exc_3_the_ack_of_one_that_left_removes_nothing(self, bench: Bench) -> None:
        """EXC-3."""
        topic = await bench.topic()
        first = await bench.join(topic)
        await bench.publish(topic, "a1")
        taken = await first.take(1)
        await first.close()
        heir = await bench.join(topic)
        await heir.take(1)
        with pytest.raises(TransportClosed):
            await first.ack(taken)
        await bench.settled()
        await heir.transport.close()
        assert names(await (await bench.join(topic)).take(1)) == ["a1"]

    @rule
    async def test_exc_3_an_ack_by_another_consumer_removes_nothing(self, bench: Bench) -> None:
        """EXC-3."""
        topic = await bench.topic(SHARED)
        holder = await bench.join(topic)
        await bench.publish(topic, "a1")
        (taken,) = await holder.take(1)
        other = await bench.join(topic)
        await other.ack([Delivery(taken.message, taken.attempt, taken.published_at)])
        await other.ack([taken])
        assert (await bench.stats(topic)).unacked == 1
        await holder.transport.close()
        assert names(await other.take(1)) == ["a1"]

    @rule
    async def test_exc_4_competing_consumers_get_all_and_each_some(self, bench: Bench) -> None:
        """EXC-4."""
        topic = await bench.topic(SHARED)
        peers = [await bench.join(topic, 4) for _ in range(3)]
        sent = [f"a{number}" for number in range(12)]
        receiving = [asyncio.create_task(peer.take(4)) for peer in peers]
        await bench.publish(topic, *sent)
        got = await asyncio.gather(*receiving)
        assert sorted(name for some in got for name in names(some)) == sorted(sent)


def names_of(count: int) -> list[str]:
    """The names of `numbered("a", count)`."""
    return [f"a{number}" for number in range(1, count + 1)]
