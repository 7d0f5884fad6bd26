"""A failing run becomes small: of all its choices, the few that matter are kept."""

from __future__ import annotations

import random
from collections.abc import Collection

import pytest

from infinitic_testing.campaign.shrinking import Shrunk, name_fault, shrink
from infinitic_testing.choices import Choices, Key
from infinitic_testing.faults.catalog import Faults
from infinitic_testing.faults.plan import FaultPlan, Phase


class PlantedRun:
    """Makes choices as a simulation does. It fails if it meets certain ones of them.

    Args:
        seed: the seed.
        needed: how many messages must be lost, after one was slow.
    """

    def __init__(self, seed: int, needed: int) -> None:
        self.seed = seed
        self.needed = needed
        self.runs = 0

    def run(self, only: Collection[Key] | None) -> Collection[Key] | None:
        """Return the choices that were not plain, if the run fails. Otherwise None."""
        self.runs += 1
        choices = Choices(self.seed, only=only)
        plan = FaultPlan(Faults.all(), choices)
        plan.phase = Phase.FAULTY
        slow = lost = 0
        for _ in range(200):
            choices.pick("schedule", 5)
            slow += choices.between("latency/publish", 0.0, 1.0) > 0.9
            for name in plan.rates:
                fired = plan.fires(name)
                lost += fired and name == "lost-acks" and slow > 0
        return choices.taken if lost >= self.needed else None


@pytest.mark.parametrize("needed", [1, 2, 5])
def test_a_planted_failure_shrinks_to_the_choices_that_matter(needed: int) -> None:
    planted, taken = next(
        (planted, taken)
        for planted in (PlantedRun(seed, needed) for seed in range(1000))
        if (taken := planted.run(None)) is not None
    )
    assert len(taken) > 300
    planted.runs = 0
    small = shrink(taken, planted.run)
    # That the run has this fault, that one message is slow, and each loss. (Its rate is as low as
    # possible, unless the losses need a higher one.)
    rate = [key for key in small.kept if key[0] == "rate/lost-acks"]
    assert sorted({label for label, _ in small.kept} - {"rate/lost-acks"}) == [
        "fault/lost-acks",
        "latency/publish",
        "plan/lost-acks",
    ]
    assert len(small.kept) == needed + 2 + len(rate)
    assert small.is_smallest
    assert small.runs == planted.runs <= 500
    assert planted.run(small.kept) is not None
    for key in small.kept:
        assert planted.run(small.kept - {key}) is None


def test_a_failure_that_needs_no_choice_keeps_none() -> None:
    assert shrink([("schedule", 1), ("fault/pauses", 2)], lambda only: only) == Shrunk(frozenset(), 1, True)


def test_a_failure_that_needs_every_choice_keeps_all() -> None:
    every = frozenset(("schedule", number) for number in range(10))
    small = shrink(every, lambda only: only if only == every else None)
    assert (small.kept, small.is_smallest) == (every, True)


def test_it_stops_when_its_runs_are_used_up() -> None:
    generator = random.Random(1)
    every = frozenset((f"label-{number % 7}", number) for number in range(400))
    needed = frozenset(generator.sample(sorted(every), 100))
    small = shrink(every, lambda only: only if needed <= only else None, most_runs=300)
    assert (small.runs, small.is_smallest) == (300, False)
    assert needed <= small.kept < every


def test_choices_that_a_smaller_run_does_not_come_to_are_dropped_with_it() -> None:
    every = [("layout", 0), *(("schedule", number) for number in range(50))]

    def run(only: frozenset[Key]) -> Collection[Key] | None:
        # Without the layout there is nothing to schedule.
        taken = only if ("layout", 0) in only else frozenset(key for key in only if key[0] == "layout")
        return taken if len(taken) < 51 else None

    assert shrink(every, run).kept == frozenset()


def test_which_fault_a_choice_belongs_to() -> None:
    names = [name_fault(label) for label in ("plan/pauses", "rate/pauses", "fault/pauses", "nemesis/pauses/when")]
    assert names == ["pauses"] * 4
    assert name_fault("latency/publish") is None
    assert name_fault("schedule") is None
