"""How often attempts begin: `max_per_second`. Nobody polls for that: a timer wakes the pool."""

from __future__ import annotations

import asyncio
import math

AT_ONCE_SECONDS = 0.01
"""Attempts that are due within this time begin together: timers are not more exact."""


class Pace:
    """Spreads the begins of attempts evenly over time.

    After a pause it makes up for nothing: at most what is due within 10 ms begins at once.

    Args:
        per_second: how many may begin in a second. It may be a fraction.

    Attributes:
        ahead: how many attempts an executor takes in advance: those of the next second.
    """

    def __init__(self, per_second: float) -> None:
        self.ahead = max(1, math.ceil(per_second))
        self._interval = 1.0 / per_second
        self._spare = max(0, math.ceil(per_second * AT_ONCE_SECONDS) - 1) * self._interval
        # When the next attempt would be due if all were exactly one interval apart.
        self._due = 0.0

    def compute_delay(self) -> float:
        """Compute the seconds until the next attempt may begin; 0.0 or less: now."""
        return self._due - self._spare - asyncio.get_running_loop().time()

    def note_begun(self, count: int) -> None:
        """Note that attempts begin: one, or all of a batch."""
        self._due = max(self._due, asyncio.get_running_loop().time()) + count * self._interval
