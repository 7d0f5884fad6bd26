"""What becomes of a guard that comes, and of what tasks say from threads."""

from __future__ import annotations

import asyncio
import threading
from random import Random
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import task
from infinitic.codec.payloads import Coder, PayloadCodec
from infinitic.definitions.service_contract import implementation_of
from infinitic.errors import ExceptionDetail, PayloadError, TaskFailure
from infinitic.messages import service
from infinitic.messages.control import Attempt
from infinitic.messages.service import ExecuteTask, Guard
from infinitic.runtime.event_switch import EventSwitch
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.announcing import TaskAnnouncer
from infinitic.runtime.service_executor.attempt import Attempts
from infinitic.runtime.service_executor.blocking import inline
from infinitic.runtime.service_executor.current_task import CurrentTask
from infinitic.runtime.service_executor.deaths import Trials
from infinitic.runtime.service_executor.guards import Guards, count_lost, judge_guard
from infinitic.runtime.service_executor.in_hand import TasksInHand
from infinitic.runtime.service_executor.inquiry import Inquiry
from infinitic.runtime.service_executor.pulse import HeartbeatTimedOut, Pulse
from infinitic.runtime.service_executor.report_publisher import ReportPublisher
from infinitic.runtime.service_executor.resending import Resender
from infinitic.runtime.service_executor.work import Outbound, Work
from infinitic.runtime.subscription import Subscription
from infinitic.topics import service_executor
from infinitic.transport import Message
from infinitic_testing.loop import VirtualClock, run
from infinitic_transports.memory import Broker, InMemoryTransport

NOW = 1_000.0
TASK = ExecuteTask(
    workflow_id="w",
    workflow_name="Walk",
    position=0,
    sequence=1,
    service="Steps",
    task="walk",
    arguments=Raw(b"[]"),
    made_at=NOW,
    asked=1,
    guard=Guard(3, NOW + 4.0, 12.0),
)


def make_work(**changes: Any) -> Work:
    message = replace(TASK, **changes)
    return Work(message, message.attempt, [], Message("m", None, service.encode(message)))


def decode(outbound: Outbound | float | bool) -> tuple[float | None, int]:
    assert isinstance(outbound, Outbound)
    copy = service.decode(outbound.message.body)
    assert copy.guard == TASK.guard
    return outbound.message.deliver_at, copy.asked


def test_a_guard_is_done_with_once_its_attempt_is_reported_or_has_a_newer_guard() -> None:
    work = make_work()
    assert judge_guard(work, {work.attempt: True}, {}, NOW) is True
    assert judge_guard(work, {work.attempt: False}, {work.attempt: 4}, NOW) is True


@pytest.mark.parametrize("newest", [{}, {TASK.attempt: 3}, {TASK.attempt: 2}])
def test_the_newest_guard_of_an_attempt_that_runs_comes_again(newest: dict[Any, int]) -> None:
    """It is all that is left of the task with the broker. So it is never dropped."""
    for asked in (1, 2):
        work = make_work(asked=asked)
        assert decode(judge_guard(work, {work.attempt: False}, newest, NOW)) == (NOW + 4.0, 1)


def test_an_attempt_is_lost_if_nobody_knows_of_it_twice() -> None:
    # It is held until the timeout is over, and then it is asked once more.
    assert judge_guard(make_work(), {}, {}, NOW) == 4.0
    # The clock of the worker was wrong by an hour, or the guard is old.
    assert judge_guard(make_work(), {}, {}, NOW + 3600.0) == 0.0
    assert judge_guard(make_work(), {}, {}, NOW - 3600.0) == 12.0
    assert judge_guard(make_work(asked=2), {}, {}, NOW) is False


def test_lost_attempts_are_counted_until_the_first_one_that_failed_otherwise() -> None:
    lost = ExceptionDetail("infinitic.runtime.service_executor.guards.WorkerLost", "gone")
    failure: TaskFailure | None = None
    for detail, count in ((lost, 1), (lost, 2), (ExceptionDetail("ValueError", "no"), 0), (lost, 1)):
        failure = TaskFailure(detail, "w1", previous=failure)
        assert count_lost(replace(TASK, last_failure=failure)) == count
    assert count_lost(TASK) == 0


class Stopped:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


async def _a_thread_may_send_heartbeats() -> None:
    sent = asyncio.Queue[bytes]()

    async def send(details: Raw, ago: float) -> bool:
        assert threading.current_thread() is threading.main_thread()
        await sent.put(bytes(details))
        return True

    pulse = Pulse(TASK, 60.0, send, 1_000_000, None)
    async with pulse.limit(Stopped()):
        # The first one waits for a third of the timeout, since a guard has just been published.
        pulse._sent_at -= 60.0  # pyright: ignore[reportPrivateUsage]  # as if a minute had passed
        await asyncio.to_thread(pulse.beat, {"done": 1})
        assert await sent.get() == b'{"done":1}'
        await asyncio.to_thread(pulse.beat, [2])
    assert bytes(pulse.renew(TASK).last_heartbeat) == b"[2]"


def test_a_thread_may_send_heartbeats() -> None:
    asyncio.run(_a_thread_may_send_heartbeats())


