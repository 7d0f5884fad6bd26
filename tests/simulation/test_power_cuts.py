"""S11, S12, F6: cut the power of a worker at every single operation, and the outcome is the same.

Each test loops over all cut points of one case, in one flavour and one constellation of workers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from infinitic.definitions.workflow_spec import spec_of
from infinitic_testing.fences import Fence
from tests.simulation.cases import CASES, CROWD, Case
from tests.simulation.examples import EXAMPLES
from tests.simulation.invariants import check_ended, check_nothing_changed, kept
from tests.simulation.world import Hosting, World, engines, executors, fused, run

FLAVOURS = {"before": False, "after": True}


@dataclass(frozen=True)
class Constellation:
    """Who is there: the worker that is cut, those that are there from the start, those that come after the cut."""

    cut: Hosting
    before: tuple[Hosting, ...] = ()
    after: tuple[Hosting, ...] = ()
    zombie: bool = False


REPLACED = Constellation(fused, after=(fused,))
TWO = Constellation(fused, before=(fused,))
CONSTELLATIONS = {
    "replaced": REPLACED,
    "two": TWO,
    "zombie": Constellation(fused, before=(fused,), zombie=True),
    "split, engine cut": Constellation(engines, before=(executors,), after=(engines,)),
    "split, executor cut": Constellation(executors, before=(engines,), after=(executors,)),
}


async def play(case: Case, who: Constellation, fence: Fence, *, cache_size: int = 1000) -> object:
    """Run a scenario to its end, check all that must hold, and return its outcome."""
    specs = {spec_of(workflow).name: spec_of(workflow) for workflow in case.workflows}
    world = World()
    async with world.open():

        def host(hosting: Hosting) -> None:
            worker = world.worker(cache_size=cache_size)
            hosting(worker, case)
            world.start(worker)

        victim = world.fenced(fence, zombie=who.zombie, cache_size=cache_size)
        who.cut(victim, case)
        first = world.start(victim)

        def replace() -> None:
            if not who.zombie:
                first.cancel()
            for hosting in who.after:
                host(hosting)

        fence.on_cut(replace)
        for hosting in who.before:
            host(hosting)
        await world.quiet()
        outcome = await case.scenario(world.client)
        await world.quiet()
        await check_ended(world, specs)
        before = kept(world.database)
        fence.resume()
        await world.settle()
        await check_ended(world, specs)
        check_nothing_changed(before, kept(world.database))
        seen = len(fence.operations)
        await asyncio.sleep(30.0)
        restless = set(fence.operations[seen:]) - {"purge", "find"}
        assert not restless, f"it does not come to rest: {restless}"
        assert not world.backlog(), f"something is left: {world.backlog()}"
    return outcome


def cut_points(uncut: Fence) -> Iterator[int]:
    """The numbers of all operations, but for the hourly maintenance after its first two turns: they are all alike."""
    hourly = 0
    for number, operation in enumerate(uncut.operations, 1):
        hourly += operation in ("purge", "find")
        if hourly <= 4 or operation not in ("purge", "find"):
            yield number


def cut_everywhere(case: Case, who: Constellation, *, after: bool) -> None:
    """The loop: run uncut to learn the operations and the outcome, then cut at each of them."""
    uncut = Fence()
    expected = run(play(case, who, uncut))
    for at in cut_points(uncut):
        fence = Fence(at, after=after)
        try:
            outcome = run(play(case, who, fence))
            assert outcome == expected
            assert fence.operations[at - 1] == uncut.operations[at - 1], "the run is not deterministic"
        except BaseException as error:
            error.add_note(f"Cut at operation {at} of {len(uncut.operations)}: {fence.operations[at - 1 : at]}")
            raise


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("constellation", CONSTELLATIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_power_cut_at_any_operation_changes_nothing(case: Case, constellation: str, flavour: str) -> None:
    cut_everywhere(case, CONSTELLATIONS[constellation], after=FLAVOURS[flavour])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.name)
def test_a_power_cut_at_any_operation_of_an_example_changes_nothing(case: Case, flavour: str) -> None:
    cut_everywhere(case, REPLACED, after=FLAVOURS[flavour])


@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.name)
def test_one_of_two_workers_dies_at_any_operation_of_an_example(case: Case) -> None:
    cut_everywhere(case, TWO, after=True)


@pytest.mark.parametrize("case", [*CASES, CROWD], ids=lambda case: case.name)
def test_a_power_cut_with_latency_everywhere_and_a_cache_that_is_too_small(case: Case) -> None:
    """Ways that take time let operations overlap; an instance that is evicted at once is taken over at every step."""
    expected = run(play(case, TWO, Fence()))
    for seed in range(8):
        draw = random.Random(seed)
        uncut = Fence(latency=lambda draw=draw: draw.uniform(0.0, 0.01))  # type: ignore[misc]
        assert run(play(case, TWO, uncut, cache_size=0)) == expected
        choose = random.Random(seed)
        at = choose.choice(list(cut_points(uncut)))
        draw = random.Random(seed)
        fence = Fence(at, after=choose.random() < 0.5, latency=lambda draw=draw: draw.uniform(0.0, 0.01))  # type: ignore[misc]
        try:
            assert run(play(case, TWO, fence, cache_size=0)) == expected
        except BaseException as error:
            error.add_note(f"Seed {seed}, cut at operation {at}: {fence.operations[at - 1 : at]}")
            raise
