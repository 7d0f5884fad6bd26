"""Runs of a case in which the power of one worker is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infinitic.definitions.workflow_spec import spec_of
from infinitic_testing.fences import Fence
from tests.simulation.cases import Case
from tests.simulation.invariants import check_ended, check_nothing_changed, check_nothing_waits, read_instances
from tests.simulation.world import Hosting, World, host_all, host_engines, host_executors


@dataclass(frozen=True)
class Constellation:
    """The workers of a run in which the power of one is cut.

    Attributes:
        cut: the roles of the worker whose power is cut.
        before: the roles of the workers that are there from the start.
        after: the roles of the workers that come at the instant of the cut.
        zombie: True: the worker that is cut is only paused. It goes on when the case has ended.
    """

    cut: Hosting
    before: tuple[Hosting, ...] = ()
    after: tuple[Hosting, ...] = ()
    zombie: bool = False


REPLACED = Constellation(host_all, after=(host_all,))
TWO = Constellation(host_all, before=(host_all,))
CONSTELLATIONS = {
    "replaced": REPLACED,
    "two": TWO,
    "zombie": Constellation(host_all, before=(host_all,), zombie=True),
    "split, engine cut": Constellation(host_engines, before=(host_executors,), after=(host_engines,)),
    "split, executor cut": Constellation(host_executors, before=(host_engines,), after=(host_executors,)),
}


async def play(
    case: Case,
    who: Constellation,
    fence: Fence,
    *,
    cache_size: int = 1000,
    make_world: Callable[[], World] = World,
) -> object:
    """Run a case to its end, check all invariants, and return its outcome.

    Args:
        case: what runs.
        who: the workers.
        fence: cuts the power of ``who.cut``.
        cache_size: how many instances stay in the memory of each worker.
        make_world: makes broker and database.
    """
    specs = {spec_of(workflow).name: spec_of(workflow) for workflow in case.workflows}
    world = make_world()
    async with world.open():
        victim = world.fenced(fence, zombie=who.zombie, cache_size=cache_size)
        who.cut(victim, case)
        first = world.start(victim)

        def replace() -> None:
            if not who.zombie:
                first.cancel()
            world.host(case, *who.after, cache_size=cache_size)

        fence.on_cut(replace)
        world.host(case, *who.before, cache_size=cache_size)
        await world.run_until_idle()
        outcome = await case.scenario(world.client)
        await world.run_until_idle()
        await check_ended(world, specs)
        before = read_instances(world.database)
        fence.resume()
        await world.settle()
        check_nothing_waits(world)
        check_nothing_changed(before, read_instances(world.database))
        seen = len(fence.operations)
        await asyncio.sleep(30.0)
        restless = set(fence.operations[seen:]) - {"purge", "find"}
        assert not restless, f"it never stops: {restless}"
        assert not world.backlog(), f"something is left: {world.backlog()}"
    return outcome


def cut_points(uncut: Fence) -> Iterator[int]:
    """Give the numbers of all operations at which a cut may make a difference.

    The turns of the hourly maintenance are all alike, so only the first two count.
    """
    # Each turn has two operations.
    hourly = 0
    for number, operation in enumerate(uncut.operations, 1):
        hourly += operation in ("purge", "find")
        if hourly <= 4 or operation not in ("purge", "find"):
            yield number
