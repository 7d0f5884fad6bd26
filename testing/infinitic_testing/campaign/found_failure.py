"""A kind of failure that a campaign has found."""

from __future__ import annotations

from enum import Enum

import msgspec

from infinitic_testing.campaign.messages import SeedShrunk
from infinitic_testing.campaign.seed_report import SeedReport


class Repetition(Enum):
    """What a fresh process says about a failing run, before it is reported."""

    YES = "yes"
    NO = "no"
    NOT_TRIED = "not tried"


class FoundFailure(msgspec.Struct):
    """All runs that failed in the same way.

    Attributes:
        report: of the first of them.
        times: how many runs failed like this.
        small: the first run, as small as was found. None: it was not made smaller.
        repeats: whether the small run fails in a fresh process, too.
        file: the file that `infinitic simulate --replay` runs again; empty: there is none.
    """

    report: SeedReport
    times: int = 1
    small: SeedShrunk | None = None
    repeats: Repetition = Repetition.NOT_TRIED
    file: str = ""

    @property
    def shown(self) -> SeedReport:
        """The report to look at: that of the small run, if there is one."""
        return self.report if self.small is None else self.small.report

    def is_alike(self, report: SeedReport) -> bool:
        """True if a run failed with the same error and rule, perhaps of another function."""
        mine, other = self.report.failure, report.failure
        return mine is not None and other is not None and (mine.error, mine.rule) == (other.error, other.rule)

    def covers(self, report: SeedReport) -> bool:
        """True if another run failed in the same way."""
        failure = self.report.failure
        return failure is not None and failure.is_same(report.failure) and self.report.function == report.function
