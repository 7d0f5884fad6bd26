"""Runs a campaign, shows how far it is, and notes in a file what is done."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infinitic.cli.output import format_count
from infinitic_testing.campaign.campaign import Campaign, CampaignState
from infinitic_testing.campaign.conclusion import Conclusion, conclude_campaign
from infinitic_testing.campaign.order import CampaignOrder
from infinitic_testing.campaign.record_file import RecordFile

SECONDS_BETWEEN_LINES = 15.0
"""Where there is no terminal, a line says how far it is from time to time."""

SECONDS_BETWEEN_WRITES = 2.0
"""How often the file with what is done is written, at most."""


def run_campaign(order: CampaignOrder, jobs: int, output: Path, resume: Path | None) -> Conclusion:
    """Run a campaign. Ctrl-C ends it at once, and it is concluded with what it has done.

    Args:
        order: what is to be run.
        jobs: how many processes run seeds.
        output: the folder for files of failing runs.
        resume: the file with what is done. None: there is none.

    Raises:
        UsageError: a file cannot be read or written, or a function cannot be imported.
    """
    record = None if resume is None else RecordFile(resume, order)
    if record is not None and record.is_outdated:
        typer.echo(f"{resume} is of other code, or of another command: starting anew.", err=True)
    state = CampaignState() if record is None else record.state
    interrupted = False
    display = Display(order.seeds, state)
    writer = Writer(record)
    try:
        with display.progress:
            campaign = Campaign(
                order, jobs=jobs, folder=output, state=state, on_progress=display.show, on_chunk=writer.write_sometimes
            )
            interrupted = asyncio.run(_run_until_interrupted(campaign))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        display.note_seconds()
        writer.write()
    return conclude_campaign(state, order, interrupted=interrupted)


async def _run_until_interrupted(campaign: Campaign) -> bool:
    """Run a campaign, and return true if Ctrl-C has ended it. A second Ctrl-C changes nothing."""
    task = asyncio.current_task()
    assert task is not None
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            task.cancel()

    loop = asyncio.get_running_loop()
    # Without handlers for signals, as on Windows, `asyncio.run` raises KeyboardInterrupt.
    with suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        await campaign.run()
    except asyncio.CancelledError:
        if not interrupted:
            raise
    return interrupted


class Display:
    """Shows how far a campaign is, on the standard error.

    Attributes:
        progress: the bar of a terminal. Elsewhere it shows nothing.

    Args:
        seeds: how many runs there will be.
        state: what is done.
    """

    def __init__(self, seeds: int, state: CampaignState) -> None:
        self._seeds = seeds
        self._state = state
        self._before = state.seconds
        self._runs_before = state.coverage.runs
        self._began = self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._has_terminal = console.is_terminal
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[failed]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self._has_terminal,
        )
        self._bar = self.progress.add_task(
            "seeds", total=seeds, completed=state.coverage.runs, rate="", failed=self._describe_failures()
        )

    def show(self) -> None:
        """Show the state of now."""
        self.note_seconds()
        coverage = self._state.coverage
        now = time.monotonic()
        rate = f"{(coverage.runs - self._runs_before) / max(now - self._began, 0.001):,.1f} seeds/s"
        failed = self._describe_failures()
        self.progress.update(self._bar, completed=coverage.runs, rate=rate, failed=failed)
        if not self._has_terminal and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            typer.echo(f"{coverage.runs:,} of {self._seeds:,} seeds, {rate}, {failed or 'no failure'}", err=True)

    def note_seconds(self) -> None:
        """Note how long the campaign has taken, with the time before an interruption."""
        self._state.seconds = self._before + time.monotonic() - self._began

    def _describe_failures(self) -> str:
        failed = self._state.coverage.failed
        return format_count(failed, "failure") if failed else ""


class Writer:
    """Writes what a campaign has done.

    Args:
        record: the file. None: nothing is written.
    """

    def __init__(self, record: RecordFile | None) -> None:
        self._record = record
        self._written = time.monotonic()

    def write(self) -> None:
        """Write it now."""
        if self._record is not None:
            self._record.write()
            self._written = time.monotonic()

    def write_sometimes(self) -> None:
        """Write it, if it was not written a moment ago."""
        if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
            self.write()
