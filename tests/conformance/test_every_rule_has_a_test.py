"""No rule of the Transport port is without a test."""

from __future__ import annotations

from infinitic_testing.conformance.transport import list_transport_rules
from infinitic_testing.conformance.transport_rules import TRANSPORT_RULES


def test_every_rule_but_back_pressure_has_a_test() -> None:
    assert set(TRANSPORT_RULES) - {"FLO-4"} == set(list_transport_rules())
