"""S7, S2, S6, S9: what an executor does with batches, delivery by delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import PayloadCodec, PayloadUnavailable, batch, service, task, task_context
from infinitic.codec.payloads import make_coder
from infinitic.messages import control, engine
from infinitic.messages.service import Guard
from infinitic.runtime.service_executor.deaths import MAX_DEATHS, SUSPECT
from infinitic.runtime.service_executor.taking import LAST_MESSAGES_SECONDS
from infinitic.transport import Delivery
from infinitic_testing.loop import VirtualClock, run
from tests.simulation.desk import always
from tests.unit.scripted import ScriptedTransport, delivery, request
from tests.unit.test_executor_doubts import copies, hears
from tests.unit.test_service_executor import Bench, played, quiet

Answer = Callable[[dict[str, str]], Awaitable[Any]]


def make_desk(answer: Answer, *, max_messages: int = 10, max_seconds: float = 1.0, **options: Any) -> object:
    """A service whose task `work` runs in batches, and whose task `write` does not."""

    @service(name="Desk")
    class Desk:
        async def work(self, text: str) -> str:
            raise NotImplementedError

        async def write(self, text: str) -> str:
            await answer({"alone": text})
            return text

        @task(**options)
        @batch("work", max_messages=max_messages, max_seconds=max_seconds)
        async def work_all(self, texts: dict[str, str]) -> Any:
            return await answer(texts)

    return Desk()


class Log:
    """Notes each call, and answers with what it was given."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls: list[list[str]] = []
        self.ended = 0
        self.seconds = seconds

    async def __call__(self, texts: dict[str, str]) -> Any:
        self.calls.append(list(texts.values()))
        if self.seconds:
            await asyncio.sleep(self.seconds)
        self.ended += 1
        return texts


def deliver(*texts: str, first: int = 0, **fields: Any) -> list[Delivery]:
    return [delivery(request([text], position=number, **fields)) for number, text in enumerate(texts, first)]


def check_empty(bench: Bench) -> None:
    assert bench.executor.unfinished() == ""
    assert not any(bench.executor.count_held().values()), bench.executor.count_held()


def test_all_reports_are_published_before_any_is_acknowledged() -> None:
    log, transport = Log(), ScriptedTransport()
    bench = Bench(transport, make_desk(log))

    async def scenario() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        transport.before_publish = lambda topic: gate if topic.name.startswith("workflow-engine") else None
        given = deliver("a", "b", "a")
        await bench.give(*given, repeat := delivery(request(["b"], position=1)))
        assert log.calls == []
        await asyncio.sleep(1.1)
        assert log.calls == [["a", "b", "a"]]
        assert bench.consumer.acked == []
        gate.set_result(None)
        await quiet()
        assert set(bench.consumer.acked) == {*given, repeat}
        assert sorted(each.position for each in bench.reports() if isinstance(each, engine.TaskCompleted)) == [0, 1, 2]
        await bench.give(late := delivery(request(["b"], position=1)))
        assert bench.consumer.acked[-1] is late
        assert len(log.calls) == 1
        check_empty(bench)

    played(bench, scenario)


def test_a_second_attempt_of_a_task_goes_to_the_next_batch() -> None:
    log = Log()
    bench = Bench(ScriptedTransport(), make_desk(log))

    async def scenario() -> None:
        await bench.give(*deliver("a", "b"), *deliver("again", retry_sequence=1), *deliver("c", first=2))
        await asyncio.sleep(1.1)
        assert log.calls == [["a", "b"], ["again", "c"]]
        assert len(bench.reports()) == 4
        check_empty(bench)

    played(bench, scenario)


def test_suspects_run_alone_and_one_at_a_time() -> None:
    """S2: whoever kills its process must take no other task with it."""
    log, transport = Log(3.0), ScriptedTransport()
    bench = Bench(transport, make_desk(log, max_seconds=0.5))

    async def scenario() -> None:
        await bench.give(*deliver("a", "b"), *deliver("x", "y", first=2, deaths=SUSPECT), *deliver("c", first=4))
        assert log.calls == [["x"]]
        await asyncio.sleep(1.1)
        assert log.calls == [["x"], ["a", "b", "c"]]
        marked, put_off = copies(transport)
        assert (marked.position, marked.asked, marked.deaths) == (2, 1, SUSPECT + 1)
        assert (put_off.position, put_off.asked, put_off.deaths) == (3, 0, SUSPECT)
        await asyncio.sleep(5.0)
        await bench.give(delivery(put_off))
        await asyncio.sleep(5.0)
        assert log.calls[2:] == [["y"]]
        check_empty(bench)

    played(bench, scenario)


def test_a_task_with_which_too_many_processes_died_fails_without_a_call() -> None:
    log = Log()
    bench = Bench(ScriptedTransport(), make_desk(log))

    async def scenario() -> None:
        await bench.give(*deliver("x", deaths=MAX_DEATHS), *deliver("a", first=1))
        await asyncio.sleep(1.1)
        assert log.calls == [["a"]]
        failed, completed = bench.reports()
        assert isinstance(failed, engine.TaskFailed)
        assert failed.failure.exception.name.endswith("WorkerDied")
        assert isinstance(completed, engine.TaskCompleted)
        check_empty(bench)

    played(bench, scenario)


