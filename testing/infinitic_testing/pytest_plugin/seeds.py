"""Runs one test under many seeds, inside one item of pytest.

Each run has a fresh simulation, and fresh values of the fixtures that use `sim`. The first run has
no faults: a test that fails in it is reported like any other. If the test returns something, all
runs must return the same. The first seed that fails ends the test. Its run is made small then: see
`infinitic_testing.campaign.shrinking`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from infinitic_testing.campaign.found_failure import FoundFailure, Repetition
from infinitic_testing.campaign.outcomes import digest_outcome, show_both, show_start
from infinitic_testing.campaign.running import describe_failure
from infinitic_testing.campaign.seed_report import SAME_OUTCOME, SeedFailure, SeedReport
from infinitic_testing.campaign.setting import Setting
from infinitic_testing.campaign.smaller import shrink_seed
from infinitic_testing.faults.catalog import Faults
from infinitic_testing.invariants.violation import InvariantViolated
from infinitic_testing.pytest_plugin.item_state import ItemState
from infinitic_testing.pytest_plugin.runs import RunOptions
from infinitic_testing.pytest_plugin.tracing import write_run
from infinitic_testing.pytest_plugin.workflows_view import describe_workflows
from infinitic_testing.runner import Runner
from infinitic_testing.simulation import Simulation

MOST_SECONDS = 60.0
"""How long a failing run is made small, in real seconds."""

NO_SEEDS = (
    "The fixture `sim` of this test makes a simulation of its own, which has not the seed of the run. "
    "Take the `sim` of the plugin, or remove the seeds"
)
"""Why a test cannot run under seeds."""

FAILURES = (Exception, asyncio.CancelledError, pytest.fail.Exception)
"""What a test may fail with. Others end the session, or skip the test."""


class SeedFound(msgspec.Struct, frozen=True):
    """A seed under which a test fails.

    Attributes:
        error: what the run raised that is shown. Its traceback has the line of the user.
        failure: all that is known of the failure.
        setting: how the runs of the test are made.
    """

    error: BaseException
    failure: FoundFailure
    setting: Setting


class _DoneRun(msgspec.Struct):
    """What became of one run. `error` is None if it passed."""

    report: SeedReport
    error: BaseException | None
    outcome: object
    simulation: Simulation | None


class SeededTest:
    """One test that runs under seeds.

    Attributes:
        seeds: how many seeds it has run under.
        fired: how often each fault happened in these runs.

    Args:
        state: the test. Its fixtures are set up for its first run.
        function: its coroutine function.
        on_plain: called with the simulation of the run without faults, when it has passed.
    """

    def __init__(
        self, state: ItemState, function: Callable[..., Any], *, on_plain: Callable[[Simulation], object]
    ) -> None:
        self._state = state
        self._item = cast(pytest.Function, state.item)
        self._fixtures = state.fixtures
        self._function = function
        self._on_plain = on_plain
        self._is_set_up = True
        self._is_plain_done = False
        # What the run without faults has returned.
        self._expected: object = None
        self.seeds = 0
        self.fired = Counter[str]()
        options = state.options
        faults = str(Faults.parse(options.faults))
        self._setting = Setting(faults, options.profile, options.cache_size, None, options.only)

    def run(self, names: Collection[str]) -> SeedFound | None:
        """Run the test under all its seeds, or until one fails.

        Args:
            names: of the fixtures that it takes.

        Returns:
            The seed under which it fails; None if it passes.

        Raises:
            Exception: what the test raises without any fault.
        """
        for run in self._list_runs():
            done = self._play(run, names)
            if run.seed is None:
                self._note_plain(done)
                continue
            if done.error is None and done.outcome is not None and not self._is_plain_done:
                # Exactly one seed is asked for. What it must return, the run without faults says.
                self._note_plain(self._play(RunOptions(None), names))
            done = self._compare(done)
            self._trace(done, "")
            self.seeds += 1
            self.fired.update(done.report.fired)
            if done.error is not None:
                return self._explain(run, done, names)
        return None

    def _note_plain(self, done: _DoneRun) -> None:
        """Note what the run without faults has returned, or raise its error."""
        self._trace(done, "without faults")
        if done.error is not None:
            text = f"{self._item.name} fails without any fault, whatever the seed is"
            self._state.sections.insert(0, ("infinitic", text))
            raise done.error
        self._is_plain_done = True
        self._expected = done.outcome

    def _compare(self, done: _DoneRun) -> _DoneRun:
        """Let a run fail that does not return what the run without faults returns."""
        expected = self._expected
        if done.error is not None or expected is None or done.outcome == expected:
            return done
        error = InvariantViolated(
            SAME_OUTCOME,
            f"The test does not return what it returns without faults.\n{show_both(expected, done.outcome)}",
        )
        report = replace(done.report, failure=SeedFailure(type(error).__name__, SAME_OUTCOME, str(error)))
        return _DoneRun(report, error, done.outcome, done.simulation)

    def _trace(self, done: _DoneRun, what: str) -> None:
        if done.simulation is not None:
            write_run(self._item, what, done.simulation, done.error)

    def _list_runs(self) -> Iterator[RunOptions]:
        assert self._state.run is not None
        yield self._state.run
        yield from self._state.later_runs

    def _play(self, run: RunOptions, names: Collection[str]) -> _DoneRun:
        """Run the test once, with its fixtures before and after."""
        ending = _RunEnd()
        _forget_log()
        try:
            self._run_once(run, names, ending)
        except FAILURES as error:
            ending.error = error
            self._state.sections.clear()
            if ending.simulation is not None:
                show_workflows(self._state, ending.simulation, error)
            for step in (self._fixtures.tear_down, ending.close):
                try:
                    step()
                except FAILURES as another:
                    if another is not error:
                        error.add_note(f"While the run was cleaned up: {type(another).__name__}: {another}")
        return _DoneRun(self._make_report(run, ending), ending.error, ending.outcome, ending.simulation)

    def _make_report(self, run: RunOptions, ending: _RunEnd) -> SeedReport:
        sim, runner, seed = ending.simulation, ending.runner, run.seed or 0
        if sim is None or runner is None:
            # The fixtures could not be set up.
            assert ending.error is not None
            failure = SeedFailure(type(ending.error).__name__, message=str(ending.error))
            return SeedReport(self._item.nodeid, seed, failure)
        return SeedReport(
            self._item.nodeid,
            seed,
            None if ending.error is None else describe_failure(ending.error, sim),
            outcome=show_start(ending.outcome),
            outcome_digest=digest_outcome(ending.outcome, sim.system.database),
            trace_digest=runner.trace_digest,
            virtual_seconds=runner.virtual_seconds,
            fired=dict(sim.plan.fired),
            profile=sim.options["profile"],
            taken=tuple(sim.choices.taken),
        )

    def _run_once(self, run: RunOptions, names: Collection[str], ending: _RunEnd) -> None:
        if not self._is_set_up:
            self._state.run = run
            self._fixtures.set_up_again()
        self._is_set_up = False
        simulation: Any = self._item.funcargs["sim"]
        if run.seed is not None and simulation.options["seed"] != run.seed:
            pytest.fail(NO_SEEDS, pytrace=False)
        ending.simulation = simulation
        ending.runner = self._state.find_runner(simulation)
        result = self._function(**{name: self._item.funcargs[name] for name in names})
        if inspect.isawaitable(result):
            whole: Any = _play_test(result, ending)
            # Errors show the name of the test.
            whole.__qualname__ = getattr(self._function, "__qualname__", whole.__qualname__)
            ending.runner.run(whole)
        self._fixtures.tear_down()
        ending.close()
        if run.seed is None:
            self._on_plain(simulation)

    def _explain(self, run: RunOptions, failed: _DoneRun, names: Collection[str]) -> SeedFound:
        """Run a failing seed again and again, each time with fewer choices, until it is small."""
        found = FoundFailure(failed.report)
        best = failed
        failure = failed.report.failure
        assert failure is not None

        def run_again(setting: Setting) -> SeedReport:
            nonlocal best
            done = self._compare(self._play(RunOptions(run.seed, setting.only), names))
            if failure.is_same(done.report.failure):
                best = done
            return done.report

        small = shrink_seed(run_again, self._setting, failure, most_seconds=MOST_SECONDS)
        found.repeats = Repetition.NO if small is None else Repetition.YES
        if small is not None:
            # Once more, since pytest shows the log of the last run.
            run_again(small.setting)
            self._trace(best, "made small")
            found.small = replace(small, report=best.report, runs=small.runs + 1)
        assert best.error is not None
        return SeedFound(best.error, found, self._setting)


class _RunEnd:
    """What is known when a run has ended."""

    def __init__(self) -> None:
        self.simulation: Simulation | None = None
        self.runner: Runner | None = None
        self.error: BaseException | None = None
        self.outcome: object = None

    def close(self) -> None:
        if self.runner is not None:
            self.runner.close()


async def _play_test(test: Awaitable[object], ending: _RunEnd) -> None:
    ending.outcome = await test


def show_workflows(state: ItemState, simulation: Simulation, error: BaseException) -> None:
    """Have pytest show what the workflows of a failed test did."""
    lines = describe_workflows(simulation, error)
    if lines:
        state.sections.append(("infinitic: workflows of this test", "\n".join(lines)))


def _forget_log() -> None:
    """Empty what pytest has captured of the log: only that of a failing run is of interest."""
    for handler in logging.getLogger().handlers:
        if type(handler).__module__ == "_pytest.logging":
            # One of pytest. `caplog` uses this method, too.
            clear: Any = getattr(handler, "clear", None)
            if clear is not None:
                clear()
