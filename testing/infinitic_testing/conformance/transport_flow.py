"""Flow control (FLO) and payloads (PAY)."""

from __future__ import annotations

import asyncio

import pytest

from infinitic.transport import Delivery, Message, MessageTooLarge
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    SHARED,
    TransportBench,
    TransportSuite,
    read_names,
    rule,
)


class FlowRules(TransportSuite):
    """Rules FLO and PAY."""

    @rule
    async def test_flo_1_no_more_in_hand_than_the_prefetch(self, bench: TransportBench) -> None:
        """FLO-1."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic, 3)
            await bench.publish(topic, *(f"{key}{n}" for n in range(2) for key in "abcd"))
            assert len(await peer.take(2)) == 2
            assert len(await peer.take_rest()) == 1
            await peer.expect_nothing()

    @rule
    async def test_flo_2_one_ack_resumes(self, bench: TransportBench) -> None:
        """FLO-2."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic, 2)
            await bench.publish(topic, "a1", "b1", "c1", "d1")
            (first, _) = await peer.take(2)
            receiving = asyncio.create_task(peer.receive(2))
            await asyncio.sleep(self.silence / 3)
            assert not receiving.done()
            await peer.ack([first])
            assert len(await receiving) == 1

    @rule
    async def test_flo_2_one_nack_resumes(self, bench: TransportBench) -> None:
        """FLO-2."""
        topic = await bench.declare_topic(SHARED)
        peer = await bench.join(topic, 1)
        await bench.publish(topic, "a1", "b1")
        (first,) = await peer.take(1)
        receiving = asyncio.create_task(peer.receive(1))
        await asyncio.sleep(self.silence / 3)
        assert not receiving.done()
        await peer.nack(first, self.patience * 2)
        assert read_names([first, *await receiving]) in (["a1", "b1"], ["b1", "a1"])

    @rule
    async def test_flo_3_a_slow_consumer_starves_nobody(self, bench: TransportBench) -> None:
        """FLO-3."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            slow, quick = await bench.join(topic, 1), await bench.join(topic, 4)
            sent: list[str] = []
            seen: set[str] = set()
            for turn in range(3):
                for key in "abcdefghijklmnopqrst":
                    sent.append(f"{key}{turn}")
                    await bench.publish(topic, sent[-1])
                if not turn:
                    await slow.take(1)
                got = await quick.receive(4)
                seen.update(read_names(got))
                await quick.ack(got)
            await slow.close()
            while seen < set(sent):
                got = await quick.receive(4)
                seen.update(read_names(got))
                await quick.ack(got)

    @rule
    async def test_flo_3_another_subscription_is_not_starved(self, bench: TransportBench) -> None:
        """FLO-3."""
        topic = await bench.declare_topic(SHARED)
        slow, quick = await bench.join(topic, 1), await bench.join(topic, name="other")
        await bench.publish(topic, "a1", "b1", "c1")
        await slow.take(1)
        assert sorted(read_names(await quick.take(3))) == ["a1", "b1", "c1"]

    @rule
    async def test_flo_5_a_publish_wakes_who_waits_on_another_connection(self, bench: TransportBench) -> None:
        """FLO-5."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            late = await bench.join(topic, name="ephemeral", durable=False)
            for number in range(3):
                receiving = [asyncio.create_task(each.receive()) for each in (peer, late)]
                await asyncio.sleep(self.silence)
                start = bench.clock.now()
                await bench.publish(topic, f"a{number}")
                for task in receiving:
                    got = await expect_promptly(
                        self, bench, start, task, "after it was published on another connection"
                    )
                    assert read_names(got) == [f"a{number}"]

    @rule
    async def test_flo_5_what_is_given_back_wakes_who_waits_on_another_connection(self, bench: TransportBench) -> None:
        """FLO-5."""
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            holder = await bench.join(topic)
            await bench.publish(topic, "a1", "a2")
            await holder.take(2)
            heir = await bench.join(topic)
            receiving = asyncio.create_task(heir.receive())
            await asyncio.sleep(self.silence)
            await holder.transport.close()
            start = bench.clock.now()
            got = await expect_promptly(self, bench, start, receiving, "after the one who had it in hand closed")
            assert read_names(got)[0] == "a1" or ordering is SHARED

    @rule
    async def test_pay_1_any_size_up_to_the_limit(self, bench: TransportBench) -> None:
        """PAY-1."""
        topic = await bench.declare_topic(SHARED)
        peer = await bench.join(topic)
        limit = bench.capabilities.max_payload
        for size in (0, 1, limit):
            body = (b"0123456789" * (size // 10 + 1))[:size]
            await bench.one.publish(topic, [Message("m", "k", body)])
            (got,) = await peer.take(1)
            assert got.message.body == body
            await peer.ack([got])
        with pytest.raises(MessageTooLarge) as raised:
            await bench.one.publish(topic, [Message("m", "k", bytes(limit + 1))])
        assert (raised.value.size, raised.value.limit) == (limit + 1, limit)
        await bench.publish(topic, "a1")
        assert read_names(await peer.take(1)) == ["a1"]

    @rule
    async def test_pay_2_any_bytes_and_many_headers(self, bench: TransportBench) -> None:
        """PAY-2."""
        headers = {f"header-{n}": f"value {n} é\u0301 日本" for n in range(100)}
        body = bytes(range(256)) + b"\xff\xfe\x00"
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            peer = await bench.join(topic)
            given = dict(headers)
            await bench.one.publish(topic, [Message("m", "k", body, given)])
            given.clear()
            (got,) = await peer.take(1)
            assert (got.message.key, got.message.body, dict(got.message.headers)) == ("k", body, headers)


async def expect_promptly(
    suite: TransportSuite, bench: TransportBench, start: float, receiving: asyncio.Task[list[Delivery]], when: str
) -> list[Delivery]:
    """Wait for what is received, and check that it came within the promptness of the suite.

    Args:
        suite: knows how long that is.
        bench: the connections.
        start: when it could come, in seconds since the Unix epoch.
        receiving: waits for it.
        when: what happened at the start, for the error.
    """
    advice = "does that wake consumers that wait on other connections?"
    await asyncio.wait([receiving], timeout=suite.patience)
    passed = bench.clock.now() - start
    if not receiving.done():
        receiving.cancel()
        await asyncio.wait([receiving])
        raise AssertionError(f"a message did not come within {passed:.1f} s {when}: {advice}")
    bound = suite.promptness
    assert passed <= bound, f"a message came {passed:.2f} s {when}, and not within {bound} s: {advice}"
    return receiving.result()
