"""Tests the transport suite: each broken broker fails the rules that it breaks.

Each rule fails for at least one of them.
"""

from __future__ import annotations

import gc

import pytest

from infinitic_testing.conformance.transport import list_transport_rules
from tests.conformance.transport_campaign import NO_MUTANT, find_failing, record_nothing
from tests.conformance.transport_mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
@pytest.mark.filterwarnings("ignore")
def test_a_mutant_is_killed(mutant: Mutant) -> None:
    try:
        assert find_failing(mutant, mutant.kills) == set(mutant.kills)
    finally:
        gc.collect()  # what a broken one leaves behind is not to fail another test


def test_each_rule_kills_a_mutant() -> None:
    killing = {rule for mutant in MUTANTS for rule in mutant.kills}
    assert killing | set(NO_MUTANT) == set(list_transport_rules())
    assert not killing & set(NO_MUTANT)


@pytest.mark.parametrize(
    ("name", "test", "said"),
    [
        (
            "PublishesInSilence",
            "test_flo_5_a_publish_wakes_who_waits_on_another_connection",
            "a message came 1.00 s after it was published on another connection, and not within 0.001 s: does that",
        ),
        (
            "CrashForgetsAcks",
            "test_per_3_acked_does_not_come_again_after_a_crash",
            "the acknowledgements of ['a1', 'c1'] were lost by a crash right after them",
        ),
        (
            "EphemeralsOutliveACrash",
            "test_per_7_an_ephemeral_subscription_goes_with_a_crash",
            "['listener#1']",
        ),
        (
            "AllToOne",
            "test_exc_4_competing_consumers_get_all_and_each_some",
            "consumers [2, 3] went without, though each was ready for more (consumer 1 got 30: a0 a1 a2",
        ),
        (
            "ForgetsAfterAWeek",
            "test_per_9_kept_for_the_deduplication_window",
            "after 1,088,640 of 1,209,600 s only ['c1'] is left",
        ),
    ],
)
def test_a_failure_says_what_is_wrong(name: str, test: str, said: str) -> None:
    (mutant,) = [each for each in MUTANTS if each.name == name]
    with pytest.raises(AssertionError) as raised:
        getattr(mutant.suite(), test)(record_nothing)
    assert said in str(raised.value)
