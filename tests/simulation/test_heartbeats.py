"""Heartbeats (S2): silence is a failure, and a long task goes on when its worker has died."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from infinitic import (
    ExponentialBackoff,
    PayloadError,
    PayloadTooLargeError,
    RegistrationError,
    TaskFailedError,
    UsageError,
    Workflow,
    WorkflowFailedError,
    batch,
    task,
    task_context,
)
from infinitic.messages import control, engine, service
from infinitic.topics import service_control, service_executor, workflow_engine
from infinitic.transport import Message
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.world import World

TIMEOUT = 9.0


class Steps:
    """Takes steps of one second, and says after each how many are done."""

    began: ClassVar[list[tuple[float, int | None, int]]]
    """Each attempt: the time, what it found, and its number."""

    def __init__(self, fence: Fence | None = None, dies_after: int = 0) -> None:
        self._fence = fence
        self._dies_after = dies_after

    async def walk(self, steps: int) -> int:
        context = task_context()
        done: int = context.last_heartbeat or 0
        Steps.began.append((asyncio.get_running_loop().time(), context.last_heartbeat, context.retry_index))
        taken = 0
        while done < steps:
            await asyncio.sleep(1.0)
            done, taken = done + 1, taken + 1
            context.heartbeat(done)
            if self._fence is not None and taken == self._dies_after:
                self._fence.cut()
                await asyncio.sleep(1_000.0)
        return done


class Walk(Workflow):
    steps = Workflow.new_service(Steps)

    async def run(self, steps: int) -> int:
        return await self.steps.walk(steps)


def host(world: World, dies_after: int, retry: Any = None) -> list[asyncio.Task[None]]:
    """Start a worker that dies after some steps of its task, and comes not back."""
    fence = Fence()
    worker = world.worker(
        FencedTransport(world.connect(), fence), FencedStorage(InMemoryStorage(world.database), fence)
    )
    worker.add_service(make_steps(fence, dies_after, retry))
    hosting = world.start(worker)
    fence.on_cut(hosting.cancel)
    return [hosting]


def make_steps(fence: Fence | None = None, dies_after: int = 0, retry: Any = None) -> Steps:
    decorated = type("Steps", (Steps,), {"walk": task(heartbeat_timeout=TIMEOUT, retry=retry)(_walk)})
    made: Steps = decorated(fence, dies_after)
    return made


async def _walk(self: Steps, steps: int) -> int:
    return await Steps.walk(self, steps)


@pytest.mark.parametrize("retry", [None, ExponentialBackoff(minimum_seconds=0.01, maximum_seconds=0.01)])
@pytest.mark.parametrize("others", [1, 3])
def test_S2_a_task_goes_on_within_its_timeout_with_what_was_said_last(others: int, retry: Any) -> None:
    """If its guards come to several workers, the newest one counts."""
    Steps.began = []

    async def main() -> None:
        world = World()
        async with world.open():
            state_engine = world.worker()
            state_engine.add_workflow(Walk)
            world.start(state_engine)
            host(world, 10, retry)
            handle = await world.client.dispatch(world.client.new_workflow(Walk).run, 30)
            await asyncio.sleep(11.0)
            for _ in range(others):
                other = world.worker()
                other.add_service(make_steps(retry=retry))
                world.start(other)
            assert await handle.result() == 30
            sent = [service.decode(each.body) for topic, each in world.published if topic == service_executor("Steps")]
            # A guard that is being looked into is not sent again: a worker that hangs could get it.
            assert {each.asked for each in sent} == {0, 1}
            await world.settle()
            assert world.backlog() == {}

    run(main())
    (began, nothing, _), (again, said, index) = Steps.began
    assert (nothing, index) == (None, 1)
    # What is said travels every third of the timeout.
    assert said is not None
    assert 10 - TIMEOUT / 3 <= said <= 10
    assert again - (began + said) <= TIMEOUT + 2.0


def test_S2_a_task_that_kills_each_worker_fails_in_the_end() -> None:
    Steps.began = []

    async def main() -> None:
        world = World()
        async with world.open():
            state_engine = world.worker()
            state_engine.add_workflow(Walk)
            world.start(state_engine)
            handle = await world.client.dispatch(world.client.new_workflow(Walk).run, 1_000)
            for _ in range(6):
                host(world, 1)
                await asyncio.sleep(60.0)
            with pytest.raises(WorkflowFailedError) as caught:
                await handle.result()
            assert isinstance(caught.value.cause, TaskFailedError)
            assert caught.value.cause.last_failure.exception.short_name == "WorkerDied"
            await world.settle()
            assert world.backlog() == {}

    run(main())
    assert [index for _, _, index in Steps.began] == [0, 1, 2, 3, 4]


def test_S40_a_worker_that_stops_hands_over_what_was_said_and_no_attempt_is_counted() -> None:
    Steps.began = []

    async def main() -> None:
        world = World()
        async with world.open():
            state_engine = world.worker()
            state_engine.add_workflow(Walk)
            world.start(state_engine)
            first = world.worker(shutdown_grace_period=0.2)
            first.add_service(make_steps())
            async with first.running():
                handle = await world.client.dispatch(world.client.new_workflow(Walk).run, 20)
                await asyncio.sleep(7.5)
            second = world.worker()
            second.add_service(make_steps())
            world.start(second)
            assert await handle.result() == 20
            await world.settle()
            assert world.backlog() == {}

    run(main())
    assert [(said, index) for _, said, index in Steps.began] == [(None, 0), (7, 0)]


def test_who_stops_tells_the_others_what_is_done_so_that_no_attempt_is_taken_for_lost() -> None:
    """Its last guards come to them. Listeners would hear of failures of tasks that have ended."""
    Steps.began = []

    async def main() -> None:
        world = World()
        async with world.open():
            first = world.worker()
            first.add_workflow(Walk)
            first.add_service(make_steps())
            world.start(first)
            second = world.worker()
            second.add_service(make_steps())
            async with second.running():
                running = [world.client.new_workflow(Walk).run(3) for _ in range(10)]
                assert await asyncio.gather(*running) == [3] * 10
            await asyncio.sleep(10 * TIMEOUT)
            reports = [message for topic, message in world.published if topic == workflow_engine("Walk")]
            found = {type(engine.decode(each.body)).__name__ for each in reports}
            assert "AttemptFailed" not in found
            await world.settle()
            assert world.backlog() == {}

    run(main())
    assert len(Steps.began) == 10


class Approvals:
    """Its task waits for somebody outside, and has heartbeats until its method has returned."""

    tokens: ClassVar[list[str]] = []

    @task(delegated=True, heartbeat_timeout=TIMEOUT)
    async def ask(self) -> int:
        Approvals.tokens.append(task_context().delegation_token)
        return 0


class Approve(Workflow):
    approvals = Workflow.new_service(Approvals)

    async def run(self) -> int:
        return await self.approvals.ask()


def test_S8_a_guard_that_comes_after_its_worker_has_gone_asks_for_no_delegated_task_again() -> None:
    """Nobody remembers that the method has returned, but the state engine does."""
    Approvals.tokens.clear()

    async def main() -> None:
        world = World()
        async with world.open():
            state_engine = world.worker()
            state_engine.add_workflow(Approve)
            world.start(state_engine)
            first = world.worker()
            first.add_service(Approvals())
            async with first.running():
                handle = await world.client.dispatch(world.client.new_workflow(Approve).run)
                await asyncio.sleep(2.0)
            second = world.worker()
            second.add_service(Approvals())
            world.start(second)
            await asyncio.sleep(10 * TIMEOUT)
            await world.client.complete_delegated_task(Approvals.tokens[0], 7, contract=Approvals)
            assert await handle.result() == 7
            await world.settle()
            assert world.backlog() == {}

    run(main())
    assert len(Approvals.tokens) == 1


def test_a_worker_without_broker_has_stopped_before_another_one_begins_and_reports_for_nothing() -> None:
    """It runs on, and its task says so. But nobody hears it."""
    Steps.began = []
    stopped: list[float] = []

    async def note_end(self: Steps, steps: int) -> int:
        loop = asyncio.get_running_loop()
        task_context().on_cancel(lambda: stopped.append(loop.time()))
        return await Steps.walk(self, steps)

    async def main() -> None:
        world = World()
        async with world.open():
            state_engine = world.worker()
            state_engine.add_workflow(Walk)
            world.start(state_engine)
            fence = Fence()
            transport = FencedTransport(world.connect(), fence, reconnect=world.connect)
            alone = world.worker(transport, FencedStorage(InMemoryStorage(world.database), fence))
            walk = task(heartbeat_timeout=TIMEOUT)(note_end)
            alone.add_service(type("Steps", (Steps,), {"walk": walk})())
            world.start(alone)
            handle = await world.client.dispatch(world.client.new_workflow(Walk).run, 40)
            await asyncio.sleep(10.5)
            fence.cut()
            other = world.worker()
            other.add_service(make_steps())
            world.start(other)
            await asyncio.sleep(20.0)
            fence.resume()
            assert await handle.result() == 40
            await world.settle()
            assert world.backlog() == {}

    run(main())
    (_, (again, said, _)) = Steps.began
    assert said in (8, 9)
    assert stopped[0] <= again
    # Only when the worker had its broker back, it could report that.
    assert len(stopped) == 1


def test_an_executor_that_hears_that_its_attempt_is_lost_stops_it_and_reports_nothing() -> None:
    Steps.began = []

    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            worker = world.worker()
            worker.add_workflow(Walk)
            worker.add_service(make_steps())
            world.start(worker)
            handle = await world.client.dispatch(world.client.new_workflow(Walk).run, 30)
            await asyncio.sleep(5.0)
            sent = [message for topic, message in world.published if topic == service_executor("Steps")]
            lost = control.AttemptsLost((service.decode(sent[0].body).attempt,))
            other = InMemoryTransport(world.broker, clock=world.clock)
            # Whoever says so has reported the attempt as failed before. Here, nobody has.
            await other.publish(service_control("Steps"), [Message("control", None, control.encode(lost))])
            await asyncio.sleep(100.0)
            reports = [message for topic, message in world.published if topic == workflow_engine("Walk")]
            assert [type(engine.decode(each.body)).__name__ for each in reports] == ["Start"]
            assert sum(worker.count_held().values()) == 0
            await world.client.terminate(handle)
            await world.settle()
            assert world.backlog() == {}

    run(main())
    assert len(Steps.began) == 1


class Worker:
    """Tasks that are silent, or talk too much."""

    stopped: ClassVar[list[str]] = []

    @task(heartbeat_timeout=5, retry=ExponentialBackoff(minimum_seconds=1, maximum_seconds=1, random_factor=0))
    async def fall_silent(self) -> list[object]:
        context = task_context()
        if context.retry_index == 2:
            return [context.last_heartbeat, context.last_failure and context.last_failure.exception.message]
        await asyncio.sleep(3.0)
        context.heartbeat("begun")
        context.on_cancel(lambda: Worker.stopped.append("told"))
        try:
            await asyncio.sleep(5.5)
        finally:
            # It is no sign of life any more. But the next attempt is told.
            context.heartbeat(f"stopped in attempt {context.retry_index}")
        return []

    @task(heartbeat_timeout=5)
    async def be_silent(self) -> None:
        await asyncio.sleep(5.5)

    @task(heartbeat_timeout=3)
    async def talk(self) -> int:
        for number in range(1, 601):
            task_context().heartbeat(number)
            await asyncio.sleep(0.1)
        return 600

    async def deaf(self) -> str:
        assert task_context().last_heartbeat is None
        try:
            task_context().heartbeat()
        except UsageError as error:
            return str(error)
        return ""

    @task(heartbeat_timeout=5)
    async def say_wrong_things(self) -> list[str]:
        found: list[str] = []
        for details in (object(), {1: 2}, "x" * 5_500_000, float):
            try:
                task_context().heartbeat(details)
            except PayloadError as error:
                found.append(f"{type(error).__name__}: {error}"[:200])
        return found


class Shift(Workflow):
    worker = Workflow.new_service(Worker)

    async def run(self, name: str) -> Any:
        return await getattr(self.worker, name)()


async def test_S4_silence_is_a_failure_that_is_retried_and_the_next_attempt_finds_what_was_said(
    sim: Simulation,
) -> None:
    sim.add_service(Worker)
    sim.add_workflow(Shift)
    Worker.stopped.clear()
    began = sim.now
    found = await sim.client.new_workflow(Shift).run("fall_silent")
    assert found == ["stopped in attempt 1", "No heartbeat came for 5 s"]
    assert Worker.stopped == ["told", "told"]
    # Two attempts of 3 + 5 seconds, each with a second until the next one.
    assert (sim.now - began).total_seconds() == 18


async def test_S4_without_a_policy_silence_fails_the_task(sim: Simulation) -> None:
    sim.add_service(Worker)
    sim.add_workflow(Shift)
    with pytest.raises(WorkflowFailedError, match="No heartbeat came for 5 s"):
        await sim.client.new_workflow(Shift).run("be_silent")


def test_heartbeats_travel_at_most_every_third_of_the_timeout() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker()
            worker.add_service(Worker())
            worker.add_workflow(Shift)
            world.start(worker)
            assert await world.client.new_workflow(Shift).run("talk") == 600
            guards = [message for topic, message in world.published if topic == service_executor("Worker")]
            # A minute, one each second, and the message of the task itself.
            assert 50 <= len(guards) <= 62
            await world.settle()
            assert world.backlog() == {}

    run(main())


async def test_a_heartbeat_without_a_timeout_is_named(sim: Simulation) -> None:
    sim.add_service(Worker)
    sim.add_workflow(Shift)
    told = await sim.client.new_workflow(Shift).run("deaf")
    assert told == "Nobody waits for the heartbeats of Worker.deaf: decorate it with @task(heartbeat_timeout=…)"
    with pytest.raises(UsageError, match="while they run as a task"):
        task_context().heartbeat()


async def test_details_that_cannot_be_sent_are_named_at_the_call(sim: Simulation) -> None:
    sim.add_service(Worker)
    sim.add_workflow(Shift)
    found = await sim.client.new_workflow(Shift).run("say_wrong_things")
    assert [each.partition(":")[0] for each in found] == [
        "PayloadError",
        "PayloadError",
        PayloadTooLargeError.__name__,
        "PayloadError",
    ]
    assert "The heartbeat of Worker.say_wrong_things: 5,500,002 bytes are above the limit" in found[2]


@pytest.mark.parametrize("given", [0, -1])
def test_a_heartbeat_timeout_is_above_zero(given: float) -> None:
    with pytest.raises(UsageError, match="heartbeat_timeout in @task must be above zero"):
        task(heartbeat_timeout=given)


async def test_a_batch_has_no_heartbeats(sim: Simulation) -> None:
    class Together:
        @task(heartbeat_timeout=5)
        async def add(self, number: int) -> int:
            return number

        @batch("add")
        async def add_all(self, numbers: dict[str, int]) -> dict[str, int]:
            return numbers

    with pytest.raises(RegistrationError, match="has a heartbeat_timeout, and a batch"):
        sim.add_service(Together())
