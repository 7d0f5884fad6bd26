"""Warns if the clock of this worker is behind that of the broker.

Wakes come before their time then.
"""

from __future__ import annotations

import logging

_logger = logging.getLogger("infinitic.engine")

SKEW_SECONDS = 0.5
"""How many seconds a wake must come before its time to be worth a warning."""


class Skew:
    """How early the wakes of one workflow came."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seconds = 0.0

    def tell(self, early: float) -> None:
        """Note that a wake came so many seconds before its time.

        It is logged once, and again when it has doubled.
        """
        if early > max(SKEW_SECONDS, 2 * self._seconds):
            self._seconds = early
            _logger.warning(
                "Workflow %s: a wake came %.1f s before its time: the clock of this worker is so much behind that of "
                "the broker. Timers and retries go by the clocks of workers: synchronise them with NTP",
                self._name,
                early,
            )
