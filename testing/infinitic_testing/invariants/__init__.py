"""What must be true of every run: named rules, checked at the instant of each effect."""

from infinitic_testing.explaining import FindSpecs as FindSpecs
from infinitic_testing.invariants.catalog import HEALED as HEALED, RULES as RULES, SAFETY as SAFETY
from infinitic_testing.invariants.checker import Invariants as Invariants
from infinitic_testing.invariants.logs import LogWatch as LogWatch
from infinitic_testing.invariants.outcomes import find_outcome_difference as find_outcome_difference
from infinitic_testing.invariants.stored import check_stored as check_stored, check_topics as check_topics
from infinitic_testing.invariants.violation import InvariantViolated as InvariantViolated

__all__ = [
    "HEALED",
    "RULES",
    "SAFETY",
    "FindSpecs",
    "InvariantViolated",
    "Invariants",
    "LogWatch",
    "check_stored",
    "check_topics",
    "find_outcome_difference",
]
