"""Runs the storage suite on its mutants, in this process. `matrix` is the whole table."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from infinitic_testing.conformance.storage import StorageConformance, list_storage_rules
from tests.conformance import (
    storage_broken_commits as _commits,
    storage_broken_life as _life,
    storage_broken_reads as _reads,
    storage_broken_shelf as _shelf,
    storage_broken_tags as _tags,
)
from tests.conformance.storage_sound import MUTANTS, Mutant

# They register their mutants.
_ = (_commits, _life, _reads, _shelf, _tags)
__all__ = ["MUTANTS", "Mutant", "build_matrix", "does_fail", "find_failing"]


def build_matrix() -> dict[str, dict[str, list[str]]]:
    """For each rule its tests, and for each test the names of the mutants that fail it."""
    return {
        rule: {test: [mutant.name for mutant in MUTANTS if does_fail(mutant.suite, test)] for test in tests}
        for rule, tests in list_storage_rules().items()
    }


def find_failing(suite: type[StorageConformance], rules: Iterable[str]) -> set[str]:
    """Those of the rules that have a test which fails."""
    tests = list_storage_rules()
    return {rule for rule in rules if any(does_fail(suite, test) for test in tests[rule])}


def does_fail(suite: type[StorageConformance], test: str) -> bool:
    """Whether a test of the suite fails. One that is skipped does not."""
    try:
        getattr(suite(), test)()
    except pytest.skip.Exception:
        return False
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 (however it fails)
        return True
    return False
