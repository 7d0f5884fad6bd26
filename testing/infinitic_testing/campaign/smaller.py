"""Runs a failing seed again and again, each time with fewer choices, until it is small."""

from __future__ import annotations

import gc
from collections.abc import Collection

from msgspec.structs import replace

from infinitic.clock import SystemClock
from infinitic_testing.campaign.functions import SimFunction
from infinitic_testing.campaign.messages import SeedShrunk
from infinitic_testing.campaign.running import run_seed
from infinitic_testing.campaign.seed_report import SeedFailure
from infinitic_testing.campaign.setting import Setting
from infinitic_testing.campaign.shrinking import MOST_RUNS, shrink
from infinitic_testing.choices import Key

MOST_SECONDS = 120.0
"""How long it may take to make one failing run small, in real seconds."""


def shrink_seed(
    function: SimFunction,
    seed: int,
    setting: Setting,
    failure: SeedFailure,
    *,
    name: str = "",
    most_runs: int = MOST_RUNS,
    most_seconds: float = MOST_SECONDS,
) -> SeedShrunk | None:
    """Find a small run that fails in the same way.

    Args:
        function: what runs.
        seed: the seed.
        setting: how the failing run is made.
        failure: how it fails. A smaller run must fail with the same error and rule.
        name: the full name of the function.
        most_runs: how many runs it may take.
        most_seconds: how long it may take, in real seconds.

    Returns:
        The small run. None: this process cannot repeat the failure at all.
    """
    now = SystemClock().now
    ends = now() + most_seconds
    whole = run_seed(function, seed, setting, name=name)
    if not failure.is_same(whole.failure):
        return None
    best = whole

    def fails(only: frozenset[Key]) -> Collection[Key] | None:
        nonlocal best
        # Nothing of the run before may come to its end in the middle of this one.
        gc.collect()
        report = run_seed(function, seed, replace(setting, only=only), name=name)
        if not failure.is_same(report.failure):
            return None
        best = report
        return report.taken

    small = shrink(whole.taken, fails, most_runs=most_runs - 1, is_late=lambda: now() > ends)
    return SeedShrunk(best, replace(setting, only=frozenset(small.kept)), small.runs + 1, small.is_smallest)
