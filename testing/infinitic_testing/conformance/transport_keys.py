"""Keyed order (ORD)."""

from __future__ import annotations

import asyncio

from infinitic.transport import Message
from infinitic_testing.conformance.transport_bench import (
    TransportBench,
    TransportSuite,
    make_mail,
    make_numbered,
    read_names,
    rule,
)
from infinitic_testing.conformance.transport_watch import KeyWatch, check_next_holder

KEYS = ["", "a", "A", "é", "e\u0301", "日本", "a\0", "a\0b", " a", "k" * 1024, "k" * 1023 + "j", "-", "None", "ß", "ss"]


class KeyRules(TransportSuite):
    """Rules ORD."""

    @rule
    async def test_ord_1_publish_order_in_each_key(self, bench: TransportBench) -> None:
        """ORD-1."""
        topic = await bench.declare_topic()
        count = self.many(500)
        await bench.publish(topic, *(f"{'abc'[n % 3]}{n}" for n in range(count)))
        got = read_names(await (await bench.join(topic, count)).take(count))
        for key in "abc":
            assert [name for name in got if name[0] == key] == [
                f"{key}{n}" for n in range(count) if "abc"[n % 3] == key
            ]

    @rule
    async def test_ord_2_a_key_has_one_holder_under_load(self, bench: TransportBench) -> None:
        """ORD-2."""
        topic = await bench.declare_topic()
        watch = KeyWatch()
        workers = [asyncio.create_task(watch.work(await bench.join(topic, 5))) for _ in range(3)]
        sent = [f"{'abcdefg'[n % 7]}{n}" for n in range(self.many(700, 70))]
        for start in range(0, len(sent), 10):
            await bench.publish(topic, *sent[start : start + 10])
            await asyncio.sleep(0)
        await watch.finish(bench, workers, sent)

    @rule
    async def test_ord_2_what_is_in_hand_keeps_its_key(self, bench: TransportBench) -> None:
        """ORD-2."""
        topic = await bench.declare_topic()
        holder = await bench.join(topic)
        await bench.publish(topic, "a1", "a2")
        first, second = await holder.take(2)
        other = await bench.join(topic)
        await bench.publish(topic, "a3")
        await holder.ack([first])
        await other.expect_nothing()
        await check_next_holder(bench, "a3", holder, other, second)

    @rule
    async def test_ord_3_one_who_joins_takes_no_key_in_use(self, bench: TransportBench) -> None:
        """ORD-3."""
        topic = await bench.declare_topic()
        holder = await bench.join(topic, 1)
        await bench.publish(topic, "a1", "a2", "a3")
        (first,) = await holder.take(1)
        joining = await bench.join(topic)
        await joining.expect_nothing()
        await holder.ack([first])
        watch = KeyWatch()
        workers = [asyncio.create_task(watch.work(peer)) for peer in (holder, joining)]
        await bench.publish(topic, "a4", "a5")
        await watch.finish(bench, workers, ["a2", "a3", "a4", "a5"])

    @rule
    async def test_ord_4_after_a_close_unsettled_comes_before_newer(self, bench: TransportBench) -> None:
        """ORD-4."""
        topic = await bench.declare_topic()
        leaving = await bench.join(topic)
        await bench.publish(topic, "a1", "a2", "a3")
        first, *_ = await leaving.take(2)
        await leaving.ack([first])
        await bench.publish(topic, "a4")
        await bench.wait_until_durable()
        await leaving.transport.close()
        assert read_names(await (await bench.join(topic)).take(3)) == ["a2", "a3", "a4"]

    @rule
    async def test_ord_4_after_a_crash_unsettled_comes_before_newer(self, bench: TransportBench) -> None:
        """ORD-4."""
        topic = await bench.declare_topic()
        leaving, heir = await bench.join(topic), None
        await bench.publish(topic, "a1", "a2", "a3")
        await leaving.take(2)
        heir = await bench.join(topic)
        await bench.publish(topic, "a4")
        await self.crash(leaving.transport)
        assert read_names(await heir.take(4)) == ["a1", "a2", "a3", "a4"]

    @rule
    async def test_ord_5_a_nacked_message_comes_before_later_ones(self, bench: TransportBench) -> None:
        """ORD-5."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic)
        await bench.publish(topic, "a1", "a2", "a3")
        (first,) = await peer.take(1)
        await peer.nack(first)
        got = await peer.take(3)
        assert read_names(got) == ["a1", "a2", "a3"]
        await peer.ack(got)
        await bench.publish(topic, "a4", "a5")
        (first,) = await peer.take(1)
        await peer.nack(first, self.delay)
        await peer.expect_nothing()
        assert read_names(await peer.take(2)) == ["a4", "a5"]

    @rule
    async def test_ord_6_nacks_in_any_order_restore_the_order(self, bench: TransportBench) -> None:
        """ORD-6."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic)
        await bench.publish(topic, "a1", "a2", "a3", "a4")
        first, second, third = await peer.take(3)
        for delivery in (second, third, first):
            await peer.nack(delivery)
        assert read_names(await peer.take(4)) == ["a1", "a2", "a3", "a4"]

    @rule
    async def test_ord_7_a_stuck_key_blocks_no_other(self, bench: TransportBench) -> None:
        """ORD-7."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic, 3)
        await bench.publish(topic, "a1", "a2")
        (stuck,) = await peer.take(1)
        await peer.nack(stuck, self.patience)
        other = await bench.join(topic, 3)
        for number in range(5):
            await bench.publish(topic, f"b{number}")
            receiving = {asyncio.create_task(each.consumer.receive(1)): each for each in (peer, other)}
            done, pending = await asyncio.wait(
                receiving, timeout=self.patience / 2, return_when=asyncio.FIRST_COMPLETED
            )
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)
            assert [read_names(task.result()) for task in done] == [[f"b{number}"]]
            for task in done:
                await receiving[task].ack(task.result())

    @rule
    async def test_ord_8_without_a_key_nothing_is_behind_anything(self, bench: TransportBench) -> None:
        """ORD-8."""
        topic = await bench.declare_topic()
        peers = [await bench.join(topic) for _ in range(2)]
        receiving = [asyncio.create_task(peer.receive()) for peer in peers]
        await asyncio.sleep(0)
        await bench.one.publish(topic, [Message(f"m{n}", None, f"m{n}".encode()) for n in range(20)])
        got = [name for each in receiving for name in read_names(await each)]  # neither goes without
        for peer in peers:
            got += read_names(await peer.take_rest())
        assert sorted(got) == sorted(f"m{n}" for n in range(20))

    @rule
    async def test_ord_9_the_empty_key_is_a_key(self, bench: TransportBench) -> None:
        """ORD-9."""
        topic = await bench.declare_topic()
        holder = await bench.join(topic)
        await bench.one.publish(topic, [Message(name, "", name.encode()) for name in ("m1", "m2")])
        (first,) = await holder.take(1)
        assert first.message.key == ""
        other = await bench.join(topic)
        await other.expect_nothing()
        await holder.nack(first)
        await holder.close()
        assert read_names(await other.take(2)) == ["m1", "m2"]

    @rule
    async def test_ord_10_keys_are_exact(self, bench: TransportBench) -> None:
        """ORD-10."""
        topic = await bench.declare_topic()
        holder = await bench.join(topic)
        for key in KEYS:  # each comes although all before it are put off
            await bench.one.publish(topic, [Message("m", key, b"1")])
            (taken,) = await holder.take(1)
            assert taken.message.key == key
            await holder.nack(taken, self.patience * 2)

    @rule
    async def test_ord_11_concurrent_producers_have_one_interleaving(self, bench: TransportBench) -> None:
        """ORD-11."""
        topic = await bench.declare_topic()
        one, other = await bench.join(topic), await bench.join(topic, name="other")
        producers = [bench.connect() for _ in range(3)]

        async def produce(number: int) -> None:
            for n in range(10):
                await producers[number].publish(topic, make_mail(f"k{number}-{n:02}"))
                await asyncio.sleep(0)

        await asyncio.gather(*(produce(number) for number in range(3)))
        got = read_names(await one.take(30))
        assert got == read_names(await other.take(30))
        for number in range(3):
            assert [name for name in got if name[1] == str(number)] == [f"k{number}-{n:02}" for n in range(10)]

    @rule
    async def test_ord_12_a_batch_of_many_keys_is_split_by_key(self, bench: TransportBench) -> None:
        """ORD-12."""
        topic = await bench.declare_topic()
        first, second = await bench.join(topic, 2), await bench.join(topic)
        keys = "abcdefghijklmnopqrst"
        await bench.publish(topic, *(f"{key}{n}" for n in range(2) for key in keys))
        held = read_names(await first.take(2))
        got = read_names(await second.take_rest())
        assert got, "all keys are with one consumer"
        assert not {name[0] for name in held} & {name[0] for name in got}
        assert sorted(got) == sorted(f"{key}{n}" for n in range(2) for key in {name[0] for name in got})

    @rule
    async def test_ord_13_consumers_come_and_go_under_load(self, bench: TransportBench) -> None:
        """ORD-13."""
        topic = await bench.declare_topic()
        watch = KeyWatch()
        peers = [await bench.join(topic, 4) for _ in range(3)]
        workers = [asyncio.create_task(watch.work(peer)) for peer in peers]
        sent: list[str] = []
        for turn in range(6):
            some = [f"{key}{turn}{n}" for n in range(4) for key in "abcd"]
            sent += some
            await bench.publish(topic, *some)
            leaving = workers.pop(0)
            leaving.cancel()
            await asyncio.wait([leaving])
            peer = peers.pop(0)
            watch.forget(peer)
            await peer.close()
            peers.append(await bench.join(topic, 4))
            workers.append(asyncio.create_task(watch.work(peers[-1])))
        await watch.finish(bench, workers, sent)

    @rule
    async def test_ord_13_one_follows_another(self, bench: TransportBench) -> None:
        """ORD-13."""
        topic = await bench.declare_topic()
        await bench.one.publish(topic, make_numbered("a", 12))
        seen: list[str] = []
        for _ in range(4):
            peer = await bench.join(topic, 5)
            got = await peer.take(5 if len(seen) < 8 else 3)
            seen += read_names(got[:3])
            await peer.ack(got[:3])
            await bench.wait_until_durable()
            await peer.close()
        assert seen == [f"a{n}" for n in range(1, 13)]
