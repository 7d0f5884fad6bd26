"""Delayed delivery (DLY)."""

from __future__ import annotations

import asyncio

import pytest

from infinitic.transport import Message
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    SHARED,
    TransportBench,
    TransportSuite,
    make_mail,
    make_numbered,
    read_names,
    rule,
)
from infinitic_testing.conformance.transport_watch import check_next_holder

DAY = 86_400.0


class DelayRules(TransportSuite):
    """Rules DLY."""

    @rule
    async def test_dly_1_never_early(self, bench: TransportBench) -> None:
        """DLY-1."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            due = bench.clock.now() + self.delay
            await bench.publish(topic, "a1", at=due)
            assert read_names(await peer.take(1)) == ["a1"]
            assert bench.clock.now() >= due - bench.capabilities.delay_earliness - bench.capabilities.delay_resolution

    @rule
    async def test_dly_2_promptly_when_due(self, bench: TransportBench) -> None:
        """DLY-2."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            due = bench.clock.now() + self.delay
            await bench.publish(topic, "a1", at=due)
            await peer.take(1)
            assert bench.clock.now() <= due + self.promptness + bench.capabilities.delay_resolution

    @rule
    async def test_dly_3_zero_and_past_are_at_once(self, bench: TransportBench) -> None:
        """DLY-3."""
        topic = await bench.declare_topic(SHARED)
        peer = await bench.join(topic)
        start = bench.clock.now()
        await bench.publish(topic, "a1", at=0.0)
        await bench.publish(topic, "a2", at=start - DAY)
        await bench.publish(topic, "a3", at=start)
        assert sorted(read_names(await peer.take(3))) == ["a1", "a2", "a3"]
        assert bench.clock.now() <= start + self.promptness

    @rule
    async def test_dly_4_in_due_order(self, bench: TransportBench) -> None:
        """DLY-4."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic)
        step = max(self.delay / 4, 4 * bench.capabilities.delay_resolution)
        delay = self.delay
        while True:
            start = bench.clock.now() + delay
            messages = [make_mail(f"a{place}", at=start + place * step)[0] for place in (3, 0, 4, 1, 2)]
            await bench.one.publish(topic, messages)
            in_time = bench.clock.now() < start
            got = read_names(await peer.take(5))
            if in_time:
                break
            # The machine is so busy that some were due before all were published.
            delay *= 2
        assert got == ["a0", "a1", "a2", "a3", "a4"]

    @rule
    async def test_dly_5_what_is_pending_blocks_nobody(self, bench: TransportBench) -> None:
        """DLY-5."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic, 2)
        later = bench.clock.now() + self.patience * 3
        await bench.one.publish(topic, [*make_mail("a1", "a2", "a3", "b1", at=later), *make_mail("a4", "b2")])
        got = await peer.take(2)
        assert sorted(read_names(got)) == ["a4", "b2"]
        assert bench.clock.now() < later - self.patience
        await peer.ack(got)
        await bench.publish(topic, "a5")
        assert read_names(await peer.take(1)) == ["a5"]

    @rule
    async def test_dly_6_when_due_it_goes_to_the_holder_of_its_key(self, bench: TransportBench) -> None:
        """DLY-6."""
        topic = await bench.declare_topic()
        holder = await bench.join(topic)
        due = bench.clock.now() + self.delay
        await bench.publish(topic, "a3", at=due)
        await bench.publish(topic, "a1", "a2")
        held = await holder.take(2)
        other = await bench.join(topic)
        await asyncio.sleep(self.delay + self.promptness)
        await other.expect_nothing()
        await holder.ack(held[:1])
        await other.expect_nothing()
        await check_next_holder(bench, "a3", holder, other, held[1])

    @rule
    async def test_dly_7_nobody_need_be_there(self, bench: TransportBench) -> None:
        """DLY-7."""
        topic = await bench.declare_topic()
        publisher = bench.connect()
        await publisher.publish(topic, make_mail("a1", at=bench.clock.now() + self.delay))
        await publisher.close()
        await asyncio.sleep(self.delay + self.promptness)
        assert read_names(await (await bench.join(topic)).take(1)) == ["a1"]

    @rule
    async def test_dly_7_a_nack_with_a_delay_outlives_its_consumer(self, bench: TransportBench) -> None:
        """DLY-7."""
        topic = await bench.declare_topic(SHARED)
        first = await bench.join(topic)
        await bench.publish(topic, "a1")
        (taken,) = await first.take(1)
        await first.nack(taken, self.delay)
        await first.transport.close()
        assert read_names(await (await bench.join(topic)).take(1)) == ["a1"]

    @rule
    async def test_dly_7_pending_survives_a_restart(self, bench: TransportBench) -> None:
        """DLY-7."""
        topic = await bench.declare_topic()
        await bench.publish(topic, "a1", at=bench.clock.now() + self.delay)
        await bench.restart()
        assert read_names(await (await bench.join(topic)).take(1)) == ["a1"]

    @rule
    async def test_dly_8_very_many_a_day_ahead(self, bench: TransportBench) -> None:
        """DLY-8."""
        topic = await bench.declare_topic(SHARED)
        count = self.many(100_000)
        due = bench.clock.now() + DAY
        for start in range(0, count, 1000):
            some = make_numbered("a", min(1000, count - start), start)
            await bench.one.publish(topic, [Message(m.id, m.key, m.body, {}, due) for m in some])
        peer = await bench.join(topic, count)
        await peer.expect_nothing()
        await bench.publish(topic, "b1")
        got = await peer.take(1)
        assert read_names(got) == ["b1"]
        await peer.ack(got)
        if self.virtual:
            assert (await bench.stats(topic)).delayed == count
            got = await peer.take(count, within=2 * DAY)
            assert len({delivery.message.body for delivery in got}) == count
            assert bench.clock.now() == pytest.approx(due)

    @rule
    async def test_dly_9_a_nack_does_not_wait_for_the_time_again(self, bench: TransportBench) -> None:
        """DLY-9."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic)
        due = bench.clock.now() + self.delay * 4
        await bench.publish(topic, "a1", at=due)
        (taken,) = await peer.take(1)
        start = bench.clock.now()
        await peer.nack(taken)
        (again,) = await peer.take(1)
        assert bench.clock.now() < start + max(self.delay, self.promptness)
        assert again.attempt >= 1
