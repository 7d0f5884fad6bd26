"""S2: only the culprit is blamed for the death of a process.

The orderly end of a process and a lost session are no deaths.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

import pytest
from msgspec.structs import replace

from infinitic import TaskFailedError, Workflow
from infinitic.definitions.services import TaskOptions
from infinitic.messages import service
from infinitic.topics import service_executor, workflow_engine
from infinitic.transport import Message
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.fences import Fence, FencedStorage, FencedTransport
from infinitic_testing.loop import run
from infinitic_transports.memory import Broker, InMemoryTransport
from tests.simulation.desk import make_desk
from tests.simulation.recording import RecordingTransport
from tests.simulation.sessions import ForgetfulBroker, Grouping, LostSession
from tests.simulation.world import World
from tests.unit.scripted import request

WIDTH = 20
CULPRIT = 7


class Crowd:
    """Many tasks. One of them kills its process after a moment."""

    fence: ClassVar[Fence]
    ran: ClassVar[Counter[int]]

    def __init__(self, fence: Fence | None = None) -> None:
        self._fence = fence

    async def run(self, number: int, seconds: float) -> int:
        Crowd.ran[number] += 1
        if number == CULPRIT and self._fence is not None:
            await asyncio.sleep(0.05)
            self._fence.cut()
        await asyncio.sleep(seconds)
        return number


class Fair(Workflow):
    crowd = Workflow.new_service(Crowd)

    async def run(self, numbers: list[int], seconds: float) -> list[str]:
        outcomes = await asyncio.gather(
            *(self.crowd.run(number, seconds) for number in numbers), return_exceptions=True
        )
        return [
            each.last_failure.exception.short_name if isinstance(each, TaskFailedError) else str(each)
            for each in outcomes
        ]


def connect(world: World) -> RecordingTransport | Grouping:
    """Make a connection that may lose acknowledgements, if its broker is a `ForgetfulBroker`."""
    transport = world.connect()
    return Grouping(transport) if isinstance(world.broker, ForgetfulBroker) else transport


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("broker", [Broker, ForgetfulBroker])
def test_of_21_tasks_of_which_one_kills_its_process_20_end_well(processes: int, broker: type[Broker]) -> None:
    Crowd.ran = Counter()
    deaths = 0

    async def main() -> None:
        world = World(broker())

        def arrive() -> None:
            fence = Fence()
            transport = FencedTransport(connect(world), fence)
            worker = world.worker(transport, FencedStorage(InMemoryStorage(world.database), fence))
            worker.add_service(Crowd(fence))
            host = world.start(worker)

            def again() -> None:
                nonlocal deaths
                deaths += 1
                host.cancel()
                arrive()

            fence.on_cut(again)

        async with world.open():
            engine = world.worker()
            engine.add_workflow(Fair)
            world.start(engine)
            for _ in range(processes):
                arrive()
            await world.run_until_idle()
            outcomes = await world.client.new_workflow(Fair).run(list(range(WIDTH + 1)), 0.5)
            expected = [str(number) for number in range(WIDTH + 1)]
            expected[CULPRIT] = "WorkerDied"
            assert outcomes == expected
            await world.settle()
            assert world.backlog() == {}

    run(main())
    assert Crowd.ran[CULPRIT] == deaths == 5


@pytest.mark.parametrize("broker", [Broker, ForgetfulBroker])
def test_orderly_ends_that_cut_a_task_are_no_deaths(broker: type[Broker]) -> None:
    """A task of 90 s, a grace of 10 s, and eight restarts one after the other."""
    Crowd.ran = Counter()

    async def main() -> None:
        world = World(broker())
        async with world.open():
            engine = world.worker()
            engine.add_workflow(Fair)
            world.start(engine)
            handle = await world.client.dispatch(world.client.new_workflow(Fair).run, [1, 2], 90.0)
            for _ in range(8):
                worker = world.worker(connect(world), shutdown_grace_period=10.0)
                worker.add_service(Crowd())
                async with worker.running():
                    await asyncio.sleep(20.0)
                await asyncio.sleep(1.0)
            last = world.worker(connect(world))
            last.add_service(Crowd())
            world.start(last)
            assert await handle.result() == ["1", "2"]
            assert count_deaths(world) == (0 if broker is Broker else 1), "all that a weak sign is worth"
            await world.settle()
            assert world.backlog() == {}

    run(main())


def count_deaths(world: World) -> int:
    return max(
        service.decode(message.body).deaths
        for topic, message in world.published
        if topic.name.startswith("service-executor")
    )


def test_a_session_lost_during_an_hour_is_no_death_and_the_task_runs_once() -> None:
    Crowd.ran = Counter()

    async def main() -> None:
        world = World()
        async with world.open():
            engine = world.worker()
            engine.add_workflow(Fair)
            world.start(engine)
            transport = LostSession(world.connect(), InMemoryTransport(world.broker, clock=world.clock))
            first = world.worker(transport)
            first.add_service(Crowd())
            world.start(first)
            handle = await world.client.dispatch(world.client.new_workflow(Fair).run, [1, 2], 3600.0)
            await asyncio.sleep(60.0)
            began = world.clock.now()
            second = world.worker()
            second.add_service(Crowd())
            world.start(second)
            transport.lose()
            assert await handle.result() == ["1", "2"]
            assert world.clock.now() - began == pytest.approx(3540.0)
            assert Crowd.ran == {1: 1, 2: 1}
            assert count_deaths(world) == 0
            await asyncio.sleep(60.0)
            assert Crowd.ran == {1: 1, 2: 1}, "the copy that was put off is settled: its task is done"
            await world.settle()
            assert world.backlog() == {}

    run(main())


def test_who_dies_after_its_session_was_lost_is_taken_over() -> None:
    Crowd.ran = Counter()

    async def main() -> None:
        world = World()
        async with world.open():
            engine = world.worker()
            engine.add_workflow(Fair)
            world.start(engine)
            transport = LostSession(world.connect(), InMemoryTransport(world.broker, clock=world.clock))
            fence = Fence()
            first = world.worker(FencedTransport(transport, fence))
            first.add_service(Crowd())
            host = world.start(first)
            fence.on_cut(host.cancel)
            handle = await world.client.dispatch(world.client.new_workflow(Fair).run, [1], 600.0)
            await asyncio.sleep(60.0)
            second = world.worker()
            second.add_service(Crowd())
            world.start(second)
            transport.lose()
            await asyncio.sleep(60.0)
            assert Crowd.ran == {1: 1}
            fence.cut()
            assert await handle.result() == ["1"]
            assert Crowd.ran == {1: 2}
            assert count_deaths(world) == 1

    run(main())


class Leaver:
    """A task that wants to end its process, each time."""

    async def leave(self) -> int:
        raise SystemExit(3)


class Leaving(Workflow):
    leaver = Workflow.new_service(Leaver)
    crowd = Workflow.new_service(Crowd)

    async def run(self) -> list[str]:
        outcomes = await asyncio.gather(
            self.leaver.leave(), *(self.crowd.run(number, 30.0) for number in range(3)), return_exceptions=True
        )
        return [
            each.last_failure.exception.short_name if isinstance(each, TaskFailedError) else str(each)
            for each in outcomes
        ]


def test_a_task_that_leaves_each_time_fails_for_good_and_its_neighbours_end_well() -> None:
    """S9: the task that ends its process is known. Only it is blamed, five times."""
    Crowd.ran = Counter()
    codes = list[object]()

    async def main() -> None:
        world = World()

        async def workers() -> None:
            while True:
                worker = world.worker()
                worker.add_service(Leaver())
                worker.add_service(Crowd())
                try:
                    async with worker.running():
                        await asyncio.get_running_loop().create_future()
                except SystemExit as leaving:
                    codes.append(leaving.code)

        async with world.open():
            engine = world.worker()
            engine.add_workflow(Leaving)
            world.start(engine)
            task = asyncio.create_task(workers())
            try:
                assert await world.client.new_workflow(Leaving).run() == ["WorkerDied", "0", "1", "2"]
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    run(main())
    assert codes == [3] * 5


def test_suspects_run_one_at_a_time_in_a_process_whatever_their_service() -> None:
    """Two services of one worker have ten suspects each: no two run at once, and all end soon."""
    running, most, ended = 0, 0, 0

    async def work(self: object, text: str) -> str:
        nonlocal running, most, ended
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        ended += 1
        return text

    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            worker = world.worker(InMemoryTransport(world.broker, clock=world.clock))
            names = ("First", "Second")
            for name in names:
                implementation = make_desk(work)
                worker.add_service(type(name, (type(implementation),), {"__infinitic_options__": TaskOptions(name)})())
            world.start(worker)
            await world.run_until_idle()
            connection = InMemoryTransport(world.broker, clock=world.clock)
            for name in names:
                messages = [
                    Message(
                        str(number),
                        None,
                        service.encode(replace(request(["x"], position=number), service=name, deaths=2)),
                    )
                    for number in range(10)
                ]
                await connection.publish(service_executor(name), messages)
            await connection.declare([workflow_engine("Job")])
            await asyncio.sleep(20.0)
            assert (most, ended) == (1, 20)

    run(main())
