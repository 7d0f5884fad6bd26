"""S42: every committed outbox can be published. What is too large fails at its cause."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from infinitic import (
    Channel,
    Client,
    PayloadCodec,
    PayloadError,
    PayloadTooLargeError,
    Worker,
    Workflow,
    WorkflowFailedError,
    task,
    task_context,
)
from infinitic.engines import state
from infinitic.messages import events, executor
from infinitic.messages.commands import RefuseCall, ScheduleTask
from infinitic_testing.loop import run
from tests.simulation.invariants import decode_history, read_instances
from tests.simulation.observed import ObservedBroker, ObservedDatabase
from tests.simulation.world import World, stop

KB = 1000
LIMIT = 192 * 1024


class Store:
    async def fetch(self, size: int) -> str:
        return "x" * size

    async def keep(self, text: str) -> int:
        return len(text)

    @task(retry=lambda index, error: 0.0 if index < 3 else None)
    async def break_loudly(self, text: str) -> int:
        raise ValueError("y" * 100_000)

    @task(retry=lambda index, error: 0.0 if index < 3 else None)
    async def take_notes(self, text: str) -> int:
        task_context().meta["notes"] = b"n" * 2_400_000
        raise ValueError("no")


class Bulk(Workflow):
    store = Workflow.new_service(Store)
    go = Channel[int]()
    words = Channel[str]()

    def __init__(self) -> None:
        self.kept = 0
        self.log = list[str]()

    async def fetch(self, count: int, size: int) -> int:
        return sum(map(len, await asyncio.gather(*(self.store.fetch(size) for _ in range(count)))))

    async def break_loudly(self, size: int) -> int:
        return await self.store.break_loudly("x" * size)

    async def take_notes(self, size: int) -> int:
        return await self.store.take_notes("x" * size)

    async def answer(self, size: int) -> str:
        return "x" * size

    async def pair(self, number: int, text: str, *, more: str = "") -> None: ...

    async def wait(self, count: int) -> None:
        """Timers are not counted when they are asked for: they are small."""
        await asyncio.gather(*(asyncio.sleep(1 + index) for index in range(count)))

    async def fail(self, size: int) -> None:
        raise ValueError("x" * size)

    async def careful(self, size: int) -> list[str]:
        """Deals with a refusal, and goes on."""
        try:
            await self.store.keep("x" * size)
        except PayloadTooLargeError as error:
            self.log.append(str(error))
        self.log.append(str(await self.store.keep("small")))
        return self.log

    async def computed(self, size: int) -> int:
        """Deals with an inline result that is too large, and goes on."""
        with suppress(PayloadTooLargeError):
            self.inline(lambda: "x" * size)
        return await self.store.keep("small")

    async def echoed(self, signals: int, size: int) -> int:
        """Asks for something large once all signals are there."""
        for _ in range(signals):
            await self.words.receive()
        return await self.store.keep("x" * size)

    async def mixed(self) -> list[int]:
        """Asks for as much as each signal says."""
        tasks = [self.dispatch(self.store.keep, "x" * (await self.go.receive() * KB)) for _ in range(6)]
        return [await each for each in tasks]

    async def spread(self, signals: int, size: int) -> int:
        """Asks for something large after each signal."""
        group = list[Any]()
        for _ in range(signals):
            await self.go.receive()
            group.append(self.dispatch(self.store.keep, "x" * size))
        return sum([await each for each in group])


def start_workers(world: World, split: bool, **options: Any) -> list[asyncio.Task[None]]:
    """Start one worker for everything, or two: one of them only for the code."""
    engine = world.worker(**options)
    engine.add_service(Store)
    if not split:
        engine.add_workflow(Bulk)
        return [world.start(engine)]
    engine.add_workflow_state_engine("Bulk")
    return [world.start(engine), world.start(encode(world.worker(**options)))]


def encode(worker: Worker) -> Worker:
    worker.add_workflow_executor(Bulk)
    return worker


def read_only_instance(world: World) -> tuple[state.WorkflowHead, list[events.Event]]:
    """Return head and history of the only instance."""
    ((head, segments),) = read_instances(world.database).values()
    return state.decode(head), decode_history(segments)


BOTH = pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])


@BOTH
@pytest.mark.parametrize("cache_size", [0, 1000], ids=["replayed", "live"])
def test_twenty_results_of_400_kb_in_one_activation(split: bool, cache_size: int) -> None:
    """8 MB for one activation: an executor reads them from storage."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=5_000_000))
        async with world.open():
            start_workers(world, split, cache_size=cache_size)
            assert await world.client.new_workflow(Bulk).fetch(20, 400 * KB) == 8_000_000
            sizes = [len(message.body) for topic, message in world.published if topic.name == "workflow-executor:Bulk"]
            assert all(size < 100 * KB for size in sizes)
            assert bool(sizes) == split

    run(main())


