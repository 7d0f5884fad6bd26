"""Looks closer at a failing run: makes it small, runs it in a fresh process, writes a file."""

from __future__ import annotations

from pathlib import Path

from infinitic_testing.campaign.found_failure import FoundFailure, Repetition
from infinitic_testing.campaign.messages import RunSeeds, SeedEnded, SeedShrunk, ShrinkSeed
from infinitic_testing.campaign.processes import Child, ChildEnded
from infinitic_testing.campaign.replay_file import ReplayFile
from infinitic_testing.campaign.seed_report import (
    FAULT_FREE_RUN,
    PROCESS_ENDED,
    REPRODUCIBLE,
    SeedFailure,
    SeedReport,
)
from infinitic_testing.campaign.setting import Setting


async def run_in_process(child: Child, function: str, seed: int, setting: Setting) -> SeedReport:
    """Run one seed in another process. If the process ends instead, this is the failure.

    Args:
        child: the process.
        function: the full name of the function.
        seed: the seed.
        setting: how the run is made.

    Raises:
        UsageError: there is no such function, or the setting is wrong.
    """
    try:
        replies = [reply async for reply in child.ask(RunSeeds(function, (seed,), setting))]
    except ChildEnded as ended:
        return SeedReport(function, seed, describe_process_end(ended))
    [report] = [reply.report for reply in replies if isinstance(reply, SeedEnded)]
    return report


def describe_process_end(ended: ChildEnded) -> SeedFailure:
    """Describe the end of a process as the failure of the seed that it ran."""
    return SeedFailure("ProcessEnded", PROCESS_ENDED, ended.how, details=ended.lines)


async def explain_failure(child: Child, found: FoundFailure, setting: Setting, folder: Path | None) -> None:
    """Make a failing run small, run it in a fresh process, and write its file.

    Args:
        child: makes the run small.
        found: the failure. What is found out is written into it.
        setting: how the run was made.
        folder: where its file is written. None: nowhere.
    """
    report = found.report
    assert report.failure is not None
    if report.failure.rule not in (FAULT_FREE_RUN, PROCESS_ENDED, REPRODUCIBLE):
        request = ShrinkSeed(report.function, report.seed, setting, report.failure)
        try:
            async for reply in child.ask(request):
                if isinstance(reply, SeedShrunk):
                    found.small = reply
        except ChildEnded:
            # A smaller run has ended the process: another failure. This one stays as it is.
            found.small = None
    shown = found.shown
    assert shown.failure is not None
    whole = setting if found.small is None else found.small.setting
    if report.failure.rule not in (PROCESS_ENDED, REPRODUCIBLE):
        async with Child() as fresh:
            again = await run_in_process(fresh, report.function, report.seed, whole)
        is_same = shown.failure.is_same(again.failure) and again.trace_digest == shown.trace_digest
        found.repeats = Repetition.YES if is_same else Repetition.NO
    if folder is not None and report.failure.rule != REPRODUCIBLE:
        file = ReplayFile.make(report.function, report.seed, whole, shown.failure, shown.digest)
        found.file = str(file.write(folder))
