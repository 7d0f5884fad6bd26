"""What the runtime keeps over any broker: dead letters (RED-4, RED-5, RED-6, ORD-14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec
import pytest

from infinitic import Worker, topics
from infinitic.ids import new_id
from infinitic.messages import engine
from infinitic.runtime.publisher import ATTEMPTS, CAUSE, ORIGIN, Publisher
from infinitic.runtime.service_executor import blocking
from infinitic.runtime.service_executor.attempt import WorkerDied
from infinitic.runtime.service_executor.deaths import MAX_DEATHS
from infinitic.topics import Topic
from infinitic.transport import Message, Transport
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.conformance.transport_bench import TransportBench, TransportSuite, read_names, rule
from infinitic_testing.conformance.transport_workers import (
    INBOX,
    UNTAKEABLE,
    Inbox,
    Job,
    NoDeadLetters,
    NotesDeadLetters,
    PickyDatabase,
    cut_worker,
    report_to,
)

POISON = b"\xff{no message"
DEAD = "dead-letters"


class RuntimeRules(TransportSuite):
    """Rules of the runtime, on the adapter.

    `worker_kind` is the class of workers. A broken one proves the rules.
    """

    worker_kind: ClassVar[type[Worker]] = Worker

    @asynccontextmanager
    async def working(self, transport: Transport, *services: object) -> AsyncGenerator[Worker]:
        """A worker, stopped without a word in the end."""
        async with cut_worker(self.worker(transport, *services)) as worker:
            yield worker

    def worker(self, transport: Transport, *services: object) -> Worker:
        """A worker that hosts these services."""
        storage = InMemoryStorage(PickyDatabase())
        worker = self.worker_kind(transport, storage, clock=self.clock(), run_blocking=blocking.inline)
        for each in services:
            worker.add_service(each)
        return worker

    async def letters(self, bench: TransportBench, topic: Topic, count: int) -> list[Message]:
        """The dead letters of a topic: so many, and no more."""
        dead = topics.dead_letters(topic)
        await bench.one.declare([dead])
        peer = await bench.join(dead, name=DEAD)
        got = await peer.take(count, within=self.patience * 4)
        await peer.expect_nothing()
        await peer.ack(got)
        await peer.close()
        return [delivery.message for delivery in got]

    async def emptied(self, bench: TransportBench, topic: Topic) -> None:
        """Nothing is left in a topic."""

        async def empty() -> bool:
            stats = await bench.stats(topic, topic.subscription or "")
            return (max(0, stats.backlog), max(0, stats.unacked), stats.delayed) == (0, 0, 0)

        await bench.wait_until(empty)

    @rule
    async def test_red_4_poison_ends_as_one_dead_letter(self, bench: TransportBench) -> None:
        """RED-4."""
        job = Job()
        async with self.working(bench.connect(), job.service()):
            poison = Message("poison", "key", POISON, {"header": "value"})
            await bench.one.publish(job.topic, [poison, job.call("ok", "fine")])
            (letter,) = await self.letters(bench, job.topic, 1)
            assert (letter.id, letter.key, letter.body) == (poison.id, poison.key, poison.body)
            assert letter.headers["header"] == "value"
            assert (letter.headers[ORIGIN], letter.headers[ATTEMPTS]) == (job.topic.name, "1")
            assert letter.headers[CAUSE]
            assert isinstance(await report_to(bench, job.workflow), engine.TaskCompleted)
            await bench.wait_until_durable()
        await self.emptied(bench, job.topic)

    @rule
    async def test_red_5_the_dead_letter_comes_before_the_ack(self, bench: TransportBench) -> None:
        """RED-5."""
        job = Job()
        stuck = NoDeadLetters(bench.connect())
        async with self.working(stuck, job.service()):
            await bench.one.publish(job.topic, [Message("poison", None, POISON)])
            async with asyncio.timeout(self.patience):
                await stuck.tried.wait()
            await bench.wait_until_durable()
            await self.crash(stuck.inner)
        async with self.working(bench.connect(), job.service()):
            assert [letter.id for letter in await self.letters(bench, job.topic, 1)] == ["poison"]
            await bench.wait_until_durable()
        await self.emptied(bench, job.topic)

    @rule
    async def test_red_6_poison_that_kills_its_process_ends(self, bench: TransportBench) -> None:
        """RED-6."""
        if not (self.virtual or self.slow):
            pytest.skip("`slow` is not set, and a task that may have killed its worker is put off for half a minute")
        job = Job()
        deaths = 0
        told = asyncio.create_task(report_to(bench, job.workflow))
        try:
            while not told.done():
                transport = bench.connect()
                async with self.working(transport, job.service()):
                    if not deaths:
                        await bench.one.publish(job.topic, [job.call("die", "poison")])
                    killing = asyncio.create_task(job.killing.wait())
                    async with asyncio.timeout(self.patience):
                        await asyncio.wait([told, killing], return_when=asyncio.FIRST_COMPLETED)
                    killing.cancel()
                    job.killing.clear()
                    if not told.done():
                        await bench.wait_until_durable()  # else what was counted comes once more, uncounted
                        await self.crash(transport)
                        deaths += 1
                        assert deaths <= MAX_DEATHS
        finally:
            told.cancel()
            await asyncio.wait([told])
        report = told.result()
        assert isinstance(report, engine.TaskFailed)
        assert report.failure.exception.name.rpartition(".")[2] == WorkerDied.__name__
        assert deaths > 1

    @rule
    async def test_ord_14_a_head_that_becomes_a_dead_letter_releases_the_next_once(self, bench: TransportBench) -> None:
        """ORD-14."""
        topic = await bench.declare_topic()
        peer = await bench.join(topic, 1)
        await bench.publish(topic, "a1", "a2", "b1", "a3")
        publisher = Publisher(bench.connect())
        came: list[str] = []
        for _ in range(4):
            (delivery,) = await peer.take(1)
            came += read_names([delivery])
            if came[-1] == "a1":
                await publisher.dead_letter(topic, [delivery], "it is poison")
            await peer.ack([delivery])
        await peer.expect_nothing()
        assert [name for name in came if name != "b1"] == ["a1", "a2", "a3"]
        (letter,) = await self.letters(bench, topic, 1)
        assert (letter.id, letter.key, letter.body) == ("a1", "a", b"a1")

    @rule
    async def test_ord_14_what_is_behind_a_dead_letter_follows_and_other_keys_go_on(
        self, bench: TransportBench
    ) -> None:
        """ORD-14."""
        if not (self.virtual or self.slow):
            pytest.skip("`slow` is not set, and a message is tried for a minute before it is given up")
        topic = topics.workflow_engine(INBOX)
        # A SHARED topic has no order, so the order is that of publishing.
        connection = NotesDeadLetters(bench.connect())
        async with cut_worker(self.worker(connection)) as worker:
            worker.add_workflow(Inbox)
            await asyncio.sleep(0.1)
            client = worker.client
            sick, sound = [await client.dispatch(client.new_workflow(Inbox).read, 2) for _ in range(2)]

            def letter(key: str, body: bytes) -> Message:
                return Message(new_id(), key, body)

            def signal(text: bytes) -> bytes:
                raw = msgspec.Raw(b'"%b"' % text)
                return engine.encode(
                    engine.Signal(made_at=bench.clock.now(), signal_id=new_id(), channel="letters", value=raw)
                )

            behind = [letter(sick.workflow_id, body) for body in (signal(UNTAKEABLE), signal(b"1"), signal(b"2"))]
            sane = [letter(sound.workflow_id, signal(each)) for each in (b"a", b"b")]
            await bench.one.publish(topic, [*behind, *sane])
            assert await sound.result() == ["a", "b"]
            got = await self.letters(bench, topic, 3)
            assert connection.noted == [each.id for each in behind]
            assert {each.id: each.body for each in got} == {each.id: each.body for each in behind}
        await self.emptied(bench, topic)
