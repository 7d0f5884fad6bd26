"""S2: an attempt is done when its report is published, and every report can be published."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import DecodingError, PayloadCodec, task_context
from infinitic.client.client import Client
from infinitic.codec.payloads import make_coder
from infinitic.definitions.service_contract import implementation_of
from infinitic.messages import control, engine, service
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor import blocking
from infinitic.runtime.service_executor.attempt import Attempts
from infinitic.runtime.service_executor.blocking import Threads
from infinitic.runtime.service_executor.executor import ServiceExecutor
from infinitic.transport import TransportClosed, UnknownTopic
from infinitic.worker.task_context import make_task_context
from infinitic_testing.loop import VirtualClock, VirtualLoop, run
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.desk import always, make_desk
from tests.unit.scripted import ScriptedConsumer, ScriptedTransport, delivery, request


class Bench:
    """An executor of the service `Desk` on a scripted transport."""

    def __init__(
        self,
        transport: ScriptedTransport,
        implementation: object,
        *,
        concurrency: int = 10,
        codec: PayloadCodec | None = None,
        **options: Any,
    ) -> None:
        self.transport = transport
        clock = VirtualClock()
        attempts = Attempts(
            implementation_of(implementation, retry=None, attempt_timeout=None),
            "worker",
            lambda current: make_task_context("worker", Client(InMemoryTransport()), current),
            clock,
            blocking.inline,
            random.Random(1),
            transport.capabilities.max_payload,
            make_coder(codec),
        )
        self.executor = ServiceExecutor(attempts, Publisher(transport), clock, concurrency, **options)

    @property
    def consumer(self) -> ScriptedConsumer:
        return self.transport.consumers["service-executor:Desk"]

    async def give(self, *deliveries: Any) -> None:
        """Deliver, and wait until nothing can run any more."""
        for each in deliveries:
            self.consumer.waiting.put_nowait(each)
        await quiet()

    def reports(self) -> list[engine.Input]:
        return [engine.decode(message.body) for message in self.transport.on("workflow-engine")]


async def quiet() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    await loop.wait_idle()


def played(bench: Bench, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await bench.executor.start()
        running = asyncio.create_task(bench.executor.run())
        await quiet()
        try:
            await scenario()
            assert not running.done(), running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(main())


def counting(ran: list[str], **options: Any) -> object:
    async def work(self: object, text: str) -> str:
        ran.append(text)
        return text

    return make_desk(work, **options)


def test_a_repeat_that_comes_before_the_report_is_published_is_acknowledged_with_it() -> None:
    """The session of the first delivery may be lost. Then an early ack loses the task."""
    ran, transport = list[str](), ScriptedTransport()
    bench = Bench(transport, counting(ran))

    async def scenario() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        transport.before_publish = lambda topic: gate if topic.name.startswith("workflow-engine") else None
        first, repeat = delivery(request(["a"])), delivery(request(["a"]))
        await bench.give(first)
        assert ran == ["a"]
        await bench.give(repeat)
        assert bench.consumer.acked == [], "the report is not published"
        gate.set_result(None)
        await quiet()
        assert bench.consumer.acked == [first, repeat]
        await bench.give(late := delivery(request(["a"])))
        assert bench.consumer.acked[2:] == [late]
        assert ran == ["a"]

    played(bench, scenario)


def test_repeats_that_come_together_are_run_once_and_acknowledged_together() -> None:
    """The second comes while the first waits for its turn."""
    ran, transport = list[str](), ScriptedTransport()
    bench = Bench(transport, counting(ran))

    async def scenario() -> None:
        given = [delivery(request(["a"])), delivery(request(["a"])), delivery(request(["b"], position=1))]
        await bench.give(*given)
        assert sorted(ran) == ["a", "b"]
        assert set(bench.consumer.acked) == set(given)
        assert len(bench.reports()) == 2
        assert bench.executor.unfinished() == ""

    played(bench, scenario)


class Crowded(Threads):
    """Too many threads go on, until the test says that they have ended."""

    def __init__(self) -> None:
        super().__init__("Desk")
        self.end = asyncio.Event()

    async def wait_for_fewer(self) -> None:
        await self.end.wait()
        self.abandoned = 0


def test_what_was_handed_back_is_run_when_it_comes_again() -> None:
    """It is no longer in hand, so the redelivery is no repeat."""
    ran, transport, threads = list[str](), ScriptedTransport(), Crowded()
    bench = Bench(transport, counting(ran), concurrency=2, threads=threads)

    async def scenario() -> None:
        threads.abandoned = 2
        given = [delivery(request([str(number)], position=number)) for number in range(2)]
        await bench.give(*given)
        assert (ran, bench.consumer.acked) == ([], given)
        bodies = [message.body for message in transport.on("service-executor")]
        assert bodies == [each.message.body for each in given]
        threads.end.set()
        await quiet()
        await bench.give(*(again := [delivery(body) for body in bodies]))
        assert ran == ["0", "1"]
        assert bench.consumer.acked == [*given, *again]
        assert bench.executor.unfinished() == ""

    played(bench, scenario)


def test_a_repeat_of_what_runs_is_acknowledged_with_its_report() -> None:
    ran, transport = list[str](), ScriptedTransport()

    async def work(self: object, text: str) -> str:
        ran.append(text)
        await asyncio.sleep(5.0)
        return text

    bench = Bench(transport, make_desk(work))

    async def scenario() -> None:
        first, repeat = delivery(request(["a"])), delivery(request(["a"]))
        await bench.give(first)
        await bench.give(repeat)
        assert bench.consumer.acked == []
        await asyncio.sleep(6.0)
        assert bench.consumer.acked == [first, repeat]
        assert ran == ["a"]

    played(bench, scenario)


LIMIT = 192 * 1024


class Chained(Exception):
    """Has nine more behind it, each with a long message."""

    @classmethod
    def made(cls, character: str) -> Exception:
        error: Exception = ValueError(character * 9000)
        for _ in range(9):
            try:
                raise cls(character * 9000) from error
            except cls as caught:
                error = caught
        error.add_note(character * 50_000)
        return error


def failing(character: str, **options: Any) -> object:
    async def work(self: object, text: str) -> str:
        raise Chained.made(character)

    return make_desk(work, **options)


@pytest.mark.parametrize("retry", [None, always(1.0)], ids=["for good", "once more"])
@pytest.mark.parametrize("character", ["x", "\x00", "é"])
def test_a_failure_above_the_limit_is_cut_and_reported(retry: Any, character: str) -> None:
    """Nine chained exceptions, 192 KiB: it ended every worker in turn."""
    transport = ScriptedTransport(LIMIT)
    bench = Bench(transport, failing(character, retry=retry))

    async def scenario() -> None:
        await bench.give(given := delivery(request(["a"])))
        (report,) = bench.reports()
        assert isinstance(report, engine.TaskFailed | engine.AttemptFailed)
        assert report.failure.exception.short_name == "Chained"
        assert bench.consumer.acked == [given]

    played(bench, scenario)


@pytest.mark.parametrize("size", [100_000, 150_000, LIMIT - 16 * 1024 - 300])
def test_the_attempt_after_a_failed_one_fits_into_a_message(size: int) -> None:
    """Its arguments are there already, and what is said of the failures is cut to what is left."""
    transport = ScriptedTransport(LIMIT)
    bench = Bench(transport, failing("x", retry=always(1.0)))

    async def scenario() -> None:
        message = request(["a" * size])
        for index in range(5):
            await bench.give(delivery(message))
            report = bench.reports()[index]
            assert isinstance(report, engine.AttemptFailed)
            message = replace(message, retry_index=index + 1, last_failure=report.failure, meta=report.meta)
            assert len(service.encode(message)) <= LIMIT - 1024

    played(bench, scenario)


def test_a_task_that_leaves_no_room_for_its_failure_fails_for_good_and_says_why() -> None:
    transport = ScriptedTransport(LIMIT)

    async def work(self: object, text: str) -> str:
        task_context().meta["note"] = b"m" * 62_500
        raise ValueError("no")

    bench = Bench(transport, make_desk(work, retry=always(1.0)))

    async def scenario() -> None:
        await bench.give(delivery(request(["a" * 110_000])))
        (report,) = bench.reports()
        assert isinstance(report, engine.TaskFailed)
        assert report.failure.exception.short_name == "PayloadTooLargeError"
        assert "110,004 bytes" in report.failure.exception.message
        assert "62,500 bytes" in report.failure.exception.message
        assert report.failure.exception.cause is not None
        assert report.failure.exception.cause.message == "no"

    played(bench, scenario)


def test_a_result_above_the_limit_fails_at_its_cause_with_sizes() -> None:
    transport = ScriptedTransport(LIMIT)

    async def work(self: object, text: str) -> str:
        return "r" * (LIMIT - 16 * 1024)

    bench = Bench(transport, make_desk(work, retry=always(1.0)))

    async def scenario() -> None:
        await bench.give(delivery(request(["a"])))
        (report,) = bench.reports()
        assert isinstance(report, engine.TaskFailed)
        assert "180,226 bytes" in report.failure.exception.message

    played(bench, scenario)


def test_a_broker_that_takes_less_than_it_said_ends_no_worker() -> None:
    """What is too large fails, its neighbours in the batch are reported as they are."""
    transport = ScriptedTransport(LIMIT, limit=50_000)

    async def work(self: object, text: str) -> str:
        return text * 60_000 if text == "b" else text

    bench = Bench(transport, make_desk(work))

    async def scenario() -> None:
        given = [delivery(request([text], position=number)) for number, text in enumerate("abc")]
        await bench.give(*given)
        done = [each.position for each in bench.reports() if isinstance(each, engine.TaskCompleted)]
        (failed,) = [each for each in bench.reports() if isinstance(each, engine.TaskFailed)]
        assert (sorted(done), failed.position) == ([0, 2], 1)
        assert failed.failure.exception.short_name == "MessageTooLarge"
        assert bench.consumer.acked == given

    played(bench, scenario)


def test_a_task_that_cannot_be_handed_back_fails_and_its_workflow_is_told() -> None:
    """Among the dead letters nobody would answer its workflow."""
    ran, transport = list[str](), ScriptedTransport()
    bench = Bench(transport, counting(ran))

    async def main() -> None:
        await bench.executor.start()
        running = asyncio.create_task(bench.executor.run())
        given = [delivery(request([text], position=number), attempt=2) for number, text in enumerate(("b" * 5000, "c"))]
        for each in given:
            bench.consumer.waiting.put_nowait(each)
        await asyncio.sleep(0.5)  # whether others have them is asked for a second
        transport.limit = 3000
        await bench.executor.drain()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert ran == []
        (failed,) = [each for each in bench.reports() if isinstance(each, engine.TaskFailed)]
        assert (failed.position, failed.failure.exception.short_name) == (0, "MessageTooLarge")
        assert [service.decode(each.body).position for each in transport.on("service-executor")] == [1]
        assert not transport.on("dlq")
        assert {id(each) for each in bench.consumer.acked} == {id(each) for each in given}

    run(main())


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(service.encode(request(["a"]))) | fields).encode()


class KeyService(PayloadCodec):
    """Turns bytes round, while its keys can be had."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    def _key(self) -> int:
        self.asked += 1
        if self.away:
            raise ConnectionError("the key service does not answer")
        return -1

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        return data[:: self._key()]

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        if data == b"spoiled":
            raise DecodingError("it is spoiled")
        return data[:: self._key()]


