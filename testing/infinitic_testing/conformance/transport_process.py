"""Peers in other processes, which are killed (LIF-9)."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from infinitic_testing.conformance.other_process import start_program
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    MAIN,
    SHARED,
    TransportBench,
    TransportSuite,
    make_mail,
    read_names,
    rule,
)
from infinitic_testing.conformance.transport_errand import Errand
from infinitic_testing.conformance.transport_persistence import wait_until_gone

STARTING_SECONDS = 60.0
"""Seconds that another process may take until it has done its errand."""


class ProcessRules(TransportSuite):
    """Rule LIF-9."""

    @rule
    async def test_lif_9_what_a_killed_process_had_in_hand_goes_to_others(self, bench: TransportBench) -> None:
        """LIF-9."""
        connect = self.make_connector()
        for ordering in (KEYED, SHARED):
            topic = await bench.declare_topic(ordering)
            await bench.publish(topic, "a1", "a2", "a3")
            async with send_on_errand(Errand(connect, topic, MAIN, take=3, ack=1)) as (process, in_hand):
                assert in_hand == ["a2", "a3"]
                await bench.publish(topic, "a4")
                heir = await bench.join(topic)
                before = read_names(await heir.take_rest())
                assert not set(in_hand) & set(before), "it is in hand in the other process"
                process.kill()
                await process.wait()
                got = before + read_names(await heir.take(3 - len(before)))
                assert "a1" not in got, "the acknowledgement of a1 was lost by the kill right after it"
                assert sorted(got) == ["a2", "a3", "a4"]
                assert ordering is SHARED or got == ["a2", "a3", "a4"]
                await heir.expect_nothing()

    @rule
    async def test_lif_9_what_a_killed_process_published_is_there(self, bench: TransportBench) -> None:
        """LIF-9."""
        topic = await bench.declare_topic()
        due = bench.clock.now() + self.delay
        errand = Errand(
            self.make_connector(), topic, "other", publish=[*make_mail("a1", "a2"), *make_mail("b1", at=due)], take=2
        )
        async with send_on_errand(errand) as (process, _):
            process.kill()
            await process.wait()
        assert sorted(read_names(await (await bench.join(topic)).take(3))) == ["a1", "a2", "b1"]
        assert sorted(read_names(await (await bench.join(topic, name="other")).take(3))) == ["a1", "a2", "b1"]

    @rule
    async def test_lif_9_nothing_ephemeral_of_a_killed_process_is_left(self, bench: TransportBench) -> None:
        """LIF-9."""
        topic = await bench.declare_topic(SHARED)
        errand = Errand(self.make_connector(), topic, "listener", durable=False, publish=make_mail("a1", "b1"), take=1)
        async with send_on_errand(errand) as (process, _):
            assert len((await bench.one.stats(topic)).subscriptions) == 2
            process.kill()
            await process.wait()
        await wait_until_gone(bench, {topic: [MAIN]})


@asynccontextmanager
async def send_on_errand(errand: Errand) -> AsyncGenerator[tuple[asyncio.subprocess.Process, list[str]]]:
    """Start a process that does an errand. It is killed in the end, if it still lives.

    Yields:
        The process, when it has done its errand, and the names of what it has in hand.
    """
    async with start_program("infinitic_testing.conformance.transport_errand", pickle.dumps(errand)) as process:
        assert process.stdout is not None
        async with asyncio.timeout(STARTING_SECONDS):
            line = await process.stdout.readline()
        assert line, "the other process ended before it had done its errand: see its error above"
        yield process, json.loads(line)
