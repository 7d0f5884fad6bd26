"""Runs a failing seed again and again, each time with fewer choices, until it is small."""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec.structs import replace

from infinitic.clock import SystemClock
from infinitic_testing.campaign.messages import SeedShrunk
from infinitic_testing.campaign.seed_report import SeedFailure, SeedReport
from infinitic_testing.campaign.setting import Setting
from infinitic_testing.campaign.shrinking import MOST_RUNS, shrink
from infinitic_testing.choices import Key

MOST_SECONDS = 120.0
"""How long it may take to make one failing run small, in real seconds."""


def shrink_seed(
    run: Callable[[Setting], SeedReport], setting: Setting, failure: SeedFailure, *, most_seconds: float = MOST_SECONDS
) -> SeedShrunk | None:
    """Find a small run that fails in the same way.

    Args:
        run: runs the seed once.
        setting: how the failing run is made.
        failure: how it fails. A smaller run must fail with the same error and rule.
        most_seconds: how long it may take, in real seconds.

    Returns:
        The small run. None: this process cannot repeat the failure at all.
    """
    now = SystemClock().now
    ends = now() + most_seconds
    whole = run(setting)
    if not failure.is_same(whole.failure):
        return None
    best = whole

    def fails(only: frozenset[Key]) -> Collection[Key] | None:
        nonlocal best
        report = run(replace(setting, only=only))
        if not failure.is_same(report.failure):
            return None
        best = report
        return report.taken

    small = shrink(whole.taken, fails, most_runs=MOST_RUNS - 1, is_late=lambda: now() > ends)
    return SeedShrunk(best, replace(setting, only=frozenset(small.kept)), small.runs + 1, small.is_smallest)
