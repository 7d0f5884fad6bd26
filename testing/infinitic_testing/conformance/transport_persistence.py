"""Persistence (PER)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import pytest

from infinitic.ids import new_id
from infinitic.topics import Topic
from infinitic.transport import Message, MessageTooLarge, UnknownTopic
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    MAIN,
    SHARED,
    TransportBench,
    TransportSuite,
    make_mail,
    make_numbered,
    read_names,
    rule,
)


class PersistenceRules(TransportSuite):
    """Rules PER."""

    @rule
    async def test_per_1_what_was_accepted_outlives_its_publisher(self, bench: TransportBench) -> None:
        """PER-1."""
        topic = await bench.declare_topic()
        publisher = bench.connect()
        await publisher.publish(topic, make_mail("a1", "b1"))
        await publisher.close()
        assert sorted(read_names(await (await bench.join(topic)).take(2))) == ["a1", "b1"]

    @rule
    async def test_per_1_a_topic_that_was_never_declared_is_unknown(self, bench: TransportBench) -> None:
        """PER-1."""
        with pytest.raises(UnknownTopic):
            await bench.one.publish(Topic(f"conformance:{new_id()}", KEYED, "main"), make_mail("a1"))

    @rule
    async def test_per_2_unacked_survives_a_close(self, bench: TransportBench) -> None:
        """PER-2."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            first = await bench.join(topic)
            await bench.publish(topic, "a1", "b1", "c1")
            await first.take(2)
            await first.transport.close()
            assert sorted(read_names(await (await bench.join(topic)).take(3))) == ["a1", "b1", "c1"]

    @rule
    async def test_per_2_unacked_survives_a_crash(self, bench: TransportBench) -> None:
        """PER-2."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            first = await bench.join(topic)
            await bench.publish(topic, "a1", "b1", "c1")
            await first.take(2)
            await self.crash(first.transport)
            assert sorted(read_names(await (await bench.join(topic)).take(3))) == ["a1", "b1", "c1"]

    @rule
    async def test_per_2_unacked_survives_a_restart(self, bench: TransportBench) -> None:
        """PER-2."""
        topic = await bench.declare_topic()
        await bench.publish(topic, "a1", "a2")
        await bench.restart()
        assert read_names(await (await bench.join(topic)).take(2)) == ["a1", "a2"]

    @rule
    async def test_per_3_acked_does_not_come_again(self, bench: TransportBench) -> None:
        """PER-3."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            first = await bench.join(topic)
            await bench.publish(topic, "a1", "b1")
            await first.ack(await first.take(2))
            await bench.wait_until_durable()
            await first.transport.close()
            await (await bench.join(topic)).expect_nothing()

    @rule
    async def test_per_3_acked_does_not_come_again_after_a_crash(self, bench: TransportBench) -> None:
        """PER-3."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            first = await bench.join(topic)
            await bench.publish(topic, "a1", "b1", "c1")
            taken = await first.take(3)
            await first.ack([each for each in taken if read_names([each]) != ["b1"]])
            await bench.wait_until_durable()
            await self.crash(first.transport)
            heir = await bench.join(topic)
            # What was not acknowledged shows that the crash was noticed.
            got = read_names(await heir.take(1)) + read_names(await heir.take_rest())
            lost = sorted(set(got) - {"b1"})
            assert not lost, f"the acknowledgements of {lost} were lost by a crash right after them"

    @rule
    async def test_per_3_acked_does_not_come_again_after_a_restart(self, bench: TransportBench) -> None:
        """PER-3."""
        topic = await bench.declare_topic()
        first = await bench.join(topic)
        await bench.publish(topic, "a1", "a2")
        await first.ack(await first.take(2))
        await bench.wait_until_durable()
        await first.transport.close()
        await bench.restart()
        await (await bench.join(topic)).expect_nothing()

    @rule
    async def test_per_4_a_subscription_without_consumers_keeps_all(self, bench: TransportBench) -> None:
        """PER-4."""
        topic = await bench.declare_topic()
        count = self.many(1000)
        await bench.one.publish(topic, make_numbered("a", count))
        assert (await bench.stats(topic)).backlog > 0  # some brokers count batches
        assert read_names(await (await bench.join(topic, count)).take(count)) == make_names(count)

    @rule
    async def test_per_5_a_topic_without_subscription_keeps_nothing(self, bench: TransportBench) -> None:
        """PER-5."""
        topic = Topic(f"conformance:{new_id()}", SHARED, None)
        with suppress(UnknownTopic):
            await bench.publish(topic, "a1")
        late = await bench.join(topic, durable=False)
        await late.expect_nothing()
        await bench.publish(topic, "a2")
        assert read_names(await late.take(1)) == ["a2"]

    @rule
    async def test_per_6_subscriptions_are_independent(self, bench: TransportBench) -> None:
        """PER-6."""
        topic = await bench.declare_topic(SHARED)
        one, other = await bench.join(topic), await bench.join(topic, name="other")
        await bench.publish(topic, "a1", "b1")
        await one.ack(await one.take(2))
        got = await other.take(2)
        assert sorted(read_names(got)) == ["a1", "b1"]
        await other.nack(got[0])
        assert read_names(await other.take(1)) == read_names(got[:1])
        await one.expect_nothing()

    @rule
    async def test_per_7_an_ephemeral_subscription_gets_what_is_published_meanwhile(
        self, bench: TransportBench
    ) -> None:
        """PER-7."""
        topic = await bench.declare_topic(SHARED)
        await bench.publish(topic, "a1")
        listener = await bench.join(topic, name="listener", durable=False)
        second = await bench.join(topic, name="listener", durable=False)
        await bench.publish(topic, "a2", "a3")
        for each in (listener, second):
            assert sorted(read_names(await each.take(2))) == ["a2", "a3"]
        await listener.close()
        await second.close()

        async def gone() -> bool:
            return list((await bench.one.stats(topic)).subscriptions) == ["main"]

        await bench.wait_until(gone)
        await bench.publish(topic, "a4")
        await (await bench.join(topic, name="listener", durable=False)).expect_nothing()

    @rule
    async def test_per_7_an_ephemeral_topic_goes_with_its_subscriber(self, bench: TransportBench) -> None:
        """PER-7."""
        topic = Topic(f"conformance:{new_id()}", SHARED, None)
        listener = await bench.join(topic, durable=False)
        await bench.publish(topic, "a1")
        assert read_names(await listener.take(1)) == ["a1"]
        await listener.close()

        async def gone() -> bool:
            return not (await bench.one.stats(topic)).subscriptions

        await bench.wait_until(gone)

    @rule
    async def test_per_7_an_ephemeral_subscription_goes_with_a_crash(self, bench: TransportBench) -> None:
        """PER-7."""
        topic = await bench.declare_topic(SHARED)
        own = Topic(f"conformance:{new_id()}", SHARED, None)
        listener = await bench.join(topic, name="listener", durable=False)
        await bench.join(own, on=listener.transport, durable=False)
        await bench.publish(topic, "a1")
        await listener.take(1)
        await self.crash(listener.transport)
        await wait_until_gone(bench, {topic: [MAIN], own: []})
        await bench.publish(topic, "a2")
        assert sorted(read_names(await (await bench.join(topic)).take(2))) == ["a1", "a2"]

    @rule
    async def test_per_8_a_publish_that_fails_leaves_nothing(self, bench: TransportBench) -> None:
        """PER-8."""
        topic = await bench.declare_topic(SHARED)
        large = Message("large", None, bytes(bench.capabilities.max_payload + 1))
        with pytest.raises(MessageTooLarge):
            await bench.one.publish(topic, [*make_mail("a1"), large, *make_mail("a2")])
        await (await bench.join(topic)).expect_nothing()

    @rule
    async def test_per_8_a_cancelled_publish_is_whole_or_absent(self, bench: TransportBench) -> None:
        """PER-8."""
        topic = await bench.declare_topic(SHARED)
        body = b"x" * min(100_000, bench.capabilities.max_payload)
        publishing = asyncio.create_task(bench.one.publish(topic, [Message("m", "k", body)] * 3))
        await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.wait([publishing])
        got = await (await bench.join(topic)).take_rest()
        assert len(got) <= 3
        assert {delivery.message.body for delivery in got} <= {body}
        await bench.publish(topic, "a1")

    @rule
    async def test_per_9_kept_for_the_deduplication_window(self, bench: TransportBench) -> None:
        """PER-9."""
        window = self.deduplication_window
        if window is None:
            pytest.skip("deduplication_window is not provided")
        topic = await bench.declare_topic()
        await bench.publish(topic, "a1")
        await bench.publish(topic, "b1", at=bench.clock.now() + min(self.delay, window / 4))
        await asyncio.sleep(window * 0.9)
        await bench.publish(topic, "c1")
        got = sorted(read_names(await (await bench.join(topic)).take_rest()))
        assert got == ["a1", "b1", "c1"], f"after {window * 0.9:,.0f} of {window:,.0f} s only {got} is left"


async def wait_until_gone(bench: TransportBench, expected: Mapping[Topic, list[str]]) -> None:
    """Wait until topics have these subscriptions, and no others.

    Args:
        bench: the connections.
        expected: the names of the subscriptions of each topic.
    """
    left: dict[str, list[str]] = {}

    async def gone() -> bool:
        for topic, names in expected.items():
            left[topic.name] = sorted(set((await bench.one.stats(topic)).subscriptions) - set(names))
        return not any(left.values())

    with suppress(AssertionError):
        await bench.wait_until(gone)
    assert not any(left.values()), f"ephemeral subscriptions are left behind: {left}"


def make_names(count: int) -> list[str]:
    """The names of `make_numbered("a", count)`."""
    return [f"a{number}" for number in range(1, count + 1)]