def sealed(codec: PayloadCodec, arguments: bytes) -> service.ExecuteTask:
    coder = make_coder(codec)
    assert coder is not None
    return replace(request(), arguments=Raw(coder.encode(arguments)))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_key_service_that_is_away_for_a_second_is_waited_for(when: str) -> None:
    """Neither arguments nor results fail a task for it, and the task runs once."""
    ran, transport, codec = list[str](), ScriptedTransport(), KeyService()

    async def work(self: object, text: str) -> str:
        ran.append(text)
        codec.away = when == "after"
        return text

    bench = Bench(transport, make_desk(work), codec=codec)

    async def scenario() -> None:
        message = sealed(codec, b'["a"]')
        codec.away = when == "before"
        await bench.give(given := delivery(message))
        assert bench.reports() == []
        await asyncio.sleep(1.0)
        codec.away = False
        await asyncio.sleep(10.0)
        (report,) = bench.reports()
        assert isinstance(report, engine.TaskCompleted)
        assert ran == ["a"]
        assert bench.consumer.acked == [given]

    played(bench, scenario)


def test_a_key_service_that_stays_away_keeps_no_place_occupied() -> None:
    """The message is put off, uncounted, and others run meanwhile."""
    ran, transport, codec = list[str](), ScriptedTransport(), KeyService()
    bench = Bench(transport, counting(ran), codec=codec, concurrency=1)

    async def scenario() -> None:
        message = sealed(codec, b'["a"]')
        codec.away = True
        await bench.give(first := delivery(message))
        await asyncio.sleep(60.0)
        (copy,) = transport.on("service-executor")
        assert (copy.body, copy.deliver_at is not None) == (first.message.body, True)
        assert bench.consumer.acked == [first]
        await bench.give(plain := delivery(request(["b"], position=1)))
        codec.away = False
        await bench.give(again := delivery(copy.body))
        await asyncio.sleep(10.0)
        assert ran == ["b", "a"]
        assert bench.consumer.acked == [first, plain, again]

    played(bench, scenario)


