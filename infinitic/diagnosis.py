"""What an adapter says about its own health, for ``infinitic doctor``.

A transport or storage may have ``async def diagnose(self) -> list[Diagnosis]``. It changes nothing.
It does not wait for a server that is down: that is a finding, too.

Example::

    async def diagnose(self) -> list[Diagnosis]:
        if self._is_replica:
            return [Diagnosis("database", Level.FAILURE, "is a replica", "connect to the primary")]
        return [ok("database", "is the primary")]
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Diagnosis(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finding.

    Attributes:
        subject: what was checked, such as "broker clock".
        level: how bad it is.
        message: what was found. Subject and message together read as a sentence.
        remedy: what to do about it; empty if nothing.
        ahead: of a clock: seconds that it is ahead of the one of this machine, negative if it is
            behind. None for anything else.
    """

    subject: str
    level: Level
    message: str
    remedy: str = ""
    ahead: float | None = None


SKEW_SECONDS = 60.0
"""Seconds by which two clocks may differ before it is a failure: workflows suffer then."""


def ok(subject: str, message: str) -> Diagnosis:
    """Make a finding about which nothing has to be done.

    Args:
        subject: what was checked.
        message: what was found.
    """
    return Diagnosis(subject, Level.OK, message)


def skew(subject: str, seconds: float, *, precision: float = 1.0, harm: str = "") -> Diagnosis:
    """Make the finding about the clock of a server.

    Args:
        subject: the clock.
        seconds: how much it is ahead of the one of this machine; negative if it is behind.
        precision: seconds of difference that do not count.
        harm: what the difference causes, as the end of a sentence. By default: late timers.
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
    """An adapter that can check itself."""

    async def diagnose(self) -> list[Diagnosis]:
        """Check the server behind the adapter, and return the findings, the most important first.

        Raises:
            InfiniticError: nothing can be checked, for instance because the server does not answer.
        """
        ...
