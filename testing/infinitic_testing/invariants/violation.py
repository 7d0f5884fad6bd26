"""The error of a run in which something happened that must never happen."""

from __future__ import annotations

from infinitic.errors import InfiniticError
from infinitic.storage import StateKey


class InvariantViolated(InfiniticError):
    """A rule of `infinitic_testing.invariants.RULES` does not hold.

    Attributes:
        rule: the name of the rule, such as "timer-once".
        message: what was seen.
        key: the instance; None if the rule is not about one.
    """

    def __init__(self, rule: str, message: str, key: StateKey | None = None) -> None:
        super().__init__(f"{rule}: " + ("" if key is None else f"{key.name} {key.id}: ") + message)
        self.rule = rule
        self.message = message
        self.key = key

    def __reduce__(self) -> tuple[type[InvariantViolated], tuple[str, str, StateKey | None]]:
        return InvariantViolated, (self.rule, self.message, self.key)