def test_arguments_that_cannot_be_decoded_fail_their_task_alone() -> None:
    log = Log()
    bench = Bench(ScriptedTransport(), make_desk(log))

    async def scenario() -> None:
        await bench.give(*deliver("a"), delivery(request([1], position=1)), delivery(request([], position=2)))
        await asyncio.sleep(1.1)
        assert log.calls == [["a"]]
        failed = [each.position for each in bench.reports() if isinstance(each, engine.TaskFailed)]
        assert failed == [1, 2]
        check_empty(bench)

    played(bench, scenario)


class Locked(PayloadCodec):
    """Cannot decode what has an x."""

    def encode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return data

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        if b"x" in data:
            raise PayloadUnavailable("no key")
        return data


def test_what_the_codec_cannot_decode_now_is_put_off_alone() -> None:
    log, transport, codec = Log(), ScriptedTransport(), Locked()
    bench, coder = Bench(transport, make_desk(log), codec=codec), make_coder(codec)
    assert coder is not None
    seal = coder.encode

    async def scenario() -> None:
        for number, text in enumerate("axxb"):
            sealed = Raw(seal(f'["{text}"]'.encode()))
            await bench.give(delivery(replace(request(position=number), arguments=sealed)))
        await asyncio.sleep(40.0)
        assert log.calls == [["a", "b"]]
        assert [each.position for each in copies(transport)] == [1, 2]
        check_empty(bench)

    played(bench, scenario)


def test_a_drain_hands_back_what_has_not_begun_and_finishes_the_rest() -> None:
    log, transport = Log(10.0), ScriptedTransport()
    bench = Bench(transport, make_desk(log, max_messages=2), concurrency=3)

    async def scenario() -> None:
        await bench.give(*deliver("a", "b", "c", "d", "e"))
        assert log.calls == [["a", "b"], ["c", "d"]]
        draining = asyncio.create_task(bench.executor.drain())
        await asyncio.sleep(2 * LAST_MESSAGES_SECONDS)
        assert copies(transport) == [request(["e"], position=4)]
        await asyncio.sleep(1.1)
        assert log.ended == 0
        assert bench.executor.unfinished() == "service Desk: 4 x work running"
        await draining
        assert log.ended == 2
        assert log.calls == [["a", "b"], ["c", "d"]]
        assert len(bench.reports()) == 4
        assert len(bench.consumer.acked) == 5
        check_empty(bench)

    played(bench, scenario)


def test_what_the_end_of_the_grace_period_cuts_is_handed_back_and_counts_no_death() -> None:
    log, transport = Log(10.0), ScriptedTransport()
    bench = Bench(transport, make_desk(log, max_messages=2))

    async def scenario() -> None:
        await bench.executor.start()
        running = asyncio.create_task(bench.executor.run())
        await bench.give(*deliver("a", "b", "c", deaths=1))
        assert log.calls == [["a", "b"]]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bench.executor.close()
        assert sorted((each.position, each.deaths) for each in copies(transport)) == [(0, 0), (1, 0), (2, 1)]
        assert (log.ended, bench.reports()) == (0, [])
        check_empty(bench)

    run(scenario())


@pytest.mark.parametrize("leaving", [SystemExit, KeyboardInterrupt])
def test_a_batch_that_ends_the_process_is_handed_back_and_counted(leaving: type[BaseException]) -> None:
    """S9: nobody can tell which of the tasks wanted it. From the second time on each runs alone."""

    async def answer(texts: dict[str, str]) -> Any:
        raise leaving

    transport, left = ScriptedTransport(), list[BaseException]()
    bench = Bench(transport, make_desk(answer, max_messages=2), leave=left.append)

    async def scenario() -> None:
        await bench.give(*deliver("a", "b"))
        assert [type(each) for each in left] == [leaving]
        await bench.executor.drain()
        assert [(each.position, each.deaths) for each in copies(transport)] == [(0, 1), (1, 1)]
        assert bench.reports() == []
        check_empty(bench)

    played(bench, scenario)


class Unusual(BaseException):
    """No `Exception`."""


class Broken(Mapping[str, str]):
    """Raises when it is read."""

    def __getitem__(self, key: str) -> str:
        raise ZeroDivisionError

    def __iter__(self) -> Any:
        raise ZeroDivisionError

    def __len__(self) -> int:
        return 1


async def cancels_itself(texts: dict[str, str]) -> Any:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(0)


async def raises(texts: dict[str, str]) -> Any:
    raise Unusual


async def returns_broken(texts: dict[str, str]) -> Any:
    return Broken()


async def returns_cancelled(texts: dict[str, str]) -> Any:
    """As `gather(…, return_exceptions=True)` does."""
    return dict.fromkeys(texts, asyncio.CancelledError())


