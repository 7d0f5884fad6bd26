"""What a campaign has reached: faults that happened, invariants that were checked, branches."""

from __future__ import annotations

from collections import Counter

import msgspec

from infinitic_testing.campaign.seed_report import SeedReport
from infinitic_testing.campaign.setting import Setting
from infinitic_testing.faults.catalog import CATALOG, Faults

OF_PULSAR = frozenset({"key-disorder", "forgotten-attempts", "given-back"})
"""Faults that happen only in the profile "pulsar"."""


class Coverage(msgspec.Struct):
    """What the runs of a campaign have reached together. It can be written to a file.

    Attributes:
        runs: how many runs there were.
        failed: how many of them failed.
        virtual_seconds: how much virtual time passed in all of them.
        fired: how often each fault happened.
        evaluated: how often each invariant was checked.
        branches: the branches of the engines that were reached.
        repeated: how many runs were made once more in another process, to compare.
    """

    runs: int = 0
    failed: int = 0
    virtual_seconds: float = 0.0
    fired: dict[str, int] = {}
    evaluated: dict[str, int] = {}
    branches: set[str] = set()
    repeated: int = 0

    def add(self, report: SeedReport) -> None:
        """Count one run."""
        self.runs += 1
        self.failed += report.failure is not None
        self.virtual_seconds += report.virtual_seconds
        self.fired = dict(Counter(self.fired) + Counter(report.fired))
        self.evaluated = dict(Counter(self.evaluated) + Counter(report.evaluated))
        self.branches |= report.branches

    def list_never_fired(self, setting: Setting) -> list[str]:
        """List the faults that the runs could have, and that never happened.

        Args:
            setting: of the runs.
        """
        wanted = Faults.parse(setting.faults).names
        if setting.profile not in (None, "pulsar"):
            wanted -= OF_PULSAR
        return [name for name in CATALOG if name in wanted and not self.fired.get(name)]
