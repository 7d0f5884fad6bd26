"""S13, F1, F11: a message that is delivered again changes nothing, whatever its age and order.

A broker that was killed may deliver messages again that were acknowledged minutes ago. So these
tests publish all messages again, for workflows that run, and for those that are closed or purged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

import pytest

from infinitic import WorkflowUnknownError
from infinitic.definitions.workflow_spec import spec_of
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_testing.loop import run
from tests.simulation.cases import CASES, Case
from tests.simulation.examples import EXAMPLES
from tests.simulation.invariants import check_ended, check_nothing_changed, read_instances
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import RETENTION, Hosting, World, host_all, host_engines, host_executors

Published = list[tuple[Topic, Message]]

ORDERS: dict[str, Callable[[Published], Published]] = {
    "in order": lambda published: list(published),
    "backwards": lambda published: published[::-1],
    "shuffled": lambda published: random.Random(1).sample(published, len(published)),
    "twice": lambda published: [each for each in published for _ in range(2)],
}
HOSTINGS: dict[str, tuple[Hosting, ...]] = {
    "fused": (host_all,),
    "split": (host_engines, host_executors),
    "two": (host_all, host_all),
}


def _start(world: World, case: Case, hostings: tuple[Hosting, ...], cache_size: int = 1000) -> None:
    for hosting in hostings:
        worker = world.worker(cache_size=cache_size)
        hosting(worker, case)
        world.start(worker)


FILLS_BATCHES = {"example newsletter"}
"""Copies of its tasks fill a batch, which then begins at once: something does change."""


async def _deliver_again(world: World, order: Callable[[Published], Published]) -> None:
    """Publish everything again."""
    await world.deliver_again(order(world.published[: len(world.published)]))
    await world.run_until_idle()


async def _check_nothing_changes(world: World, order: Callable[[Published], Published]) -> None:
    """Publish everything again, and check that nothing changes."""
    before = read_instances(world.database)
    await _deliver_again(world, order)
    check_nothing_changed(before, read_instances(world.database))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("hostings", HOSTINGS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_of_a_closed_workflow(case: Case, hostings: str, order: str) -> None:
    specs = {spec_of(workflow).name: spec_of(workflow) for workflow in case.workflows}

    async def main() -> None:
        world = World()
        async with world.open():
            _start(world, case, HOSTINGS[hostings])
            await case.scenario(world.client)
            await world.settle()
            await _check_nothing_changes(world, ORDERS[order])
            await world.stop()  # others remember nothing of it
            _start(world, case, HOSTINGS[hostings])
            await _check_nothing_changes(world, ORDERS[order])
            await world.settle()
            await check_ended(world, specs)
            assert not world.backlog(), f"something is left: {world.backlog()}"

    run(main())


@pytest.mark.parametrize("cache_size", [1000, 0], ids=["live", "taken over at every step"])
@pytest.mark.parametrize("hostings", HOSTINGS)
@pytest.mark.parametrize("case", [*CASES, *EXAMPLES], ids=lambda case: case.name)
def test_of_a_running_workflow(case: Case, hostings: str, cache_size: int) -> None:
    """Whenever nothing can run, everything comes again. The outcome is the same."""
    specs = {spec_of(workflow).name: spec_of(workflow) for workflow in case.workflows}
    rounds = 0

    async def main(*, repeat: bool) -> object:
        nonlocal rounds
        world = World()
        async with world.open():
            _start(world, case, HOSTINGS[hostings], cache_size)
            playing = asyncio.create_task(case.scenario(world.client))
            pauses = _draw_pauses()
            while repeat and not playing.done():
                await world.run_until_idle()
                again = _deliver_again if case.name in FILLS_BATCHES else _check_nothing_changes
                await again(world, random.Random(rounds).choice(list(ORDERS.values())))
                rounds += 1
                await asyncio.wait([playing], timeout=next(pauses))
            outcome = await playing
            await world.settle()
            await check_ended(world, specs)
        return outcome

    assert run(main(repeat=True)) == run(main(repeat=False))
    assert rounds


def _draw_pauses() -> Iterator[float]:
    """Yield the seconds until the next repetition: often in the first second, then over days."""
    pause = 0.05
    while True:
        yield pause
        pause *= 2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("hostings", HOSTINGS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_of_a_workflow_that_is_purged(case: Case, hostings: str, order: str) -> None:
    """Its remnant refuses the start. After the deduplication window, the start is too old."""

    async def main() -> None:
        world = World(database=ObservedDatabase(deduplication_window=2 * RETENTION))
        async with world.open():
            _start(world, case, HOSTINGS[hostings])
            await case.scenario(world.client)
            (key, *_) = instances = read_instances(world.database)
            names = {each.name for each in instances}
            await asyncio.sleep(RETENTION + 7200.0)
            assert not read_instances(world.database), "it is not purged"
            published = list(world.published)
            await world.deliver_again(ORDERS[order](published))
            await world.settle()
            assert not read_instances(world.database), "a late message brought it back"
            assert not world.backlog(), f"something is left: {world.backlog()}"

            await asyncio.sleep(3 * RETENTION)  # the remnant is gone as well
            await world.deliver_again(ORDERS[order](published))
            await world.settle()
            assert not read_instances(world.database), "a late message brought it back"
            left = world.backlog()
            assert left.keys() == {f"dlq:workflow-engine:{name}" for name in names}, f"only old starts are kept: {left}"
            handle = world.client.get_handle(
                getattr(case.workflows[0], next(iter(spec_of(case.workflows[0]).methods))), key.id
            )
            with pytest.raises(WorkflowUnknownError):
                await handle.result()

    run(main())