@BOTH
@pytest.mark.parametrize("cache_size", [0, 1000], ids=["replayed", "live"])
def test_what_is_asked_for_between_two_rests_does_not_depend_on_what_else_came(split: bool, cache_size: int) -> None:
    """Each signal makes a task of 60 KB. Thirty at once do not fit into one message (S19)."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=LIMIT), ObservedDatabase(max_value=1_000_000))
        async with world.open():
            handle = await world.client.dispatch(world.client.new_workflow(Bulk).spread, 30, 60 * KB)
            stub = world.client.get_workflow_by_id(Bulk, handle.workflow_id)
            for _ in range(30):
                await stub.go.send(1)
            start_workers(world, split, cache_size=cache_size)
            assert await handle.result() == 30 * 60 * KB
            _, history = read_only_instance(world)
            partial = [event.handed for event in history if isinstance(event, events.Partial)]
            assert len(partial) > 2
            assert sum(len(bytes(event.arguments)) for event in history if isinstance(event, ScheduleTask)) > 1_800_000

    run(main())


@BOTH
@pytest.mark.parametrize("cache_size", [0, 1000], ids=["replayed", "live"])
def test_what_fits_alone_is_not_refused_because_of_what_came_before_it(split: bool, cache_size: int) -> None:
    """Of 100 KB, 150 KB and 60 KB, the second is the largest value allowed, and fits only alone."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=LIMIT), ObservedDatabase(max_value=400_000))
        async with world.open():
            worker = start_workers(world, split, cache_size=cache_size)
            handle = await world.client.dispatch(world.client.new_workflow(Bulk).mixed)
            await world.run_until_idle()
            await stop(worker)
            stub = world.client.get_workflow_by_id(Bulk, handle.workflow_id)
            for size in (1, 40, 175, 3, 60, 178):
                await stub.go.send(size)
            start_workers(world, split, cache_size=cache_size)
            assert await handle.result() == [1000, 40_000, 175_000, 3000, 60_000, 178_000]
            read_only_instance(world)

    run(main())


@BOTH
def test_what_was_left_to_the_next_activation_survives_a_crash(split: bool) -> None:
    """Whoever takes over goes on by itself, though nothing else ever comes."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=LIMIT), ObservedDatabase(max_value=1_000_000))
        async with world.open():
            handle = await world.client.dispatch(world.client.new_workflow(Bulk).spread, 30, 60 * KB)
            stub = world.client.get_workflow_by_id(Bulk, handle.workflow_id)
            for _ in range(30):
                await stub.go.send(1)
            for _ in range(40):
                hosts = start_workers(world, split)
                for _ in range(7):
                    await asyncio.sleep(0)
                await stop(hosts)
            start_workers(world, split)
            assert await handle.result() == 30 * 60 * KB
            read_only_instance(world)

    run(main())


def test_an_accepted_argument_leaves_room_for_every_failure() -> None:
    """5.2 MB of arguments and the largest possible failure: all retries can be sent."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=5_242_880))
        async with world.open():
            start_workers(world, split=False)
            for size in (5_220_000, 5_226_000):
                with pytest.raises(WorkflowFailedError):
                    await world.client.new_workflow(Bulk).break_loudly(size)
            with pytest.raises(WorkflowFailedError, match="above the limit"):
                await world.client.new_workflow(Bulk).break_loudly(5_240_000)
            with pytest.raises(WorkflowFailedError, match="meta"):
                await world.client.new_workflow(Bulk).take_notes(3_000_000)
            assert not any(topic.name.startswith("dlq:") for topic, _ in world.published)

    run(main())


