"""Looks for planted bugs: runs scenarios in turn, each under another seed, until one run fails."""

from __future__ import annotations

import logging
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from types import FrameType

import msgspec

from infinitic_testing.campaign import Setting, run_seed
from infinitic_testing.campaign.running import find_plain_run
from infinitic_testing.faults.profiles import ONE_DATABASE
from tests.simulation.planted import list_bugs
from tests.simulation.planted.areas import choose_scenario
from tests.simulation.planted.planting import Bug
from tests.simulation.scenarios import list_scenarios

MOST_SEEDS = 200
"""How many seeds a bug may take."""

SETTING = Setting(faults="all")

SETTINGS = {"one commit": Setting(faults="all", profile=ONE_DATABASE)}
"""For the places of bugs that are not in every run: those in which they are."""

LONGEST_SECONDS = 6.0
"""Seconds of CPU that a run may take. Some bugs make runs that never end."""

NO_END = "the run ends"
"""The rule that such a run breaks."""

FILE = Path(__file__).with_name("found.json")
"""What hunts have found. Only a hunt writes it."""


class Find(msgspec.Struct, frozen=True):
    """A run that has found a bug.

    Attributes:
        seeds: how many runs it took. The last one has this number as its seed.
        scenario: what ran then.
        rule: what failed: the name of an invariant, or the class of the error.
        seconds: of CPU that the last run took.
    """

    seeds: int
    scenario: str
    rule: str
    seconds: float


def run_one(bug: Bug, scenario: str, seed: int) -> str:
    """Run a scenario under a seed, and return the rule that is broken; empty: none is.

    Args:
        bug: which one is looked for. It need not be planted.
        scenario: the name of the scenario.
        seed: of the run.
    """
    function = list_scenarios()[scenario]
    with _limited():
        try:
            failure = run_seed(function, seed, SETTINGS.get(bug.place, SETTING)).failure
        except _TooLong:
            return NO_END
    return "" if failure is None else failure.rule or failure.error


def hunt(bug: Bug, *, first: Find | None = None, most: int = MOST_SEEDS, must_pass: bool = False) -> Find | None:
    """Look for a bug, from seed 1 on.

    Args:
        bug: is planted for each run.
        first: a run that is tried before all others; None: there is no such run.
        most: how many seeds are tried.
        must_pass: True: a run that fails with the bug must pass without it.

    Returns:
        The run that has found it; None: it was not found.

    Raises:
        AssertionError: a run fails without any bug, too.
    """
    tries = [(seed, choose_scenario(bug, seed)) for seed in range(1, most + 1)]
    if first is not None:
        tries.insert(0, (first.seeds, first.scenario))
    for seed, scenario in tries:
        prepare(scenario)
        began = process_time()
        with bug.planted():
            rule = run_one(bug, scenario, seed)
        seconds = round(process_time() - began, 1)
        # A run that fails without the bug, too, says nothing about the bug.
        if rule:
            broken = run_one(bug, scenario, seed)
            if not broken:
                return Find(seed, scenario, rule, seconds)
            assert not must_pass, f"{scenario} fails under seed {seed} without any bug, too: {broken}"
    return None


def hunt_by_name(name: str, most: int) -> tuple[str, Find | None, float]:
    """Look for the bug of a name. Returns the name, what was found, and the seconds that it took.

    Args:
        name: of the bug.
        most: how many seeds are tried.
    """
    began = perf_counter()
    return name, hunt(list_bugs()[name], most=most), perf_counter() - began


def prepare(scenario: str) -> None:
    """Run a scenario without bugs and faults, to know its outcome, if that was not done before."""
    failure = find_plain_run(list_scenarios()[scenario]).failure
    assert failure is None, f"{scenario} fails without any bug: {failure}"


def read_finds() -> dict[str, Find]:
    """Read what was found in the last full hunt, by the names of the bugs."""
    return msgspec.json.decode(FILE.read_bytes(), type=dict[str, Find]) if FILE.exists() else {}


def write_finds(finds: dict[str, Find]) -> None:
    """Write what was found, by the names of the bugs."""
    encoded = msgspec.json.encode(dict(sorted(finds.items())))
    FILE.write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")


class _TooLong(KeyboardInterrupt):
    """Nothing on the way catches a `KeyboardInterrupt`."""


@contextmanager
def _limited() -> Generator[None]:
    """End the block by `_TooLong` after `LONGEST_SECONDS` of CPU."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_SECONDS)
    # Bugs fill the log with errors.
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)
