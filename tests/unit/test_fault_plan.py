"""Which faults a run may have, and when they happen."""

from __future__ import annotations

import pytest

from infinitic.errors import UsageError
from infinitic_testing.choices import Choices
from infinitic_testing.faults.catalog import CATALOG, Faults
from infinitic_testing.faults.plan import FaultPlan, Phase


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("none", Faults.none()),
        ("all", Faults.all()),
        ("all,-pauses", Faults.all().without("pauses")),
        ("duplicates, power-cuts", Faults.only("duplicates", "power-cuts")),
    ],
)
def test_faults_are_read_as_they_are_written(text: str, faults: Faults) -> None:
    assert Faults.parse(text) == faults
    assert Faults.parse(str(faults)) == faults
    assert Faults.parse(text.split(",")) == faults


def test_an_unknown_fault_is_named_with_those_that_exist() -> None:
    for wrong in ("duplicate", "all,-pause", ""):
        with pytest.raises(UsageError, match=r"There is no fault '(duplicate|pause|)'.*duplicates.*pauses"):
            Faults.parse(wrong)


def test_faults_happen_in_their_phase_only_and_are_counted() -> None:
    plan = FaultPlan(Faults.only("duplicates"), Choices(3))
    assert not any(plan.fires("duplicates") for _ in range(1000))
    plan.phase = Phase.FAULTY
    fired = sum(plan.fires("duplicates") for _ in range(1000))
    assert fired > 0
    assert plan.fired == {"duplicates": fired}
    assert not any(plan.fires("pauses") for _ in range(1000))
    plan.phase = Phase.HEALED
    assert not any(plan.fires("duplicates") for _ in range(1000))


def test_each_run_has_some_faults_and_all_runs_together_have_all() -> None:
    runs = [FaultPlan(Faults.all(), Choices(seed)).rates for seed in range(60)]
    assert all(0 < len(rates) < len(CATALOG) for rates in runs)
    assert set[str]().union(*runs) == set(CATALOG)
    assert all(0.0 < rate <= 0.6 for rates in runs for rate in rates.values())
    # Only in a fierce run may a fault happen that often.
    assert 0 < sum(max(rates.values()) > 0.1 for rates in runs) < 30
