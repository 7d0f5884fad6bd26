"""Decides what the in-memory broker leaves open: from the choices and the faults of a run."""

from __future__ import annotations

import asyncio

from infinitic_testing.choices import Choices
from infinitic_testing.faults.plan import FaultPlan

_FAULTS = {
    "delay": ("inexact-delays", 5.0),
    "attempts": ("forgotten-attempts", 5.0),
    "order": ("key-disorder", 5.0),
}
"""The choices that are faults if they are not 0, and how much above their rate."""

_ORDERS = frozenset({"message", "key", "held key"})
"""The choices of what comes next."""

_LABELS = {what: f"broker/{what}" for what in (*_FAULTS, *sorted(_ORDERS), "consumer")}

_LONGEST_STARVATION = 20.0
"""Seconds for which the oldest messages come last, at most."""


class BrokerChoices:
    """The `Choose` of a broker in a simulation.

    Args:
        choices: of the run.
        plan: the faults of the run.
    """

    def __init__(self, choices: Choices, plan: FaultPlan) -> None:
        self._choices = choices
        self._plan = plan
        # Seconds of the loop until which the oldest messages come last.
        self._starves_until = 0.0

    def choose(self, what: str, count: int) -> int:
        """Choose an index below `count`, see `Choose`."""
        fault = _FAULTS.get(what)
        if fault is not None:
            name, factor = fault
            if not self._plan.fires(name, factor=factor):
                return 0
            return 1 + self._choices.pick(_LABELS[what], count - 1)
        if what not in _ORDERS:
            return self._choices.pick(_LABELS[what], count)
        if self._is_starving():
            return count - 1
        index = self._choices.pick(_LABELS[what], count)
        if index:
            self._plan.count("overtaking")
        return index

    def starve(self, seconds: float) -> None:
        """Let the newest messages come first for a while.

        Args:
            seconds: how long.
        """
        self._starves_until = asyncio.get_running_loop().time() + seconds

    def feed(self) -> None:
        """End the starvation, if there is one."""
        self._starves_until = 0.0

    def _is_starving(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now >= self._starves_until and self._plan.fires("starvation"):
            self.starve(self._choices.between("window/starvation", 0.5, _LONGEST_STARVATION))
        return now < self._starves_until
