"""S38: a refusal of the broker for one message delays this message only."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from infinitic.errors import TransportError
from infinitic.messages import engine
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.backoff import REFUSED_SECONDS
from infinitic.runtime.publisher import CAUSE
from infinitic.topics import Topic
from tests.unit.scripted import ScriptedTransport, delivery, request
from tests.unit.test_service_executor import Bench, counting, played


class Refusing(ScriptedTransport):
    """Refuses what is published on some topics, for a reason of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = set[str]()
        self.before_publish = self._check

    def _check(self, topic: Topic) -> None:
        if topic.name in self.refused:
            raise TransportError(f"Publishing to {topic.name} failed: NotAllowedError")

    def causes(self) -> list[str]:
        return [message.headers[CAUSE] for message in self.on("dlq")]


def of(workflow: str, position: int, **fields: Any) -> ExecuteTask:
    return replace(request([f"{workflow}-{position}"], position=position, **fields), workflow_name=workflow)


def test_a_report_that_is_refused_for_a_while_holds_up_no_other() -> None:
    ran, transport = list[str](), Refusing()
    bench = Bench(transport, counting(ran), concurrency=2)

    async def scenario() -> None:
        transport.refused.add("workflow-engine:Bad")
        await bench.give(bad := delivery(of("Bad", 0)), good := delivery(of("Good", 1)))
        assert bench.consumer.acked == [good]
        await asyncio.sleep(10.0)
        await bench.give(later := delivery(of("Good", 2)))
        assert bench.consumer.acked == [good, later]
        transport.refused.clear()
        await asyncio.sleep(10.0)
        assert bench.consumer.acked == [good, later, bad]
        assert len(bench.reports()) == 3
        assert ran == ["Bad-0", "Good-1", "Good-2"]
        assert transport.causes() == []

    played(bench, scenario)


def test_a_report_that_is_refused_for_ever_is_a_dead_letter_and_gives_its_place_back() -> None:
    ran, transport = list[str](), Refusing()
    bench = Bench(transport, counting(ran), concurrency=2)

    async def scenario() -> None:
        transport.refused.add("workflow-engine:Bad")
        bad = [delivery(of("Bad", number)) for number in range(4)]
        await bench.give(*bad)
        await asyncio.sleep(REFUSED_SECONDS + 10.0)
        assert bench.consumer.acked == bad
        assert len(transport.causes()) == 4
        assert all("NotAllowedError" in cause for cause in transport.causes())
        await bench.give(good := delivery(of("Good", 4)), again := delivery(of("Bad", 0)))
        assert bench.consumer.acked[4:] == [again, good]
        assert ran.count("Bad-0") == 1

    played(bench, scenario)


def test_dead_letters_that_are_refused_too_are_waited_out() -> None:
    transport = Refusing()
    bench = Bench(transport, counting([]))

    async def scenario() -> None:
        transport.refused |= {"workflow-engine:Bad", "dlq:service-executor:Desk"}
        await bench.give(bad := delivery(of("Bad", 0)))
        await asyncio.sleep(10 * REFUSED_SECONDS)
        assert bench.consumer.acked == []
        transport.refused.discard("dlq:service-executor:Desk")
        await asyncio.sleep(10.0)
        assert bench.consumer.acked == [bad]
        assert len(transport.causes()) == 1

    played(bench, scenario)


def test_what_cannot_be_sent_again_or_asked_for_ends_no_worker() -> None:
    ran, transport = list[str](), Refusing()
    bench = Bench(transport, counting(ran))

    async def scenario() -> None:
        transport.refused |= {"service-executor:Desk", "service-control:Desk"}
        await bench.give(doubtful := delivery(of("Job", 0), attempt=2), good := delivery(of("Job", 1)))
        assert bench.consumer.acked == [good]
        await asyncio.sleep(3 * REFUSED_SECONDS)
        assert bench.consumer.acked == [good, doubtful]
        assert len(transport.causes()) == 1
        assert ran == ["Job-1"]

    played(bench, scenario)


def test_what_is_refused_when_the_executor_ends_does_not_keep_the_rest_from_going_back() -> None:
    transport = Refusing()
    bench = Bench(transport, counting([]), concurrency=1)

    async def scenario() -> None:
        transport.refused.add("workflow-engine:Bad")
        await bench.give(bad := delivery(of("Bad", 0)), good := delivery(of("Good", 1)))
        draining = asyncio.create_task(bench.executor.drain())
        await asyncio.sleep(5.0)
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await asyncio.wait_for(bench.executor.close(), 100.0)
        assert bench.consumer.closed
        assert good in bench.consumer.acked
        assert bad not in bench.consumer.acked
        assert [type(each) for each in bench.reports()] == [engine.TaskCompleted]

    played(bench, scenario)
