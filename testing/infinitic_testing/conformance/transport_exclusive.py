"""Exclusive consumption (EXC)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest

from infinitic.transport import Delivery, TransportClosed
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    SHARED,
    Peer,
    TransportBench,
    TransportSuite,
    read_names,
    rule,
)


class ExclusiveRules(TransportSuite):
    """Rules EXC."""

    @rule
    async def test_exc_1_a_message_is_with_one_consumer(self, bench: TransportBench) -> None:
        """EXC-1."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peers = [await bench.join(topic) for _ in range(3)]
            sent = [f"{key}{number}" for key in "abcdef" for number in range(3)]
            await bench.publish(topic, *sent)
            assert sorted([name for peer in peers for name in read_names(await peer.take_rest())]) == sorted(sent)

    @rule
    async def test_exc_2_after_a_crash_another_consumer_gets_it(self, bench: TransportBench) -> None:
        """EXC-2."""
        topic = await bench.declare_topic(SHARED)
        first = await bench.join(topic, 2)
        await bench.publish(topic, "a1", "b1", "c1", "d1")
        held = read_names(await first.take(2))
        heir = await bench.join(topic)
        before = read_names(await heir.take_rest())
        assert not set(held) & set(before)
        await self.crash(first.transport)
        assert sorted(before + read_names(await heir.take(4 - len(before)))) == ["a1", "b1", "c1", "d1"]
        await heir.expect_nothing()

    @rule
    async def test_exc_3_the_ack_of_one_that_left_removes_nothing(self, bench: TransportBench) -> None:
        """EXC-3."""
        topic = await bench.declare_topic()
        first = await bench.join(topic)
        await bench.publish(topic, "a1")
        taken = await first.take(1)
        await first.close()
        heir = await bench.join(topic)
        await heir.take(1)
        with pytest.raises(TransportClosed):
            await first.ack(taken)
        await bench.wait_until_durable()
        await heir.transport.close()
        assert read_names(await (await bench.join(topic)).take(1)) == ["a1"]

    @rule
    async def test_exc_3_an_ack_by_another_consumer_removes_nothing(self, bench: TransportBench) -> None:
        """EXC-3."""
        topic = await bench.declare_topic(SHARED)
        holder = await bench.join(topic)
        await bench.publish(topic, "a1")
        (taken,) = await holder.take(1)
        other = await bench.join(topic)
        await other.ack([Delivery(taken.message, taken.attempt, taken.published_at)])
        await other.ack([taken])
        assert (await bench.stats(topic)).unacked == 1
        await holder.transport.close()
        assert read_names(await other.take(1)) == ["a1"]

    @rule
    async def test_exc_4_competing_consumers_get_all_and_each_some(self, bench: TransportBench) -> None:
        """EXC-4."""
        topic = await bench.declare_topic(SHARED)
        got: list[list[str]] = [[], [], []]

        async def work(peer: Peer, mine: list[str]) -> None:
            while True:
                some = await peer.consumer.receive(1)
                mine += read_names(some)
                await asyncio.sleep(self.silence / 5)
                await peer.ack(some)

        async def all_came() -> bool:
            return sum(map(len, got)) >= len(sent)

        workers = [asyncio.create_task(work(await bench.join(topic, 2), mine)) for mine in got]
        sent = [f"a{number}" for number in range(30)]
        for name in sent:
            await bench.publish(topic, name)
        with suppress(AssertionError):
            await bench.wait_until(all_came)
        for worker in workers:
            worker.cancel()
        # Whatever ended a worker before it was cancelled is raised.
        for ended in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        check_spread(got, sent)


def check_spread(got: Sequence[Sequence[str]], sent: Sequence[str]) -> None:
    """Check that consumers have got everything together, once, and that none went without.

    Args:
        got: what each consumer got.
        sent: what was published.
    """
    came = Counter(name for mine in got for name in mine)
    who = "; ".join(
        f"consumer {place} got {len(mine)}: {' '.join(mine) or 'nothing'}" for place, mine in enumerate(got, 1)
    )
    missing = [name for name in sent if name not in came]
    assert not missing, f"{missing} did not come to anybody ({who})"
    repeated = [name for name, count in came.items() if count > 1]
    assert not repeated, f"{repeated} came more than once ({who})"
    starved = [place for place, mine in enumerate(got, 1) if not mine]
    assert not starved, f"consumers {starved} went without, though each was ready for more ({who})"
