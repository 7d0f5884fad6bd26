"""docs/conformance.md is what its generator makes."""

from __future__ import annotations

from pathlib import Path

from infinitic_testing.conformance.transport import transport_rules
from infinitic_testing.conformance.transport_rules import TRANSPORT_RULES
from tests.conformance.matrix import page

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == page(), "python -m tests.conformance.matrix > docs/conformance.md"


def test_each_rule_has_a_test_but_for_back_pressure() -> None:
    assert set(TRANSPORT_RULES) - {"FLO-4"} == set(transport_rules())
