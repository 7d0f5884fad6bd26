"""Runs a failing run again, from its file."""

from __future__ import annotations

import asyncio

import msgspec
from rich.console import RenderableType

from infinitic.cli.output import BAD_STYLE, make_line
from infinitic_testing.campaign.explaining_failures import run_in_process
from infinitic_testing.campaign.failure_text import describe_seed
from infinitic_testing.campaign.processes import Child
from infinitic_testing.campaign.replay_file import ReplayFile
from infinitic_testing.campaign.seed_report import SeedReport
from infinitic_testing.release import find_release


class ReplayOutcome(msgspec.Struct):
    """What became of a run that was run again.

    Attributes:
        notes: what to know first: whether it fails as the file says.
        report: of the run of now.
        file: what the file says.
    """

    notes: list[str]
    report: SeedReport
    file: ReplayFile

    def render(self) -> list[RenderableType]:
        """Render it for people."""
        lines = [] if self.report.failure is None else describe_seed(self.report, self.file.full_setting)
        style = "green" if self.report.failure is None else BAD_STYLE
        return [*(make_line(note, style) for note in self.notes), *map(make_line, lines)]


def replay_run(file: ReplayFile) -> ReplayOutcome:
    """Run it again, in a process of its own.

    Raises:
        UsageError: its function cannot be found here.
    """
    return asyncio.run(_replay(file))


async def _replay(file: ReplayFile) -> ReplayOutcome:
    file.setting.check()
    async with Child() as child:
        report = await run_in_process(child, file.function, file.seed, file.full_setting)
    notes: list[str] = []
    if file.infinitic != (here := find_release()):
        notes.append(f"The file is of infinitic {file.infinitic}, and this is {here}: the run may be another one")
    expected = f"{file.failure.error}{file.failure.rule and f' ({file.failure.rule})'}"
    if report.failure is None:
        notes.append(f"The run does not fail any more. It failed with {expected}")
    elif not file.failure.is_same(report.failure):
        notes.append(f"The run fails, but in another way. It failed with {expected}")
    elif report.trace_digest and report.digest != file.digest:
        notes.append("The run fails as the file says, but its steps are others than then: the code has changed")
    else:
        notes.append("The run fails as the file says, step by step")
    return ReplayOutcome(notes, report, file)
