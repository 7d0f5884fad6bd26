"""What must be true of every run: named rules, checked at the instant of each effect."""

from infinitic_testing.invariants.catalog import HEALED as HEALED, RULES as RULES, SAFETY as SAFETY
from infinitic_testing.invariants.checker import Invariants as Invariants
from infinitic_testing.invariants.violation import InvariantViolated as InvariantViolated

__all__ = ["HEALED", "RULES", "SAFETY", "InvariantViolated", "Invariants"]
