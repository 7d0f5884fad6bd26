"""S34: failed code runs again, with state engine and code on one worker or on two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from infinitic import Channel, Deferred, RequestRefusedError, Workflow, WorkflowFailedError, WorkflowHandle, topics
from infinitic.engines import state
from infinitic.messages import engine
from infinitic.messages.events import Activated, Partial, Reopened
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import StateKey
from infinitic.transport import Message
from tests.simulation.cases import Case
from tests.simulation.invariants import decode_history, read_instances
from tests.simulation.scenarios.mended import MENDED, RESULTS, SHAPES, Bakery, Oven
from tests.simulation.scenarios.repairs import Garage
from tests.simulation.world import World, host_all, host_engines, host_executors, run_scenario

CASE = Case("mended", (Bakery,), lambda client: asyncio.sleep(0), (Oven,))


ENGINE = topics.workflow_engine("Bakery")


FUSED = (host_all,)


SPLIT = (host_engines, host_executors)


roles = pytest.mark.parametrize("hostings", [FUSED, SPLIT], ids=["fused", "split"])


caches = pytest.mark.parametrize("cache_size", [1000, 0], ids=["live", "replayed"])


@pytest.fixture(autouse=True)
def broken() -> None:
    """Each test begins with code that has mistakes."""
    MENDED.clear()


def play(
    scenario: Callable[[World], Awaitable[None]],
    hostings: tuple[Callable[..., None], ...],
    cache_size: int = 1000,
    *,
    is_watched: bool = True,
) -> None:
    """Run a scenario with workers of these roles."""

    async def begin(world: World) -> None:
        world.host(CASE, *hostings, cache_size=cache_size)
        await world.run_until_idle()
        await scenario(world)

    run_scenario(begin, CASE, lambda worker, case: None, is_watched=is_watched)


async def fail(world: World, method: str = "in_order") -> WorkflowHandle[object]:
    """Start a workflow, and wait until it has failed and is closed."""
    handle: WorkflowHandle[object] = await world.client.dispatch(getattr(world.client.new_workflow(Bakery), method))
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    await asyncio.sleep(5.0)
    return handle


def read_head(world: World, workflow_id: str) -> state.WorkflowHead:
    return state.decode(read_instances(world.database)[StateKey("Bakery", workflow_id)][0])


def count_reopenings(world: World, workflow_id: str) -> int:
    _, segments = read_instances(world.database)[StateKey("Bakery", workflow_id)]
    return sum(isinstance(event, Reopened) for event in decode_history(segments))


async def retry(world: World, handle: WorkflowHandle[object]) -> None:
    """Mend the next mistake, and have the code run again."""
    MENDED[handle.workflow_id] += 1
    await world.client.retry_workflow_task(handle, confirm=True)


@roles
@caches
@pytest.mark.parametrize(("method", "expected"), list(zip(SHAPES, RESULTS, strict=True)))
def test_each_shape_goes_on(
    hostings: tuple[Callable[..., None], ...], cache_size: int, method: str, expected: object
) -> None:
    """What has run does not run again, the time is that of the failure, and positions go on."""

    async def scenario(world: World) -> None:
        handle = await fail(world, method)
        await asyncio.sleep(3600.0)
        await retry(world, handle)
        if method == "in_order":
            with pytest.raises(WorkflowFailedError, match="mistake 2"):
                await handle.result()
            await asyncio.sleep(3600.0)
            await retry(world, handle)
        assert await handle.result() == expected
        _, segments = read_instances(world.database)[StateKey("Bakery", handle.workflow_id)]
        history = decode_history(segments)
        times = {event.number: event.at for event in history if isinstance(event, Activated)}
        for index, event in enumerate(history):
            if isinstance(event, Reopened):
                following = next(each for each in history[index:] if isinstance(each, Activated))
                assert following.at == times[event.rerun]
        assert times[max(times)] > times[1] + 3600.0, "later on, the code sees the time of the clock"

    play(scenario, hostings, cache_size)


@roles
def test_code_that_fails_again_is_refused_and_a_repeat_is_not_obeyed_later(
    hostings: tuple[Callable[..., None], ...],
) -> None:
    """S13: it was refused, and the code is mended since then."""

    async def scenario(world: World) -> None:
        handle = await fail(world)
        with pytest.raises(RequestRefusedError, match=r"it fails again at the same place.*ValueError: mistake 1"):
            await world.client.retry_workflow_task(handle, confirm=True)
        closed = read_head(world, handle.workflow_id)
        assert (closed.status, closed.probe) == (WorkflowStatus.FAILED, None)
        asked = [
            (topic, each) for topic, each in world.published if each.body.startswith(b'{"t":"retry_workflow_task"')
        ]
        assert len(asked) == 1
        MENDED[handle.workflow_id] = 2
        await world.deliver_again(asked)
        await asyncio.sleep(60.0)
        assert count_reopenings(world, handle.workflow_id) == 0
        await world.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == [1, 2, 3, 4]

    play(scenario, hostings)


@roles
def test_repeats_of_every_message_re_open_nothing_again(hostings: tuple[Callable[..., None], ...]) -> None:
    """S13: of the failed activation, of the probe, and of the one that ran again."""

    async def scenario(world: World) -> None:
        handle = await fail(world)
        await retry(world, handle)
        await asyncio.sleep(60.0)
        assert (await world.client.describe(handle)).status is WorkflowStatus.FAILED, "by the second mistake"
        MENDED[handle.workflow_id] = 2
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        assert count_reopenings(world, handle.workflow_id) == 1
        await world.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == [1, 2, 3, 4]
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        assert count_reopenings(world, handle.workflow_id) == 2

    play(scenario, hostings)


def test_findings_that_cannot_be_are_refused() -> None:
    """Only an executor with a bug sends such. They must not open what is done."""

    async def scenario(world: World) -> None:
        handle = await fail(world)
        await world.stop()
        world.host(CASE, host_engines)
        asked = asyncio.get_running_loop().create_task(world.client.retry_workflow_task(handle, confirm=True))
        await world.run_until_idle()
        waits = read_head(world, handle.workflow_id).probe
        assert waits is not None
        assert waits.rerun == 2
        found = engine.Probed(made_at=world.clock.now(), request_id=waits.request_id)
        await world.transport.publish(ENGINE, [Message("x", handle.workflow_id, engine.encode(found))])
        with pytest.raises(RequestRefusedError, match=r"it does not re-open its first method, but \[\]"):
            await asked
        assert read_head(world, handle.workflow_id).probe is None

    play(scenario, SPLIT, is_watched=False)


@roles
def test_code_that_stalled_after_its_failure_runs_again(hostings: tuple[Callable[..., None], ...]) -> None:
    """It was mended while a task was open. A replay did not repeat the failure, and it stalled."""

    async def scenario(world: World) -> None:
        handle: WorkflowHandle[object] = await world.client.dispatch(world.client.new_workflow(Bakery).slowly)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        MENDED[handle.workflow_id] = 1
        await asyncio.sleep(5.0)
        assert (await world.client.describe(handle)).stalled is not None
        await world.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == [1, 2]
        assert count_reopenings(world, handle.workflow_id) == 1

    play(scenario, hostings, cache_size=0)


@roles
@caches
def test_what_does_not_fit_into_one_activation_goes_to_several(
    hostings: tuple[Callable[..., None], ...], cache_size: int
) -> None:
    """Each of many parallel methods asks for a large task, at once, when the code runs again."""

    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Many).run)
        many = world.client.get_workflow_by_id(Many, handle.workflow_id)
        for number in range(12):
            await many.words.send(number)
        # All of it is in one activation: nobody has taken it before.
        world.host(case, *hostings, cache_size=cache_size)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await asyncio.sleep(5.0)
        MENDED[handle.workflow_id] = 1
        await world.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == 12 * 400_000
        _, segments = read_instances(world.database)[StateKey("Many", handle.workflow_id)]
        partial = [event for event in decode_history(segments) if isinstance(event, Partial)]
        assert partial, "it did not fit"
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        assert (await world.client.describe(handle)).status is WorkflowStatus.COMPLETED

    case = Case("many", (Many,), lambda client: asyncio.sleep(0), (Oven,))
    run_scenario(scenario, case, lambda worker, case: None)


class Many(Workflow):
    oven = Workflow.new_service(Oven)
    words = Channel[int]()

    async def run(self) -> int:
        weights: list[Deferred[int]] = []
        for _ in range(12):
            await self.words.receive()
            if not MENDED[self.context.workflow_id]:
                raise ValueError("mistake 1")
            weights.append(self.dispatch(self.oven.weigh, "x" * 400_000))
        return sum([await each for each in weights])


class Mixed(Workflow):
    garage = Workflow.new_service(Garage)

    def mistake(self, number: int) -> None:
        if MENDED[self.context.workflow_id] < number:
            raise ValueError(f"mistake {number}")

    async def by_turns(self) -> list[int]:
        """Tasks fail, and then the code, and then tasks."""
        found = [await self.garage.mend(1, 1)]
        self.mistake(1)
        async with asyncio.timeout(86_400.0):
            found.append(await self.garage.mend(2, 1))
            self.mistake(2)
        return [*found, await self.garage.mend(3, 1), await self.garage.polish(4)]

    async def behind_it(self) -> list[int]:
        """A task fails after the code has, and runs again before the code does."""
        later = self.dispatch(self.garage.mend_with_attempts, 1, 1)
        found = await self.garage.polish(2)
        self.mistake(1)
        return [found, await later]


@roles
@caches
def test_failed_tasks_and_failed_code_run_again_by_turns(
    hostings: tuple[Callable[..., None], ...], cache_size: int
) -> None:
    async def scenario(world: World) -> None:
        world.host(case, *hostings, cache_size=cache_size)
        handle: WorkflowHandle[object] = await world.client.dispatch(world.client.new_workflow(Mixed).by_turns)
        steps = 0
        while True:
            try:
                assert await handle.result() == [1, 2, 3, 4]
                break
            except WorkflowFailedError as error:
                steps += 1
                await asyncio.sleep(60.0)
                if error.cause is None:
                    MENDED[handle.workflow_id] += 1
                    await world.client.retry_workflow_task(handle, confirm=True)
                else:
                    await world.client.retry_tasks(handle)
        assert steps == 5

    case = Case("mixed", (Mixed,), lambda client: asyncio.sleep(0), (Garage,))
    run_scenario(scenario, case, lambda worker, case: None)


@roles
@caches
def test_a_task_that_failed_behind_the_failure_of_the_code_runs_again_first(
    hostings: tuple[Callable[..., None], ...], cache_size: int
) -> None:
    """S34: the code that runs again is not handed the failure that was undone."""

    async def scenario(world: World) -> None:
        world.host(case, *hostings, cache_size=cache_size)
        handle: WorkflowHandle[object] = await world.client.dispatch(world.client.new_workflow(Mixed).behind_it)
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await asyncio.sleep(60.0)
        assert (await world.client.describe(handle)).status is WorkflowStatus.FAILED
        await world.client.retry_tasks(handle)
        await asyncio.sleep(60.0)
        assert (await world.client.describe(handle)).status is WorkflowStatus.FAILED
        MENDED[handle.workflow_id] = 1
        await world.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == [2, 1]
        await world.deliver_again(list(world.published))
        await asyncio.sleep(60.0)
        assert (await world.client.describe(handle)).status is WorkflowStatus.COMPLETED

    case = Case("mixed", (Mixed,), lambda client: asyncio.sleep(0), (Garage,))
    run_scenario(scenario, case, lambda worker, case: None)
