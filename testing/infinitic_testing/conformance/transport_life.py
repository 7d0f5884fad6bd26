"""Life of connections and consumers (LIF)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from infinitic.transport import TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    SHARED,
    Peer,
    TransportBench,
    TransportSuite,
    make_mail,
    read_names,
    rule,
)


class LifecycleRules(TransportSuite):
    """Rules LIF."""

    @rule
    async def test_lif_1_close_gives_back_what_is_in_hand(self, bench: TransportBench) -> None:
        """LIF-1."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            leaving = await bench.join(topic)
            await bench.publish(topic, "a1", "a2")
            await leaving.take(2)
            heir = await bench.join(topic)
            receiving = asyncio.create_task(heir.take(2))
            await asyncio.sleep(0)
            await leaving.close()
            assert sorted(read_names(await receiving)) == ["a1", "a2"]
            await heir.expect_nothing()

    @rule
    async def test_lif_2_close_ends_in_time(self, bench: TransportBench) -> None:
        """LIF-2."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic)
        await bench.publish(topic, *(f"a{n}" for n in range(50)))
        await peer.ack((await peer.take(20))[:10])
        async with asyncio.timeout(self.patience):
            await peer.transport.close()
        assert read_names(await (await bench.join(topic)).take(40)) == [f"a{n}" for n in range(10, 50)]

    @rule
    async def test_lif_3_a_cancelled_receive_loses_nothing(self, bench: TransportBench) -> None:
        """LIF-3."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer, other = await bench.join(topic), await bench.join(topic)
            sent = [f"{'abcd'[n % 4]}{n}" for n in range(20)]
            for name in sent:
                receiving = [asyncio.create_task(each.consumer.receive(1)) for each in (peer, other)]
                await asyncio.sleep(0)
                await bench.publish(topic, name)
                for each, task in zip((peer, other), receiving, strict=True):
                    task.cancel()
                    await asyncio.wait([task])
                    if not task.cancelled():
                        await each.nack(task.result()[0])
            await other.close()
            assert sorted(read_names(await peer.take(20))) == sorted(sent)

    @rule
    async def test_lif_4_a_cancelled_ack_acks_or_not(self, bench: TransportBench) -> None:
        """LIF-4."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic)
        await bench.publish(topic, "a1", "a2", "a3")
        acking = asyncio.create_task(peer.ack(await peer.take(2)))
        await asyncio.sleep(0)
        acking.cancel()
        await asyncio.wait([acking])
        await bench.wait_until_durable()
        await peer.transport.close()
        got = read_names(await (await bench.join(topic)).take_rest())
        assert got in (["a3"], ["a2", "a3"], ["a1", "a2", "a3"], ["a1", "a3"])

    @rule
    async def test_lif_5_after_a_close_every_call_raises(self, bench: TransportBench) -> None:
        """LIF-5."""
        topic = await bench.declare_topic()
        transport = bench.connect()
        peer = await bench.join(topic, on=transport)
        await bench.publish(topic, "a1")
        (taken,) = await peer.take(1)
        waiting = await bench.join(topic, on=transport)
        receiving = asyncio.create_task(waiting.receive(1))
        await asyncio.sleep(self.silence / 3)
        for _ in range(2):
            await peer.close()
            await transport.close()
        calls: list[Awaitable[object]] = [
            receiving,
            peer.receive(1),
            peer.ack([taken]),
            peer.nack(taken),
            transport.declare([topic]),
            transport.publish(topic, make_mail("a2")),
            transport.subscribe(topic, "main", 1),
            transport.stats(topic),
        ]
        for place, call in enumerate(calls):
            if place == 0 and receiving.done() and not receiving.exception():
                continue  # it was handed what `peer` gave back
            with pytest.raises(TransportClosed):
                await call

    @rule
    async def test_lif_5_a_closed_consumer_leaves_its_connection_open(self, bench: TransportBench) -> None:
        """LIF-5."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic, on=bench.one)
        await peer.close()
        with pytest.raises(TransportClosed):
            await peer.receive(1)
        await bench.publish(topic, "a1")
        assert read_names(await (await bench.join(topic, on=bench.one)).take(1)) == ["a1"]

    @rule
    async def test_lif_6_a_restart_of_the_broker_is_survived(self, bench: TransportBench) -> None:
        """LIF-6."""
        if self.embedded:
            pytest.skip("no connection outlives a restart of an embedded broker")
        topic = await bench.declare_topic()
        peer = await bench.join(topic, 2)
        await bench.publish(topic, "a1", "a2", "a3", "a4")
        await peer.take(1)
        await self.restart()

        async def published() -> bool:
            try:
                await bench.publish(topic, "a5")
            except TransportUnavailable:
                return False
            return True

        await bench.wait_until(published)
        seen: dict[str, None] = {}
        while "a5" not in seen:
            got = await peer.receive(2)
            assert len(got) <= 2
            seen.update(dict.fromkeys(read_names(got)))
            await peer.ack(got)
        assert [name for name in seen if name != "a1"] == ["a2", "a3", "a4", "a5"]

    @rule
    async def test_lif_7_a_close_leaves_no_task_no_thread_and_no_timer(self, bench: TransportBench) -> None:
        """LIF-7."""
        topic = await bench.declare_topic()
        warm = bench.connect()
        await warm.publish(topic, make_mail("a0"))
        await warm.close()
        await bench.publish(topic, "b0", at=bench.clock.now() + self.patience * 2)
        tasks, threads, timers = asyncio.all_tasks(), threading.active_count(), count_live_timers()
        transport = bench.connect()
        peer = await bench.join(topic, on=transport)
        await bench.publish(topic, "a1", at=bench.clock.now() + self.patience)
        await peer.nack((await peer.take(1))[0], self.patience)
        await transport.close()

        async def clean() -> bool:
            return (
                asyncio.all_tasks() <= tasks and threading.active_count() <= threads and count_live_timers() <= timers
            )

        await bench.wait_until(clean)

    @rule
    async def test_lif_8_one_whose_topic_is_removed_is_told(self, bench: TransportBench) -> None:
        """LIF-8."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            await bench.publish(topic, "a1")
            in_hand = await peer.take(1)
            full = await bench.join(topic, 1, on=peer.transport)
            await bench.publish(topic, "b1")
            waiting = [asyncio.create_task(each.consumer.receive(10)) for each in (peer, full)]
            await asyncio.sleep(self.silence / 3)
            await self.remove(topic)
            for each, receiving in zip((peer, full), waiting, strict=True):
                with pytest.raises((UnknownTopic, TransportClosed)):
                    await asyncio.wait_for(to_the_end(each, receiving), self.patience)
            await peer.ack(in_hand)
            for each in (peer, full):
                await each.close()
            await peer.transport.declare([topic])
            heir = await bench.join(topic, on=peer.transport)
            await peer.transport.publish(topic, make_mail("a2"))
            assert read_names(await heir.take(1)) == ["a2"]

    @rule
    async def test_lif_8_a_reader_whose_topic_is_removed_is_told(self, bench: TransportBench) -> None:
        """LIF-8."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic, durable=False)
        await self.remove(topic)
        with pytest.raises((UnknownTopic, TransportClosed)):
            await asyncio.wait_for(peer.consumer.receive(10), self.patience)


async def to_the_end(peer: Peer, receiving: Awaitable[object]) -> None:
    """Receive until it is told that nothing comes any more."""
    await receiving
    while True:
        await peer.consumer.receive(10)


def count_live_timers() -> int:
    """The timers of the loop that are still to fire, where it shows them."""
    loop = asyncio.get_running_loop()
    shown: list[Any] = getattr(loop, "_timers", None) or getattr(loop, "_scheduled", [])
    count = 0
    for each in shown:
        handle: asyncio.TimerHandle = each if isinstance(each, asyncio.TimerHandle) else each[-1]
        count += not handle.cancelled()
    return count
