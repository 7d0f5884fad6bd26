"""S11, S12: one commit writes a step, sends its messages and acknowledges its inputs."""

from __future__ import annotations

from itertools import islice

import pytest

from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from tests.simulation.cases import CASES, Case
from tests.simulation.constellations import CONSTELLATIONS, TWO, cut_points, play
from tests.simulation.one_database import OneDatabaseWorld
from tests.simulation.test_power_cuts import FLAVOURS
from tests.thorough import IS_THOROUGH

ONE_IN = 1 if IS_THOROUGH else 3
"""One in so many operations is tried."""


@pytest.mark.parametrize(("constellation", "after"), FLAVOURS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_power_cut_at_any_operation_changes_nothing(case: Case, constellation: str, after: bool) -> None:
    who = CONSTELLATIONS[constellation]
    uncut = Fence()
    expected = run(play(case, who, uncut, make_world=OneDatabaseWorld))
    for at in islice(cut_points(uncut), ONE_IN // 2, None, ONE_IN):
        fence = Fence(at, after=after)
        try:
            assert run(play(case, who, fence, make_world=OneDatabaseWorld)) == expected
        except BaseException as error:
            error.add_note(f"Cut at operation {at} of {len(uncut.operations)}: {fence.operations[at - 1 : at]}")
            raise


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_step_is_one_operation_and_the_outcome_is_the_same(case: Case) -> None:
    apart, whole = Fence(), Fence()
    outcomes = [
        run(play(case, TWO, apart)),
        run(play(case, TWO, whole, make_world=OneDatabaseWorld)),
    ]
    assert outcomes[0] == outcomes[1]
    engine = [each for each in whole.operations if each.startswith("ack workflow-engine:")]
    assert len(engine) < sum(each.startswith("ack workflow-engine:") for each in apart.operations) / 2
