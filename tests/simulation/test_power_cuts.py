"""S11, S12, F6: cut the power of a worker at every single operation. The outcome is the same.

Each test loops over all cut points of one case, in one flavour and one constellation of workers.
Most runs of the tests try only one operation in three.

A cut after an operation and a cut before the next one are the same for a worker that is dead then:
nothing outside has changed in between. Only a worker that goes on later knows the difference.
"""

from __future__ import annotations

import random
from itertools import islice

import pytest

from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from tests.simulation.cases import CASES, CROWD, Case
from tests.simulation.constellations import CONSTELLATIONS, REPLACED, TWO, Constellation, cut_points, play
from tests.simulation.examples import STEADY_EXAMPLES
from tests.thorough import IS_THOROUGH, count_seeds

FLAVOURS = [
    pytest.param(name, after, id=f"{name}-{'after' if after else 'before'}")
    for name, who in CONSTELLATIONS.items()
    for after in ((False, True) if who.zombie else (True,))
]
"""Constellations, and whether the operation at the cut takes effect."""

ONE_IN = 1 if IS_THOROUGH else 3
"""One in so many operations is tried."""


def cut_everywhere(case: Case, who: Constellation, *, after: bool) -> None:
    """Run a case uncut to learn its operations and its outcome. Then cut at one in `ONE_IN`."""
    uncut = Fence()
    expected = run(play(case, who, uncut))
    for at in islice(cut_points(uncut), ONE_IN // 2, None, ONE_IN):
        fence = Fence(at, after=after)
        try:
            outcome = run(play(case, who, fence))
            assert outcome == expected
            assert fence.operations[at - 1] == uncut.operations[at - 1], "the run is not deterministic"
        except BaseException as error:
            error.add_note(f"Cut at operation {at} of {len(uncut.operations)}: {fence.operations[at - 1 : at]}")
            raise


@pytest.mark.parametrize(("constellation", "after"), FLAVOURS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_power_cut_at_any_operation_changes_nothing(case: Case, constellation: str, after: bool) -> None:
    cut_everywhere(case, CONSTELLATIONS[constellation], after=after)


@pytest.mark.parametrize("case", STEADY_EXAMPLES, ids=lambda case: case.name)
def test_a_power_cut_in_an_example_changes_nothing(case: Case) -> None:
    cut_everywhere(case, REPLACED, after=True)


@pytest.mark.parametrize("case", STEADY_EXAMPLES, ids=lambda case: case.name)
def test_one_of_two_workers_dies_in_an_example(case: Case) -> None:
    cut_everywhere(case, TWO, after=True)


@pytest.mark.parametrize("case", [*CASES, CROWD], ids=lambda case: case.name)
def test_a_power_cut_with_latency_everywhere_and_a_cache_that_is_too_small(case: Case) -> None:
    """With latency, operations overlap. Without a cache, an instance is taken over at each step."""
    expected = run(play(case, TWO, Fence()))
    for seed in range(count_seeds(usual=4, thorough=8)):
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