def test_what_the_codec_calls_undecodable_fails_the_task_at_once() -> None:
    transport, codec = ScriptedTransport(), KeyService()
    bench = Bench(transport, counting([]), codec=codec)

    async def scenario() -> None:
        coded = b'{"$coded":{},"data":"c3BvaWxlZA=="}'
        await bench.give(delivery(replace(request(), arguments=Raw(coded))))
        (report,) = bench.reports()
        assert isinstance(report, engine.TaskFailed)
        assert "it is spoiled" in report.failure.exception.message

    played(bench, scenario)


@pytest.mark.parametrize("lost", [UnknownTopic("removed"), TransportClosed("by the broker")], ids=["topic", "consumer"])
def test_who_has_lost_the_control_topic_joins_it_anew(lost: Exception) -> None:
    """Neither that, nor bytes from anywhere, ends an executor: it answers on."""
    transport = ScriptedTransport()

    async def work(self: object, text: str) -> str:
        await asyncio.sleep(100.0)
        return text

    bench = Bench(transport, make_desk(work))

    async def scenario() -> None:
        await bench.give(delivery(request(["a"])))
        asked = transport.consumers["service-control:Desk"]
        for given in (delivery(b"{\xff"), delivery(b"[" * 100_000), lost):
            asked.waiting.put_nowait(given)
        await asyncio.sleep(10.0)
        ping = control.encode(control.Ping((request().attempt, request(position=9).attempt)))
        asked.waiting.put_nowait(delivery(ping))
        await quiet()
        (answer,) = transport.on("service-control")
        assert control.decode(answer.body) == control.Alive((request().attempt,))

    played(bench, scenario)


