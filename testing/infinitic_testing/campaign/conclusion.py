"""What a campaign says at its end: one document, for people and for programs."""

from __future__ import annotations

import platform

import msgspec

from infinitic_testing.campaign.branches import list_branches
from infinitic_testing.campaign.campaign import CampaignState
from infinitic_testing.campaign.found_failure import FoundFailure
from infinitic_testing.campaign.order import CampaignOrder
from infinitic_testing.invariants import RULES
from infinitic_testing.release import find_release

WHOLE_CAMPAIGN = 1_000
"""A campaign of so many runs must reach everything. In a smaller one, chance may leave out some."""


class Conclusion(msgspec.Struct):
    """What a campaign says at its end.

    Attributes:
        passed: True if no run failed, and everything was reached that must be.
        interrupted: True if it was ended by Ctrl-C.
        infinitic: the version of infinitic.
        python: the version of Python.
        order: what was to be run.
        runs: how many runs there were.
        failed: how many of them failed.
        repeated: how many were made once more in another process, to compare.
        seconds: of real time.
        seeds_per_second: of real time, with all processes together.
        virtual_seconds: the virtual time of all runs.
        fired: how often each fault happened.
        never_fired: the faults that could have happened, and did not.
        evaluated: how often each invariant was checked.
        branches: the branches of the engines that were reached, of the runs that were watched.
        branches_left: the branches that were not reached.
        problems: what is wrong with the campaign itself, one sentence each.
        failures: the kinds of failures.
    """

    passed: bool
    interrupted: bool
    infinitic: str
    python: str
    order: CampaignOrder
    runs: int
    failed: int
    repeated: int
    seconds: float
    seeds_per_second: float
    virtual_seconds: float
    fired: dict[str, int]
    never_fired: list[str]
    evaluated: dict[str, int]
    branches: list[str]
    branches_left: list[str]
    problems: list[str]
    failures: list[FoundFailure]


def conclude_campaign(state: CampaignState, order: CampaignOrder, *, interrupted: bool = False) -> Conclusion:
    """Conclude a campaign.

    Args:
        state: what was done.
        order: what was to be run.
        interrupted: True if it was ended before all was done.
    """
    coverage = state.coverage
    never_fired = coverage.list_never_fired(order.setting)
    problems: list[str] = []
    if coverage.runs >= WHOLE_CAMPAIGN:
        problems += [f"The rule {name} was never checked" for name in RULES if not coverage.evaluated.get(name)]
        problems += [f"The fault {name} never happened in {coverage.runs:,} runs" for name in never_fired]
    return Conclusion(
        passed=not coverage.failed and not problems and not interrupted,
        interrupted=interrupted,
        infinitic=find_release(),
        python=platform.python_version(),
        order=order,
        runs=coverage.runs,
        failed=coverage.failed,
        repeated=coverage.repeated,
        seconds=round(state.seconds, 3),
        seeds_per_second=round(coverage.runs / state.seconds, 1) if state.seconds else 0.0,
        virtual_seconds=round(coverage.virtual_seconds, 3),
        fired=dict(sorted(coverage.fired.items())),
        never_fired=never_fired,
        evaluated=dict(sorted(coverage.evaluated.items())),
        branches=sorted(coverage.branches),
        branches_left=sorted(set(list_branches().values()) - coverage.branches),
        problems=problems,
        failures=state.failures,
    )