@BOTH
def test_arguments_signals_and_meta_are_refused_at_the_call(split: bool) -> None:
    async def main() -> None:
        world = World(ObservedBroker(max_payload=LIMIT))
        async with world.open():
            start_workers(world, split)
            client = world.client
            stub = client.get_workflow_by_id(Bulk, "w")
            published = len(world.published)
            with pytest.raises(PayloadTooLargeError, match=r"meta of 2.* above the limit of 180,224 bytes"):
                await client.new_workflow(Bulk, meta={"k": b"x" * 150_000}).fetch(1, 1)
            with pytest.raises(PayloadTooLargeError, match="A signal for channel 'words'"):
                await stub.words.send("x" * LIMIT)
            with pytest.raises(PayloadTooLargeError, match=r"the largest is argument number 2 with 300,002 bytes"):
                await client.new_workflow(Bulk).pair(1, "x" * 300_000)
            with pytest.raises(PayloadTooLargeError, match=r"the largest is argument 'more' with 300,002 bytes"):
                await client.new_workflow(Bulk).pair(1, "", more="x" * 300_000)
            assert len(world.published) == published
            told = await client.new_workflow(Bulk).careful(190 * KB)
            assert told[0].startswith("The arguments of Store.keep: 190,004 bytes are above the limit of 180,224 bytes")
            assert told[1] == "5"

    run(main())


def test_a_refusal_is_replayed_whatever_the_limit_is_now() -> None:
    """The code saw that it was refused; a broker that takes more does not change what it did."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=LIMIT))
        async with world.open():
            first = world.worker(cache_size=0)
            first.add_workflow(Bulk)
            host = world.start(first)
            handle = await world.client.dispatch(world.client.new_workflow(Bulk).careful, 190 * KB)
            await world.run_until_idle()
            await stop([host])
            _, history = read_only_instance(world)
            (refused,) = (event for event in history if isinstance(event, RefuseCall))
            assert refused.name == "The arguments of Store.keep"
            world.broker.max_payload = 5_000_000
            start_workers(world, split=False)
            assert (await handle.result())[1] == "5"

    run(main())


@BOTH
def test_a_result_that_does_not_fit_fails_its_method_and_large_failures_are_cut(split: bool) -> None:
    async def main() -> None:
        world = World(ObservedBroker(max_payload=LIMIT))
        async with world.open():
            start_workers(world, split)
            with pytest.raises(WorkflowFailedError, match=r"The result of Bulk.answer: 190,002 bytes are above"):
                await world.client.new_workflow(Bulk).answer(190 * KB)
            assert len(await world.client.new_workflow(Bulk).answer(170 * KB)) == 170 * KB
            with pytest.raises(WorkflowFailedError, match="xxx"):
                await world.client.new_workflow(Bulk).fail(10_000_000)

    run(main())


def test_an_activation_that_does_not_fit_into_the_storage_is_undone() -> None:
    """The instance stalls with sizes; what came is kept, and goes on when there is room."""

    async def main() -> None:
        database = ObservedDatabase(max_value=40_000)
        world = World(ObservedBroker(max_payload=5_000_000), database)
        async with world.open():
            hosts = start_workers(world, split=False)
            handle = await world.client.dispatch(world.client.new_workflow(Bulk).wait, 2000)
            await world.run_until_idle()
            info = await world.client.describe(handle)
            assert info.stalled is not None
            assert "above the limit of the storage of" in info.stalled
            await world.client.new_workflow(Bulk).wait(10)
            again = await world.client.retry_workflow_task(handle, confirm=True)
            assert again is not None, "it is told at once"
            assert "above the limit of the storage" in again
            await stop(hosts)
            database.max_value = 1_000_000
            start_workers(world, split=False)
            stub = world.client.get_workflow_by_id(Bulk, handle.workflow_id)
            assert await world.client.retry_workflow_task(stub, confirm=True) is None
            await handle.result()

    run(main())


@BOTH
@pytest.mark.parametrize(("signals", "size"), [(1, 160 * KB), (2, 90 * KB), (5, 45 * KB)])
def test_what_came_and_what_is_asked_for_need_not_fit_together(
    signals: int, size: int, split: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Each fits by itself: what came is written first, and handed over then."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=LIMIT), ObservedDatabase(max_value=200_000))
        async with world.open():
            hosts = start_workers(world, split)
            handle = await world.client.dispatch(world.client.new_workflow(Bulk).echoed, signals, 80 * KB)
            await world.run_until_idle()
            await stop(hosts)
            stub = world.client.get_workflow_by_id(Bulk, handle.workflow_id)
            for _ in range(signals):
                await stub.words.send("x" * size)
            start_workers(world, split)
            async with asyncio.timeout(60.0):
                assert await handle.result() == 80 * KB
            read_only_instance(world)
            assert "stalls" not in caplog.text

    run(main())


def test_a_decision_is_bounded_by_what_the_storage_takes() -> None:
    """The code learns it at the call, also on a worker of its own."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=1_000_000), ObservedDatabase(max_value=LIMIT))
        async with world.open():
            start_workers(world, split=True)
            with pytest.raises(WorkflowFailedError, match="above the limit"):
                await world.client.new_workflow(Bulk).echoed(0, 300 * KB)
            assert await world.client.new_workflow(Bulk).echoed(0, 100 * KB) == 100 * KB

    run(main())