@pytest.mark.parametrize("odd", [cancels_itself, raises, returns_broken, returns_cancelled])
def test_whatever_a_batch_raises_is_a_failed_attempt_of_each_task(odd: Answer) -> None:
    """S7, S9."""
    log = Log()

    async def answer(texts: dict[str, str]) -> Any:
        await log(texts)
        return await odd(texts) if len(log.calls) == 1 else texts

    bench = Bench(ScriptedTransport(), make_desk(answer, max_messages=2, retry=always(1.0)), concurrency=1)

    async def scenario() -> None:
        await bench.give(*deliver("a", "b"))
        assert [type(each) for each in bench.reports()] == [engine.AttemptFailed, engine.AttemptFailed]
        await bench.give(*deliver("c", "d", first=2))
        assert log.calls == [["a", "b"], ["c", "d"]]
        assert [type(each) for each in bench.reports()[2:]] == [engine.TaskCompleted, engine.TaskCompleted]
        check_empty(bench)

    played(bench, scenario)


class Counted(Exception):
    """Counts how often it is asked what it says."""

    asked = 0

    def __str__(self) -> str:
        self.asked += 1
        return "away"


def test_what_a_batch_raises_is_described_once_for_all_of_its_tasks() -> None:
    """To format a traceback took 0.7 ms: a thousand tasks that failed together stopped the loop."""
    error = Counted()

    async def answer(texts: dict[str, str]) -> Any:
        raise error

    bench = Bench(ScriptedTransport(), make_desk(answer, max_messages=100))

    async def scenario() -> None:
        await bench.give(*deliver(*(["a"] * 100)))
        reports = bench.reports()
        assert len(reports) == 100
        for report in reports:
            assert isinstance(report, engine.TaskFailed)
            assert report.failure.exception.message == "away"
            assert "in answer" in report.failure.exception.traceback
        assert error.asked < 10
        check_empty(bench)

    played(bench, scenario)


def cancel(*positions: int) -> control.CancelTasks:
    return control.CancelTasks(workflow_id="w", tasks=tuple((position, 0) for position in positions))


def test_cancelled_tasks_leave_a_batch_that_waits() -> None:
    """S6, S7: one that is open, and one that waits for its turn."""
    log = Log(10.0)
    bench = Bench(ScriptedTransport(), make_desk(log, max_messages=2), concurrency=1)

    async def scenario() -> None:
        given = deliver("a", "b", "c")
        await bench.give(*given)
        assert log.calls == [["a", "b"]]
        hears(bench, cancel(2))
        await quiet()
        assert bench.consumer.acked == []
        await asyncio.sleep(10.0)
        await bench.give(*given[2:], *(more := deliver("d", first=3)))
        hears(bench, cancel(3))
        await quiet()
        assert [each for each in (given[2], *more) if each in bench.consumer.acked] == [given[2], *more]
        await asyncio.sleep(60.0)
        assert log.calls == [["a", "b"]]
        check_empty(bench)
        await bench.give(*deliver("e", first=4))
        await asyncio.sleep(1.1)
        assert log.calls[1:] == [["e"]]

    played(bench, scenario)


def test_a_call_goes_on_until_all_of_its_tasks_are_cancelled() -> None:
    told: list[str] = []

    class Watched(Log):
        async def __call__(self, texts: dict[str, str]) -> Any:
            for task_id, text in texts.items():
                task_context(task_id).on_cancel(partial(told.append, text))
            return await super().__call__(texts)

    log = Watched(100.0)
    bench = Bench(ScriptedTransport(), make_desk(log, max_messages=3))

    async def scenario() -> None:
        given = deliver("a", "b", "c")
        await bench.give(*given)
        hears(bench, cancel(0, 1), cancel(0))
        await asyncio.sleep(10.0)
        assert told == ["a", "b"]
        hears(bench, cancel(2))
        await quiet()
        assert told == ["a", "b", "c"]
        assert bench.consumer.acked == given
        assert (log.ended, bench.reports()) == (0, [])
        check_empty(bench)

    played(bench, scenario)


def test_a_guard_that_is_held_until_its_timeout_is_over_holds_up_no_batch() -> None:
    """It may take a third of an hour. Nobody knows of the attempt, and it does not run here."""
    log = Log()
    bench = Bench(ScriptedTransport(), make_desk(log))

    async def scenario() -> None:
        guard = Guard(1, VirtualClock().now() + 1200.0, 3600.0)
        await bench.give(delivery(request(["x"], position=9, task="write", asked=1, guard=guard)))
        await asyncio.sleep(5.0)
        for number in range(3):
            await bench.give(*deliver("a", first=number))
            await asyncio.sleep(1.1)
            assert len(log.calls) == number + 1
        await asyncio.sleep(1200.0)
        assert sorted(each.position for each in bench.reports() if isinstance(each, engine.AttemptFailed)) == [9]
        check_empty(bench)

    played(bench, scenario)
