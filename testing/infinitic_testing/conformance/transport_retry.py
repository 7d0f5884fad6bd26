"""Redelivery (RED)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from msgspec.structs import replace

from infinitic.topics import Topic
from infinitic.transport import Delivery, TransportClosed
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    SHARED,
    TransportBench,
    TransportSuite,
    make_mail,
    read_names,
    rule,
)


class RetryRules(TransportSuite):
    """Rules RED that a broker keeps by itself."""

    @rule
    async def test_red_1_a_nack_comes_again_after_its_delay(self, bench: TransportBench) -> None:
        """RED-1."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            await bench.publish(topic, "a1")
            (taken,) = await peer.take(1)
            start = bench.clock.now()
            await peer.nack(taken, self.delay)
            assert read_names(await peer.take(1)) == ["a1"]
            passed = bench.clock.now() - start
            assert self.delay - 0.01 <= passed + bench.capabilities.delay_earliness <= self.delay + self.promptness

    @rule
    async def test_red_1_nothing_is_lost_under_a_stream_of_nacks(self, bench: TransportBench) -> None:
        """RED-1."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic, 4)
            sent = [f"{key}{n}" for n in range(4) for key in "abc"]
            await bench.publish(topic, *sent)
            seen: dict[str, int] = {}
            acked: list[str] = []
            while len(acked) < len(sent):
                for delivery in await peer.receive(3):
                    (name,) = read_names([delivery])
                    seen[name] = seen.get(name, 0) + 1
                    if seen[name] > 3:
                        await peer.ack([delivery])
                        acked.append(name)
                    else:
                        await peer.nack(delivery)
            assert sorted(acked) == sorted(sent)
            await peer.expect_nothing()

    @rule
    async def test_red_1_what_comes_again_at_once_hides_none_of_the_others(self, bench: TransportBench) -> None:
        """RED-1."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic, 4)
            await bench.publish(topic, "a1", "b2", "c3", "d4", "e5", "f6")
            acked: set[str] = set()
            for _ in range(2000):
                await asyncio.sleep(0.001)
                (delivery,) = await peer.receive(1)
                if read_names([delivery]) == ["a1"]:
                    await peer.nack(delivery)
                else:
                    await peer.ack([delivery])
                    acked.update(read_names([delivery]))
                if len(acked) == 5:
                    break
            assert len(acked) == 5, f"a1 hid the others: {sorted(acked)} came"

    @rule
    async def test_red_2_the_ack_of_an_earlier_delivery_removes_nothing(self, bench: TransportBench) -> None:
        """RED-2."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            await bench.publish(topic, "a1")
            (stale,) = await peer.take(1)
            await peer.nack(stale)
            await peer.take(1)
            await peer.ack([stale])
            await bench.wait_until_durable()
            await peer.transport.close()
            assert read_names(await (await bench.join(topic)).take(1)) == ["a1"]

    @rule
    async def test_red_3_attempts_count_from_1(self, bench: TransportBench) -> None:
        """RED-3."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            await bench.publish(topic, "a1")
            for attempt in range(1, 5):
                (taken,) = await peer.take(1)
                assert taken.attempt == attempt
                await peer.nack(taken, 0.0 if attempt % 2 else self.delay / 4)
            (taken,) = await peer.take(1)
            await peer.transport.close()
            (last,) = await (await bench.join(topic)).take(1)
            assert last.attempt > taken.attempt

    @rule
    async def test_red_7_an_ack_is_final(self, bench: TransportBench) -> None:
        """RED-7."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            await bench.publish(topic, "a1", "b1")
            taken, other = await peer.take(2)
            await peer.ack([taken, taken])
            await peer.ack([taken])
            await peer.nack(taken)
            await peer.expect_nothing()
            stats = await bench.stats(topic)
            assert (stats.backlog, stats.delayed) == (0, 0)
            await peer.nack(other)
            assert read_names(await peer.take(1)) == read_names([other])

    @rule
    async def test_red_7_a_late_repeat_of_an_ack_removes_nothing_newer(self, bench: TransportBench) -> None:
        """RED-7."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            await bench.publish(topic, "a1")
            taken = await peer.take(1)
            await peer.ack(taken)
            # The topic is empty. What comes now must not be known by what a1 was known by.
            await bench.wait_until_durable()
            await bench.publish(topic, "a2")
            await peer.take(1)
            await peer.ack(taken)
            await bench.wait_until_durable()
            await peer.transport.close()
            got = read_names(await (await bench.join(topic)).take_rest())
            assert got == ["a2"], "the acknowledgement of a1, which came twice, has removed a2"

    @rule
    async def test_red_8_the_ack_of_one_that_crashed_is_ignored(self, bench: TransportBench) -> None:
        """RED-8."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            first = await bench.join(topic)
            await bench.publish(topic, "a1")
            taken = await first.take(1)
            heir = await bench.join(topic)
            await self.crash(first.transport)
            await heir.take(1)
            with suppress(TransportClosed):
                await first.ack(taken)
            await heir.transport.close()
            assert read_names(await (await bench.join(topic)).take(1)) == ["a1"]

    @rule
    async def test_red_9_in_the_end_nothing_is_left(self, bench: TransportBench) -> None:
        """RED-9."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            await bench.publish(topic, *(f"{'abc'[n % 3]}{n}" for n in range(20)))
            first = await bench.join(topic)
            got = await first.take(20)
            for delivery in got[::3]:
                await first.nack(delivery)
            await first.ack([delivery for place, delivery in enumerate(got) if place % 3])
            await bench.wait_until_durable()
            await first.close()
            last = await bench.join(topic)
            again = await last.take_rest()
            assert sorted(read_names(again)) == sorted(read_names(got[::3]))
            await last.ack(again)
            await bench.wait_until_durable()
            await last.close()

            async def empty(topic: Topic = topic) -> bool:
                stats = await bench.stats(topic)
                return (stats.backlog, stats.unacked, stats.delayed) == (0, 0, 0)

            await bench.wait_until(empty)

    @rule
    async def test_red_10_redeliveries_are_exact_and_nothing_is_invented(self, bench: TransportBench) -> None:
        """RED-10."""
        topic = await bench.declare_topic(SHARED)
        peer = await bench.join(topic)
        await bench.one.publish(topic, [replace(each, headers={"of": each.id}) for each in make_mail("a1", "b2", "c3")])
        first = await peer.take(3)
        assert sorted(read_names(first)) == ["a1", "b2", "c3"]
        for delivery in first:
            await peer.nack(delivery)
        assert sorted(map(_get_content, await peer.take_rest())) == sorted(map(_get_content, first))

    @rule
    async def test_red_11_a_redelivery_can_be_told(self, bench: TransportBench) -> None:
        """RED-11."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            first = await bench.join(topic)
            await bench.publish(topic, "a1")
            (taken,) = await first.take(1)
            assert taken.attempt == 1
            assert abs(taken.published_at - bench.clock.now()) < self.patience
            await first.transport.close()
            (again,) = await (await bench.join(topic)).take(1)
            assert again.attempt > 1
            assert again.published_at == taken.published_at


def _get_content(delivery: Delivery) -> tuple[str | None, bytes, dict[str, str]]:
    return delivery.message.key, delivery.message.body, dict(delivery.message.headers)