@BOTH
def test_an_inline_result_that_was_refused_takes_no_room(split: bool) -> None:
    async def main() -> None:
        world = World(ObservedBroker(max_payload=LIMIT), ObservedDatabase(max_value=400_000))
        async with world.open():
            start_workers(world, split)
            assert await world.client.new_workflow(Bulk).computed(500 * KB) == 5

    run(main())


def test_the_reason_of_a_stall_is_cut() -> None:
    class Broken(Workflow):
        async def run(self) -> None:
            raise SystemExit("z" * 1_000_000)

    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker()
            worker.add_workflow(Broken)
            world.start(worker)
            handle = await world.client.dispatch(world.client.new_workflow(Broken).run)
            await world.run_until_idle()
            reason = (await world.client.describe(handle)).stalled
            assert reason is not None
            assert 4_000 < len(reason.encode()) <= 8 * 1024

    run(main())


def test_an_executor_holds_a_bounded_part_of_what_waits() -> None:
    """64 results of 1 MB wait for it. It takes about 8 MB in each activation."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=5_000_000))
        async with world.open():
            engine = world.worker()
            engine.add_service(Store)
            engine.add_workflow_state_engine("Bulk")
            world.start(engine)
            first = encode(world.worker())
            host = world.start(first)
            handle = await world.client.dispatch(world.client.new_workflow(Bulk).fetch, 64, 1000 * KB)
            for _ in range(3):
                await asyncio.sleep(0)
            await stop([host])
            await world.run_until_idle()
            world.start(encode(world.worker()))
            assert await handle.result() == 64_000_000
            _, history = read_only_instance(world)
            open_ones = [
                executor.decode(message.body)
                for topic, message in world.published
                if topic.name == "workflow-executor:Bulk"
            ]
            assert any(each.first for each in open_ones)
            assert any(isinstance(event, events.Partial) for event in history)

    run(main())


class Picky(PayloadCodec):
    """Refuses some values when they are coded."""

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        if b"refused" in data:
            raise PayloadError("not this one")
        return data

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return data


class Trying(Workflow):
    store = Workflow.new_service(Store)

    async def run(self) -> int:
        with suppress(PayloadError):
            await self.store.keep("refused")
        return await self.store.keep("taken")


def test_a_call_that_a_codec_refuses_uses_up_no_position() -> None:
    """Positions count on without a gap: one would be taken for a hole in the history."""

    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker(codec=Picky(), cache_size=0)
            worker.add_service(Store)
            worker.add_workflow(Trying)
            world.start(worker)
            async with Client(world.transport, clock=world.clock, codec=Picky()) as client:
                assert await client.new_workflow(Trying).run() == 5
            head, _ = read_only_instance(world)
            assert head.position == 1

    run(main())
