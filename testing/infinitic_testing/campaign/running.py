"""Runs a function under one seed, and tells what became of it."""

from __future__ import annotations

import asyncio
import pprint
import re
import traceback
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from infinitic.storage import Query, StateStorage
from infinitic_testing.campaign.functions import SimFunction
from infinitic_testing.campaign.seed_report import FAULT_FREE_RUN, SAME_OUTCOME, SeedFailure, SeedReport
from infinitic_testing.campaign.setting import Setting
from infinitic_testing.simulation import Simulation
from infinitic_testing.tracebacks import is_user_frame

_MOST_SHOWN = 2_000
"""Characters of an outcome in a report."""


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class PlainRun:
    """The run of a function without any fault. Its outcome is what every seed must give.

    Args:
        function: what runs.
    """

    def __init__(self, function: SimFunction) -> None:
        self.outcome: object = None
        self.failure: SeedFailure | None = None
        try:
            # Without choices: also what the function itself draws is plain.
            self.outcome = Simulation.run(_play(function, Simulation(only=()), _Ending()))
        except Exception as error:  # noqa: BLE001 (whatever the user's code raises belongs into a report)
            described = describe_failure(error)
            self.failure = SeedFailure(
                described.error,
                FAULT_FREE_RUN,
                f"The function fails without any fault: {described.message}",
                described.place,
                described.details,
            )


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
    )


def run_seed(
    function: SimFunction,
    seed: int,
    setting: Setting | None = None,
    *,
    name: str = "",
    make: Callable[[int, Setting], Simulation] = make_simulation,
) -> SeedReport:
    """Run a function under one seed. Nothing that it raises comes out: it is in the report.

    If the function returns something, it must be equal to what the run without faults returns.

    Args:
        function: an async function that takes a simulation.
        seed: decides every choice of the run.
        setting: how the run is made. None: with all faults.
        name: the full name of the function, as `find_functions` gives it.
        make: makes the simulation of the run.

    Raises:
        UsageError: the setting is wrong, or an event loop already runs in this thread.
    """
    setting = Setting() if setting is None else setting
    setting.check()
    name = name or f"{function.__module__}:{function.__qualname__}"
    plain = find_plain_run(function)
    if plain.failure is not None:
        return SeedReport(name, seed, plain.failure)
    sim = make(seed, setting)
    ending = _Ending()
    outcome: object = None
    failure: SeedFailure | None = None
    try:
        outcome = Simulation.run(_play(function, sim, ending))
    except Exception as error:  # noqa: BLE001 (as above)
        failure = describe_failure(error)
    if failure is None and plain.outcome is not None and outcome != plain.outcome:
        failure = SeedFailure(
            "OutcomeDiffers",
            SAME_OUTCOME,
            "The outcome differs from that of the run without faults.\n"
            f"  without faults: {_shorten(show_outcome(plain.outcome))}\n"
            f"  with faults:    {_shorten(show_outcome(outcome))}",
        )
    return SeedReport(
        name,
        seed,
        failure,
        outcome=_shorten(show_outcome(outcome)),
        outcome_digest=ending.outcome_digest,
        virtual_seconds=ending.virtual_seconds,
        fired=dict(sim.plan.fired),
        profile=sim.options["profile"],
        taken=() if failure is None else tuple(sim.choices.taken),
    )


class _Ending:
    """What is known at the end of a run, however it ends."""

    virtual_seconds = 0.0
    outcome_digest = ""


async def _play(function: SimFunction, sim: Simulation, ending: _Ending) -> object:
    loop = asyncio.get_running_loop()
    try:
        async with sim:
            outcome = await function(sim)
            ending.outcome_digest = await digest_outcome(outcome, sim.storage.states)
            return outcome
    finally:
        ending.virtual_seconds = loop.time()


async def digest_outcome(outcome: object, states: StateStorage) -> str:
    """Make a digest of an outcome, and of all heads and histories that are stored."""
    digest = blake2b(show_outcome(outcome).encode(errors="backslashreplace"), digest_size=16)
    cursor: str | None = None
    while True:
        page = await states.find(Query(limit=500, cursor=cursor))
        stored = await states.load([found.key for found in page.found])
        for key, each in stored.items():
            digest.update(f"\0{key.name}\0{key.id}\0{each.version}\0".encode())
            digest.update(each.head)
            for segment in await states.history(key, limit=1_000_000):
                digest.update(segment.events)
        cursor = page.cursor
        if cursor is None:
            return digest.hexdigest()


def describe_failure(error: BaseException) -> SeedFailure:
    """Describe what a run raised."""
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
        tuple(getattr(error, "__notes__", ())),
    )


def show_outcome(outcome: object) -> str:
    """Show an outcome as text that is the same in every process: without addresses, sets sorted."""
    lines = pprint.pformat(outcome, width=1, sort_dicts=False).splitlines()
    return _ADDRESS.sub("", " ".join(line.strip() for line in lines))


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