async def _an_attempt_ends_if_its_heartbeats_do_not_reach_the_broker() -> None:
    """Then another executor may run the task already."""

    async def send(details: Raw, ago: float) -> bool:
        return False

    pulse, current = Pulse(TASK, 20.0, send, 1_000_000, None), Stopped()

    async def beat() -> None:
        async with pulse.limit(current):
            while True:
                pulse.beat(1)
                await asyncio.sleep(1.0)

    with pytest.raises(HeartbeatTimedOut, match="No heartbeat came for 20 s"):
        await beat()
    assert current.is_cancelled


def test_an_attempt_ends_if_its_heartbeats_do_not_reach_the_broker() -> None:
    run(_an_attempt_ends_if_its_heartbeats_do_not_reach_the_broker())


async def _a_timeout_of_the_task_itself_is_none_of_its_heartbeats() -> None:
    async def send(details: Raw, ago: float) -> bool:
        return True

    pulse, current = Pulse(TASK, 60.0, send, 1_000_000, None), Stopped()

    async def fail() -> None:
        async with pulse.limit(current):
            raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await fail()
    assert not current.is_cancelled
    # It is over: nothing is done any more.
    pulse.beat(1)


def test_a_timeout_of_the_task_itself_is_none_of_its_heartbeats() -> None:
    run(_a_timeout_of_the_task_itself_is_none_of_its_heartbeats())


class Upside(PayloadCodec):
    """Turns payloads around, and refuses some."""

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        if data == b'"no"':
            raise PayloadError("not this one")
        return data[::-1]

    def decode(self, data: bytes, headers: Any) -> bytes:
        return data[::-1]


async def _details_pass_the_payload_codec() -> None:
    async def send(details: Raw, ago: float) -> bool:
        return True

    coder = Coder([Upside()])
    pulse = Pulse(TASK, 60.0, send, 1_000_000, coder)
    pulse.beat({"secret": [1, 2]})
    following = pulse.renew(TASK)
    assert b"secret" not in bytes(following.last_heartbeat)
    assert Pulse(following, 60.0, send, 1_000_000, coder).read_last() == {"secret": [1, 2]}
    # What the codec refuses is left out: what was said before stays.
    pulse.beat("no")
    assert pulse.renew(TASK).last_heartbeat == following.last_heartbeat
    assert Pulse(TASK, 60.0, send, 1_000_000, coder).read_last() is None


def test_details_pass_the_payload_codec() -> None:
    run(_details_pass_the_payload_codec())


async def _ask_another_executor(number: int) -> tuple[dict[Attempt, bool], dict[Attempt, int]]:
    """Ask for an attempt of which guard `number` has come here, while guard 3 waits elsewhere."""
    broker = Broker()
    attempt = TASK.attempt
    inquiries: list[Inquiry] = []
    for holds in (None, make_work()):
        in_hand = TasksInHand(VirtualClock(), Trials())
        if holds is not None:
            in_hand.doubtful[attempt] = holds
        inquiry = Inquiry(
            "Steps",
            Publisher(InMemoryTransport(broker, clock=VirtualClock())),
            in_hand.find_known,
            in_hand.find_guard,
            in_hand.has_newer,
            lambda message: None,
            lambda message: None,
        )
        await inquiry.start()
        inquiries.append(inquiry)
    running = [asyncio.ensure_future(inquiry.run()) for inquiry in inquiries]
    heard = await inquiries[0].ask({attempt: number})
    guards = inquiries[0].guards
    for answering, inquiry in zip(running, inquiries, strict=True):
        answering.cancel()
        await inquiry.close()
    return heard, guards


@pytest.mark.parametrize(("number", "is_superseded"), [(2, True), (3, False), (4, False), (0, False)])
def test_of_guards_at_several_executors_the_newest_one_stands_for_all(number: int, is_superseded: bool) -> None:
    heard, guards = run(_ask_another_executor(number))
    assert (heard, guards) == (({TASK.attempt: False}, {TASK.attempt: 3}) if is_superseded else ({}, {}))


async def _begin_again() -> list[int]:
    """Begin the same attempt twice on a worker, and once on another one that it was handed to."""
    clock, broker = VirtualClock(), Broker()
    publisher = Publisher(InMemoryTransport(broker, clock=clock))
    service_of_steps = implementation_of(Steps())
    attempts = Attempts(service_of_steps, "w", make_context, clock, inline, Random(0), 1_000_000)
    topic = service_executor("Steps")
    subscription = Subscription(publisher, topic, 1)
    announcer = TaskAnnouncer("Steps", "w", publisher, clock.now, EventSwitch())
    reports = ReportPublisher(topic, publisher, attempts, clock.now, announcer)
    guards = Guards(topic, publisher, attempts, Resender(topic, publisher, subscription, reports), clock)
    work = make_work(guard=None, asked=0)
    numbers: list[int] = []
    for _ in range(2):
        work.pulse = await guards.begin(work)
        assert work.guard is not None
        numbers.append(work.guard.number)
    handed = service.decode(work.make_handed_back(asked=0).message.body)
    other = Work(handed, handed.attempt, [], Message("m", None, service.encode(handed)))
    await guards.begin(other)
    assert other.guard is not None
    return [*numbers, other.guard.number]


class Steps:
    @task(heartbeat_timeout=12)
    async def walk(self) -> None:
        return None


def make_context(current: CurrentTask) -> Any:
    raise AssertionError("nobody asks for it")


def test_guards_count_on_whoever_runs_the_attempt() -> None:
    """An old one with the same number as a new one would never be given up."""
    assert run(_begin_again()) == [1, 2, 3]
