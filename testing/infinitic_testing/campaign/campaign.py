"""Runs functions under many seeds, in processes of their own, and gathers what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from infinitic_testing.campaign.coverage import Coverage
from infinitic_testing.campaign.explaining_failures import describe_process_end, explain_failure, run_in_process
from infinitic_testing.campaign.found_failure import FoundFailure
from infinitic_testing.campaign.messages import RunSeeds, SeedBegan, SeedEnded
from infinitic_testing.campaign.order import CampaignOrder
from infinitic_testing.campaign.processes import Child, ChildEnded
from infinitic_testing.campaign.seed_report import FAULT_FREE_RUN, REPRODUCIBLE, SeedFailure, SeedReport

SEEDS_AT_ONCE = 10
"""How many seeds of one function a process is asked for at once."""

ONE_IN = 20
"""One run in so many is made once more, in another process. One in so many is watched."""

MOST_EXPLAINED = 10
"""How many kinds of failures are made small. Further kinds are only listed."""

MOST_ALIKE = 2
"""How many of them may have the same error and rule, in different functions."""

JUNK = 60_000
"""How many objects the process allocates first that makes runs once more."""


class Chunk(msgspec.Struct, frozen=True):
    """Some seeds of one function.

    Attributes:
        number: its place in the campaign, from 0.
        function: the full name of the function.
        seeds: the seeds.
    """

    number: int
    function: str
    seeds: tuple[int, ...]


class CampaignState(msgspec.Struct):
    """What a campaign has done so far. It can be written to a file, to go on later.

    Attributes:
        coverage: what was reached.
        failures: the kinds of failures that were found.
        done: the numbers of the chunks that are done.
        seconds: of real time, that the campaign took.
    """

    coverage: Coverage = msgspec.field(default_factory=Coverage)
    failures: list[FoundFailure] = []
    done: set[int] = set()
    seconds: float = 0.0


class Campaign:
    """Runs functions under many seeds. The functions take turns, seed by seed.

    Attributes:
        state: what was done so far, also after an interruption.

    Args:
        order: what is to be run.
        jobs: how many processes run seeds. One more repeats some of them.
        folder: where files of failing runs are written. None: nowhere.
        state: what an earlier campaign has done, to go on with.
        on_progress: called after each run.
        on_chunk: called when the state can be written: no run is half counted.
        seed_seconds: how long a run may take, in seconds of CPU time.
    """

    def __init__(
        self,
        order: CampaignOrder,
        *,
        jobs: int = 1,
        folder: Path | None = None,
        state: CampaignState | None = None,
        on_progress: Callable[[], object] = lambda: None,
        on_chunk: Callable[[], object] = lambda: None,
        seed_seconds: float = 120.0,
    ) -> None:
        self.state = CampaignState() if state is None else state
        self._order = order
        self._jobs = jobs
        self._folder = folder
        self._on_progress = on_progress
        self._on_chunk = on_chunk
        self._seed_seconds = seed_seconds
        self._chunks = self.list_chunks()
        # Functions that fail without any fault. Their other seeds say nothing.
        self._broken: set[str] = set()
        self._repeats: asyncio.Queue[SeedReport | None] = asyncio.Queue()

    async def run(self) -> CampaignState:
        """Run all that is not done yet.

        Raises:
            UsageError: a function cannot be imported, or the setting is wrong.
        """
        repeating = asyncio.create_task(self._repeat_runs())
        working = [asyncio.create_task(self._run_chunks()) for _ in range(self._jobs)]
        try:
            await asyncio.gather(*working)
            self._repeats.put_nowait(None)
            await repeating
        finally:
            for task in (*working, repeating):
                # A second time, it would interrupt the end of a process.
                if not task.cancelling():
                    task.cancel()
            await asyncio.gather(*working, repeating, return_exceptions=True)
        return self.state

    def list_chunks(self) -> Iterator[Chunk]:
        """List what is to be run: for each function in turn, its next few seeds."""
        order = self._order
        count = len(order.functions)
        number = 0
        for start in range(0, order.seeds, count * SEEDS_AT_ONCE):
            for index, function in enumerate(order.functions):
                runs = range(start + index, min(order.seeds, start + count * SEEDS_AT_ONCE), count)
                if runs:
                    yield Chunk(number, function, tuple(order.first + run for run in runs))
                number += 1

    async def _run_chunks(self) -> None:
        async with Child(seed_seconds=self._seed_seconds, watch_one_in=ONE_IN) as child:
            for chunk in self._chunks:
                if chunk.number in self.state.done or chunk.function in self._broken:
                    continue
                new: list[FoundFailure] = []
                async for report in self._run_chunk(child, chunk):
                    new += self._take(report)
                # Not before: the process answers one request after the other.
                for found in new:
                    await self._explain(child, found)
                self.state.done.add(chunk.number)
                self._on_chunk()

    async def _run_chunk(self, child: Child, chunk: Chunk) -> AsyncGenerator[SeedReport]:
        """Run the seeds of a chunk. If one of them ends the process, go on with the next one."""
        left = list(chunk.seeds)
        while left:
            try:
                async for reply in child.ask(RunSeeds(chunk.function, tuple(left), self._order.setting)):
                    match reply:
                        case SeedBegan(seed):
                            left = left[left.index(seed) :]
                        case SeedEnded(report):
                            left.remove(report.seed)
                            yield report
                        case _:
                            pass
            except ChildEnded as ended:
                yield SeedReport(chunk.function, left.pop(0), describe_process_end(ended))

    def _take(self, report: SeedReport) -> list[FoundFailure]:
        """Count a run. If it failed in a new way, return this kind of failure."""
        new: list[FoundFailure] = []
        coverage = self.state.coverage
        coverage.add(report)
        if report.failure is not None:
            if report.failure.rule == FAULT_FREE_RUN:
                self._broken.add(report.function)
            new = self._note_failure(report)
        elif coverage.runs % ONE_IN == 1:
            self._repeats.put_nowait(report)
        self._on_progress()
        return new

    def _note_failure(self, report: SeedReport) -> list[FoundFailure]:
        for found in self.state.failures:
            if found.covers(report):
                found.times += 1
                return []
        found = FoundFailure(report)
        self.state.failures.append(found)
        return [found]

    async def _explain(self, child: Child, found: FoundFailure) -> None:
        alike = [each for each in self.state.failures if each.is_alike(found.report)]
        if len(self.state.failures) <= MOST_EXPLAINED and len(alike) <= MOST_ALIKE:
            await explain_failure(child, found, self._order.setting, self._folder)

    async def _repeat_runs(self) -> None:
        """Make some runs once more, in a process with another heap and another hash seed."""
        async with (
            Child(hash_seed=1, junk=JUNK, seed_seconds=self._seed_seconds, watch_one_in=1) as other,
            Child(junk=JUNK // 2, seed_seconds=self._seed_seconds) as third,
        ):
            while (report := await self._repeats.get()) is not None:
                again = await run_in_process(other, report.function, report.seed, self._order.setting)
                self.state.coverage.repeated += 1
                self.state.coverage.branches |= again.branches
                if is_same_run(report, again):
                    continue
                without = await run_in_process(third, report.function, report.seed, self._order.setting)
                failure = explain_difference(report, again, is_same_run(report, without))
                self.state.coverage.failed += 1
                for found in self._note_failure(replace(report, failure=failure)):
                    await self._explain(other, found)


def is_same_run(one: SeedReport, other: SeedReport) -> bool:
    """True if two runs of one seed did the same.

    A plain simulation has no trace: its outcome is compared.
    """
    if not one.trace_digest:
        return (one.outcome, one.failure) == (other.outcome, other.failure)
    return (one.trace_digest, one.outcome_digest) == (other.trace_digest, other.outcome_digest)


def find_first_difference(one: SeedReport, other: SeedReport) -> str:
    """Say between which virtual times two runs of one seed begin to differ."""
    same = 0.0
    for (at, digest), (other_at, other_digest) in zip(one.trace_marks, other.trace_marks, strict=False):
        if (at, digest) != (other_at, other_digest):
            return f"from a time between {same:.6g} s and {max(at, other_at):.6g} s"
        same = at
    return f"after {same:.6g} s"


def explain_difference(one: SeedReport, other: SeedReport, depends_on_hash_seed: bool) -> SeedFailure:
    """Say in which way two runs of one seed differ.

    Args:
        one: the run.
        other: the same run in another process.
        depends_on_hash_seed: True if it is the same again in a third process, with the hash seed of
            the first one.
    """
    what = "steps and its outcome"
    if one.trace_digest == other.trace_digest:
        what = "outcome"
    elif one.outcome_digest == other.outcome_digest:
        what = "steps"
    message = f"The same seed does not do the same in another process: its {what} differ."
    if one.trace_digest != other.trace_digest:
        message += f" The steps differ {find_first_difference(one, other)}."
    if other.failure is not None:
        message += f" There it fails: {other.failure.error}: {other.failure.message}"
    if depends_on_hash_seed:
        message += (
            " It depends on PYTHONHASHSEED: something goes over a set of texts, whose order differs "
            "from process to process. `infinitic worker` sets the same hash seed in all workers"
        )
    else:
        message += " Something in it comes from outside: the clock, a random number, an address in memory"
    return SeedFailure(
        "RunDiffers",
        REPRODUCIBLE,
        message,
        details=(
            f"here:      trace {one.trace_digest}, outcome {one.outcome_digest} {one.outcome}",
            f"elsewhere: trace {other.trace_digest}, outcome {other.outcome_digest} {other.outcome}",
        ),
    )