BAD = {
    "no UTF-8": b'{"t":"\xff"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep in a field": b'{"t":"task","zz":' + b"[" * 100_000,
    "deep arguments": service.encode(request(["a"])).replace(b'["a"]', b"[" * 100_000 + b"]" * 100_000),
    "empty": b"",
    "another kind": b'{"t":"start"}',
    "a long name of a workflow": changed(n="n" * 9000),
    "no id": changed(w=""),
    "a negative retry index": changed(ri=-1),
    "a negative position": changed(p=-1),
    "a huge position": changed(p=2**60),
    "a huge number": changed(rs=10**30),
    "a time before time": changed(at=-1.0),
    "negative deaths": changed(d=-3),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bytes_that_are_no_task_go_to_the_dead_letters_alone(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """S38: each ended the executor, was delivered again, and ended the next."""
    ran, transport = list[str](), ScriptedTransport()
    bench = Bench(transport, counting(ran))

    async def scenario() -> None:
        bad, canary = delivery(body), delivery(request(["canary"], position=1))
        await bench.give(bad, canary)
        assert ran == ["canary"]
        assert set(bench.consumer.acked) == {bad, canary}
        (letter,) = transport.on("dlq")
        assert letter.body == body
        assert "task" in letter.headers["infinitic-cause"]

    played(bench, scenario)
    assert len(caplog.text) < 5000
