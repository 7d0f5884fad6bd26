"""Runs rules of the transport suite on a mutant."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from infinitic_testing.conformance.transport import list_transport_rules
from tests.conformance.transport_broken import Mutant

NO_MUTANT = {
    "LIF-6": "it restarts the broker, and the in-memory one keeps nothing over a restart",
}
"""Rules that kill no mutant, and why."""


def find_failing(mutant: Mutant, rules: Iterable[str]) -> set[str]:
    """Those of the rules that have a test which fails."""
    tests = list_transport_rules()
    return {rule for rule in rules if any(_does_fail(mutant, test) for test in tests[rule])}


def _does_fail(mutant: Mutant, test: str) -> bool:
    try:
        getattr(mutant.suite(), test)(record_nothing)
    except pytest.skip.Exception:
        return False
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 (however it fails)
        return True
    return False


def record_nothing(name: str, value: object) -> None:
    """Properties of a test on a mutant are nobody's business."""
