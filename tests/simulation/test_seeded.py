"""Workers of all roles and versions start, die, pause and fail at random, from a seed.

All messages come twice. Still, each instance gets each signal once and ends with the same result,
and its history replays.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from infinitic import Channel, TaskFailedError, Workflow, WorkflowHandle, WorkflowUnknownError, limits, task, workflow
from infinitic.engines.workflow import render
from infinitic.runtime.workflow_executor import stimuli
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic.worker.hosting import read_version
from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from infinitic_testing.network.fates import make_error
from tests.simulation.invariants import check_stored_instances, read_instances
from tests.simulation.observed import ObservedBroker, ObservedDatabase
from tests.simulation.world import RETENTION, World

T = TypeVar("T")
SIGNALS = 36


class Faulty(Fence):
    """Some operations fail: before they take effect, or their replies are lost."""

    def __init__(self, rng: random.Random, share: float) -> None:
        super().__init__(latency=lambda: rng.choice((0.0, 0.0, 0.001, 0.05)))
        self._rng = rng
        self._share = share

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        publishes = operation.startswith("publish")
        if self.is_down or not (publishes or operation in ("commit", "load", "history")):
            return await super().perform(operation, call)
        if self._rng.random() >= self._share:
            return await super().perform(operation, call)
        self.operations.append(operation)
        late = operation == "commit" or publishes
        if late and self._rng.random() < 0.5:
            await call()
        raise make_error(operation, is_outcome_unknown=True)


class Pad:
    rng = random.Random(0)

    @task(retry=lambda index, error: 0.05 if index < 50 else None)
    async def pad(self, number: int, text: str) -> int:
        if self.rng.random() < 0.1:
            raise ValueError("x" * 500)
        if self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.choice((0.01, 0.3)))
        return number

    async def slow(self) -> None:
        await asyncio.sleep(5.0)

    async def fail(self) -> None:
        raise ValueError("no")


@workflow(name="Seeded")
class One(Workflow):
    pad = Workflow.new_service(Pad)
    go = Channel[tuple[int, str]]()

    async def run(self, count: int) -> tuple[list[int], list[int]]:
        heard = list[int]()
        group = list[Any]()
        for _ in range(count):
            number, text = await self.go.receive()
            heard.append(number)
            if number % 3 == 0:
                group.append(self.dispatch(self.pad.pad, number, text))
            if number % 5 == 0:
                await asyncio.sleep(0.2)
            if number % 7 == 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self.pad.slow()
            if number % 11 == 0:
                self.inline(random.random)
                with suppress(TaskFailedError):
                    await self.pad.fail()
        return sorted(heard), sorted([await each for each in group])

    async def beside(self, number: int) -> int:
        await asyncio.sleep(0.1)
        return await self.pad.pad(number, "beside")


@workflow(name="Seeded", version=1)
class Two(One):
    pass


class Play:
    """Three instances, and what becomes of them."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.share = rng.choice((0.0, 0.02, 0.1))
        self.hosts = list[tuple[Faulty, asyncio.Task[None]]]()
        self.handles = list[WorkflowHandle[tuple[list[int], list[int]]]]()
        self.beside = list[tuple[int, WorkflowHandle[int]]]()
        self.sent = [0, 0, 0]

    def host(self) -> None:
        rng, fence = self.rng, Faulty(self.rng, self.share)
        worker = self.world.fenced(fence, zombie=rng.random() < 0.3, cache_size=rng.choice((0, 1, 1000)))
        versions = rng.choice(((One,), (Two,), (One, Two)))
        worker.add_service(Pad())
        match rng.choice(("fused", "fused", "engine", "code", "code")):
            case "fused":
                worker.add_workflow(*versions, retention=RETENTION)
            case "engine":
                worker.add_workflow_state_engine("Seeded", retention=RETENTION)
            case _:
                worker.add_workflow_executor(*versions, retention=RETENTION)
        self.hosts.append((fence, self.world.start(worker)))

    async def play(self) -> None:
        rng, client = self.rng, self.world.client
        for _ in range(3):
            self.host()
            self.handles.append(await client.dispatch(client.new_workflow(One).run, SIGNALS))
        while min(self.sent) < SIGNALS or rng.random() < 0.9:
            chance, one = rng.random(), rng.randrange(3)
            stub = client.get_workflow_by_id(One, self.handles[one].workflow_id)
            if chance < 0.4:
                for _ in range(min(rng.randint(1, 10), SIGNALS - self.sent[one])):
                    await stub.go.send((self.sent[one], "x" * rng.choice((1, 100, 3000, 30_000))))
                    self.sent[one] += 1
            elif chance < 0.5 and self.sent[one] < SIGNALS:
                self.beside.append((one, await client.dispatch(stub.beside, one)))
            elif chance < 0.55:
                await client.retry_workflow_task(self.handles[one])
            elif chance < 0.6:
                self.host()
            elif chance < 0.7 and len(self.hosts) > 1:
                await self._stop(*self.hosts.pop(rng.randrange(len(self.hosts))))
            elif chance < 0.85:
                await self.world.deliver_again(rng.choices(self.published(), k=rng.randint(1, 5)))
            else:
                await asyncio.sleep(rng.choice((0.0, 0.01, 0.1, 0.5)))

    async def _stop(self, fence: Faulty, host: asyncio.Task[None]) -> None:
        if self.rng.random() < 0.5:
            fence.cut()
            await asyncio.sleep(self.rng.choice((0.0, 0.1, 1.0)))
            if self.rng.random() < 0.5:
                fence.resume()
                await asyncio.sleep(self.rng.choice((0.0, 0.1, 1.0)))
        host.cancel()

    def published(self) -> list[tuple[Topic, Message]]:
        return [each for each in self.world.published if not each[0].name.startswith(("dlq", "service-control"))]

    async def check(self) -> None:
        world = self.world
        last = world.worker()
        last.add_service(Pad())
        last.add_workflow(One, Two, retention=RETENTION)
        world.start(last)
        every = list(range(SIGNALS))
        async with asyncio.timeout(20_000):
            for handle in self.handles:
                assert await handle.result() == (every, every[::3])
            for number, beside in self.beside:
                with suppress(WorkflowUnknownError):  # its instance may have been closed before
                    assert await beside.result() == number
        again = self.published()
        await world.settle()
        before = read_instances(world.database)
        self.rng.shuffle(again)
        await world.deliver_again(again)
        await world.settle()
        assert read_instances(world.database) == before
        await check_stored_instances(world, lambda _: {0: read_version(One), 1: read_version(Two)})
        assert not [message for topic, message in world.published if topic.name.startswith("dlq")]


@pytest.mark.parametrize("seed", [3, 166, 207, 3004, 3019])
def test_whatever_happens_each_signal_is_heard_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(Pad, "rng", random.Random(seed))
    monkeypatch.setattr(render, "CARRIED", rng.choice((200, 2000, 64 * 1024)))
    monkeypatch.setattr(stimuli, "BATCH_BYTES", rng.choice((100, 20_000, 8 * 1024 * 1024)))
    monkeypatch.setattr(limits, "ENOUGH", rng.choice((300, 5000, 1024 * 1024)))
    broker = ObservedBroker(max_payload=rng.choice((90_000, 200_000)), choose=lambda _, count: rng.randrange(count))

    async def main() -> None:
        world = World(broker, ObservedDatabase(max_value=rng.choice((230_000, 1_000_000))))
        async with world.open():
            play = Play(world, rng)
            await play.play()
            await play.check()

    run(main())
