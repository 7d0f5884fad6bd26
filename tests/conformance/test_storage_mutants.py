"""Tests the storage suite: each broken storage fails the rules that it breaks.

Each rule fails for at least one of them.
"""

from __future__ import annotations

import pytest

from infinitic_testing.conformance.storage import list_storage_rules
from tests.conformance.storage_campaign import MUTANTS, Mutant, find_failing
from tests.conformance.storage_sound import OnSound


class TestSound(OnSound):
    """What the mutants are made of keeps every rule."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_killed(mutant: Mutant) -> None:
    assert find_failing(mutant.suite, mutant.kills) == set(mutant.kills)


def test_each_rule_kills_a_mutant() -> None:
    assert {rule for mutant in MUTANTS for rule in mutant.kills} == set(list_storage_rules())
