"""Tests the transport suite: each broken broker fails the rules that it breaks.

Each rule fails for at least one of them.
"""

from __future__ import annotations

import gc

import pytest

from infinitic_testing.conformance.transport import list_transport_rules
from tests.conformance.transport_campaign import NO_MUTANT, find_failing
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
