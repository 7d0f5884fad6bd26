"""Bugs that are planted into the product are seen, under the seeds that `make planted` has found.

When code changes, a seed makes another run. So further seeds are tried if the first one fails to
see the bug. If none does, `make planted` tells more. Most runs of the tests try one bug in three.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.planted import list_bugs
from tests.simulation.planted.areas import AREAS, choose_scenario, list_area
from tests.simulation.planted.hunting import MOST_SEEDS, hunt, read_finds
from tests.simulation.scenarios import MODULES, list_scenarios
from tests.thorough import choose_cases

FEW = 30
"""Bugs that took more seeds, or more time, are left to `make planted`."""

FINDS = {name: find for name, find in read_finds().items() if find.seeds <= FEW and find.seconds <= 0.5}


@pytest.mark.parametrize("name", choose_cases(FINDS, list(FINDS)[::3]))
def test_a_planted_bug_is_seen(name: str) -> None:
    """The run that sees it passes without the bug."""
    assert hunt(list_bugs()[name], first=FINDS[name], most=2 * FEW, must_pass=True) is not None


def test_most_bugs_are_seen_soon() -> None:
    assert len(FINDS) >= 30
    assert read_finds().keys() <= list_bugs().keys()


@pytest.mark.parametrize("name", list_bugs())
def test_a_bug_is_removed_again(name: str) -> None:
    bug = list_bugs()[name]
    with bug.planted() as changed:
        assert changed, "nothing was replaced"
        assert all(read() is not before for read, before in changed)
    assert all(read() is before for read, before in changed)


def test_areas_name_scenarios_and_bugs() -> None:
    assert {bug.place for bug in list_bugs().values()} >= AREAS.keys()
    assert {module for modules in AREAS.values() for module in modules} <= set(MODULES)


@pytest.mark.parametrize("name", list_bugs())
def test_each_scenario_has_its_turn(name: str) -> None:
    bug = list_bugs()[name]
    chosen = Counter(choose_scenario(bug, seed) for seed in range(1, MOST_SEEDS + 1))
    # All but the slow ones, as far as there are seeds: a bug with an area has half of them for it.
    assert len(chosen) >= min(len(list_scenarios()) - 3, MOST_SEEDS // 2)
    area = list_area(bug)
    assert bool(area) == (bug.place in AREAS or bool(bug.scenarios))
    assert set(area) <= list_scenarios().keys()
    assert all(chosen[scenario] >= MOST_SEEDS // 2 // len(area) for scenario in area)
