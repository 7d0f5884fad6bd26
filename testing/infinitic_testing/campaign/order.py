"""What a campaign is to run."""

from __future__ import annotations

import msgspec

from infinitic.errors import UsageError
from infinitic_testing.campaign.functions import find_functions
from infinitic_testing.campaign.setting import Setting
from infinitic_testing.choices import MOST_SEED

MOST_SEEDS = 100_000_000
"""The most runs of one campaign."""


class CampaignOrder(msgspec.Struct, frozen=True):
    """What a campaign is to run.

    Attributes:
        functions: the full names of the functions, as `find_functions` gives them.
        setting: how the runs are made.
        first: the first seed.
        seeds: how many runs. Each has the next seed, and the functions take turns.
    """

    functions: tuple[str, ...]
    setting: Setting
    first: int = 0
    seeds: int = 100


def make_order(
    place: str, setting: Setting, *, names: list[str] | None = None, first: int = 0, seeds: int = 100
) -> CampaignOrder:
    """Find the functions of a campaign, and check all that a user wrote.

    Args:
        place: the module, file, package or folder of the functions.
        setting: how the runs are made.
        names: only the functions of these names. None or empty: all.
        first: the first seed.
        seeds: how many runs.

    Raises:
        UsageError: something is wrong. The message says what.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise UsageError(f"The number of seeds is from 1 to {MOST_SEEDS:,}, not {seeds:,}")
    if not 0 <= first <= MOST_SEED - seeds:
        raise UsageError(f"A seed is from 0 to {MOST_SEED:,}: {first:,} cannot be the first of {seeds:,}")
    setting.check()
    found = list(find_functions(place))
    if names:
        known = {full.rpartition(":")[2]: full for full in found}
        for name in names:
            if name not in known:
                raise UsageError(f"There is no function '{name}' to run in {place}. There are: {', '.join(known)}")
        found = [full for full in found if full.rpartition(":")[2] in names]
    return CampaignOrder(tuple(found), setting, first, seeds)
