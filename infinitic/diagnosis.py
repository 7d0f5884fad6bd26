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
    """One finding: what was looked at, how it is, and what to do about it (empty: nothing)."""

    subject: str
    level: Level
    message: str
    remedy: str = ""


@runtime_checkable
class Diagnosable(Protocol):
    """An adapter that can tell how it is."""

    async def diagnose(self) -> list[Diagnosis]:
        """Findings, most important first."""
        ...
