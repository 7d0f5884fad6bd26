"""What an adapter says about its own health, for ``infinitic doctor``.

A transport or storage may have ``async def diagnose(self) -> list[Diagnosis]``. It changes nothing, and does not wait
for what is down: that is a diagnosis, too.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Diagnosis(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finding: what was looked at, how it is, and what to do about it (empty: nothing).

    `ahead` is of a clock: how many seconds it is ahead of that of this machine, negative if it is behind.
    """

    subject: str
    level: Level
    message: str
    remedy: str = ""
    ahead: float | None = None


SKEW_SECONDS = 60.0
"""Seconds that two clocks may be apart before workflows suffer so much that it is a failure."""


def ok(subject: str, message: str) -> Diagnosis:
    """A finding about which nothing is to be done."""
    return Diagnosis(subject, Level.OK, message)


def skew(subject: str, seconds: float, *, precision: float = 1.0, harm: str = "") -> Diagnosis:
    """What it means that the clock of a server is so much ahead of ours.

    Args:
        subject: the clock.
        seconds: how much it is ahead; negative if it is behind.
        precision: seconds below which it agrees.
        harm: what comes of the difference.
    """
    if abs(seconds) < precision:
        return Diagnosis(subject, Level.OK, "agrees with that of this machine", ahead=seconds)
    level = Level.WARNING if abs(seconds) < SKEW_SECONDS else Level.FAILURE
    apart = f"{abs(seconds):,.1f}" if abs(seconds) < 10 else f"{abs(seconds):,.0f}"
    message = f"is {apart} s {'ahead of' if seconds > 0 else 'behind'} that of this machine"
    return Diagnosis(subject, level, message + (harm or _LATE), "synchronise both with NTP", seconds)


_LATE = ": timers and retries come late or early by as much"


@runtime_checkable
class Diagnosable(Protocol):
    """An adapter that can tell how it is."""

    async def diagnose(self) -> list[Diagnosis]:
        """Findings, most important first."""
        ...
