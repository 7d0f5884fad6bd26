"""A seed does the same in every process: with another heap, and another seed of hashes of text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from infinitic_testing.campaign.functions import find_functions
from infinitic_testing.campaign.running import run_seed

ROOT = Path(__file__).parents[2]
SCENARIOS = (
    "tests.simulation.scenarios.basics:simulate_failing_tasks",
    "tests.simulation.scenarios.races:simulate_failing_races",
    "tests.simulation.scenarios.leaving:simulate_clients_come_and_go",
)
SEEDS = (1, 2)

_PROGRAM = """
import sys
junk = [bytearray(size % 613 + 16) for size in range(20_002)]
del junk[::3]
from tests.simulation.test_same_digest import digest_all
sys.stdout.write("\\n".join(digest_all()))
"""


def digest_all() -> list[str]:
    """Run all scenarios under all seeds. Return their digests."""
    digests = list[str]()
    for name in SCENARIOS:
        for seed in SEEDS:
            report = run_seed(find_functions(name)[name], seed)
            failure = "" if report.failure is None else report.failure.message.splitlines()[0]
            digests.append(f"{name} {seed} {report.trace_digest} {report.outcome_digest} {failure}")
    return digests


def test_a_seed_does_the_same_in_another_process() -> None:
    here = digest_all()
    there = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.splitlines() == here
    traces = [line.split()[2] for line in here]
    assert all(len(trace) == 32 for trace in traces)
    assert len(set(traces)) == len(SCENARIOS) * len(SEEDS)
