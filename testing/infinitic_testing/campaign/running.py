"""Runs a function under one seed, and tells what became of it."""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from typing import Any

from msgspec.structs import replace

from infinitic_testing.campaign.functions import SimFunction
from infinitic_testing.campaign.outcomes import digest_outcome, show_both, show_start
from infinitic_testing.campaign.post_mortem import describe_end
from infinitic_testing.campaign.seed_report import FAULT_FREE_RUN, SAME_OUTCOME, SeedFailure, SeedReport
from infinitic_testing.campaign.setting import Setting
from infinitic_testing.cluster.cluster import Cluster
from infinitic_testing.loop import VirtualLoop
from infinitic_testing.loop.garbage import collect_earlier_runs
from infinitic_testing.simulation import Simulation
from infinitic_testing.tracebacks import is_user_frame


class PlainRun:
    """The run of a function without any fault. Its outcome is what every seed must give.

    Args:
        function: what runs.
    """

    def __init__(self, function: SimFunction) -> None:
        # Without choices: also what the function itself draws is plain.
        run = _FunctionRun(function, Simulation(only=()))
        self.outcome = run.outcome
        self.failure: SeedFailure | None = None
        if run.failure is not None:
            message = f"The function fails without any fault: {run.failure.message}"
            self.failure = replace(run.failure, rule=FAULT_FREE_RUN, message=message)


_plain_runs: dict[SimFunction, PlainRun] = {}


def find_plain_run(function: SimFunction) -> PlainRun:
    """Run a function without faults, if this process has not done so before."""
    found = _plain_runs.get(function)
    if found is None:
        found = _plain_runs[function] = PlainRun(function)
    return found


def make_simulation(seed: int, setting: Setting) -> Simulation:
    """Make the simulation of a run."""
    return Simulation(
        seed=seed,
        faults=setting.faults,
        profile=setting.profile,
        cache_size=setting.cache_size,
        codec=setting.make_codec(),
        only=setting.only,
        local=setting.local,
    )


def run_seed(
    function: SimFunction,
    seed: int,
    setting: Setting | None = None,
    *,
    name: str = "",
) -> SeedReport:
    """Run a function under one seed. Nothing that it raises comes out: it is in the report.

    If the function returns something, it must be equal to what the run without faults returns.

    Args:
        function: an async function that takes a simulation.
        seed: decides every choice of the run.
        setting: how the run is made. None: with all faults.
        name: the full name of the function, as `find_functions` gives it.

    Raises:
        UsageError: the setting is wrong, or an event loop already runs in this thread.
    """
    setting = Setting() if setting is None else setting
    setting.check()
    name = name or f"{function.__module__}:{function.__qualname__}"
    collect_earlier_runs()
    plain = find_plain_run(function)
    if plain.failure is not None:
        return SeedReport(name, seed, plain.failure)
    run = _FunctionRun(function, make_simulation(seed, setting))
    failure = run.failure
    evaluated = Counter(run.sim.system.invariants.evaluated) if isinstance(run.sim.system, Cluster) else Counter[str]()
    if failure is None and plain.outcome is not None:
        evaluated[SAME_OUTCOME] += 1
    if failure is None and plain.outcome is not None and run.outcome != plain.outcome:
        failure = SeedFailure(
            "OutcomeDiffers",
            SAME_OUTCOME,
            f"The outcome differs from that of the run without faults.\n{show_both(plain.outcome, run.outcome)}",
            details=tuple(describe_end(run.sim, AssertionError())),
        )
    sim = run.sim
    return SeedReport(
        name,
        seed,
        failure,
        outcome=show_start(run.outcome),
        outcome_digest=digest_outcome(run.outcome, sim.system.database),
        trace_digest=run.trace_digest,
        trace_marks=run.trace_marks,
        virtual_seconds=run.virtual_seconds,
        fired=dict(sim.plan.fired),
        evaluated=dict(evaluated),
        profile=sim.options["profile"],
        taken=() if failure is None else tuple(sim.choices.taken),
    )


class _FunctionRun:
    """One run of a function, which may have failed.

    Attributes:
        sim: its simulation, which is closed.
        outcome: what the function returned. None, if it failed.
        failure: why it failed. None: it did not.
        trace_digest: of all steps of the loop; empty for a run without choices.
        trace_marks: times, and the digest until then.
        virtual_seconds: how much virtual time passed.
    """

    def __init__(self, function: SimFunction, sim: Simulation) -> None:
        self.sim = sim
        self.outcome: object = None
        self.failure: SeedFailure | None = None
        self.trace_digest = ""
        self.trace_marks: tuple[tuple[float, str], ...] = ()
        self.virtual_seconds = 0.0
        try:
            self.outcome = Simulation.run(self._play(function))
        except Exception as error:  # noqa: BLE001 (whatever the user's code raises belongs into a report)
            self.failure = describe_failure(error, sim)

    async def _play(self, function: SimFunction) -> object:
        loop = asyncio.get_running_loop()
        try:
            async with self.sim:
                return await function(self.sim)
        finally:
            self.virtual_seconds = loop.time()
            if isinstance(loop, VirtualLoop) and loop.has_trace:
                self.trace_digest = loop.trace_digest()
                self.trace_marks = tuple(loop.trace_marks())


def describe_failure(error: BaseException, sim: Simulation) -> SeedFailure:
    """Describe what a run raised.

    Args:
        error: what it raised.
        sim: the simulation of the run, which is closed.
    """
    rule: Any = getattr(error, "rule", "")
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if is_user_frame(frame):
            place = f"{frame.f_code.co_filename}:{line}"
    return SeedFailure(
        type(error).__name__,
        rule if isinstance(rule, str) else "",
        str(error),
        place,
        tuple(describe_end(sim, error)),
    )
