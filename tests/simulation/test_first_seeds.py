"""Each scenario passes its first seeds, with all faults. `make soak` runs 10,000."""

from __future__ import annotations

import pytest

from infinitic_testing.campaign import Setting, find_functions, run_seed
from infinitic_testing.campaign.failure_text import describe_seed
from tests.thorough import count_seeds

SCENARIOS = find_functions("tests.simulation.scenarios")

SEEDS = count_seeds(usual=1, thorough=5)
"""How many seeds of each scenario."""

SEEDS_OF_LONG_ONES = 1
LONG = {"simulate_long_loop", "simulate_value_at_the_limit", "simulate_crowd", "simulate_signals_and_tasks"}
"""They take several times as long as the others."""


@pytest.mark.parametrize("name", SCENARIOS, ids=lambda name: name.rpartition("simulate_")[2])
def test_a_scenario_passes_its_first_seeds(name: str) -> None:
    setting = Setting()
    for seed in range(SEEDS_OF_LONG_ONES if name.rpartition(":")[2] in LONG else SEEDS):
        report = run_seed(SCENARIOS[name], seed, setting, name=name)
        assert report.failure is None, "\n".join(describe_seed(report, setting))
