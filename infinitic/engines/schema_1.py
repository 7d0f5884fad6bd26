"""Brings a head of schema 1, which release 0.1 wrote, to the form of schema 2.

In schema 1 each timer was an entry of its own: (due, position, whether it is a total timeout).
Retries were in the order in which they failed.
"""

from __future__ import annotations

from typing import Any

from infinitic.engines import bitmaps

_TIMERS, _RETRIES = 10, 11
"""Where these fields are in a head."""


def upgrade(fields: list[Any]) -> list[Any]:
    """Bring the fields of a head to the form of schema 2.

    Args:
        fields: those that were stored. Fields at the end may be missing.

    Raises:
        TypeError: these are no fields of a head. So do `ValueError` and `LookupError`.
    """
    upgraded = [2, *fields[1:]]
    if len(fields) > _TIMERS:
        upgraded[_TIMERS] = [_make_block(*timer) for timer in fields[_TIMERS]]
    if len(fields) > _RETRIES:
        upgraded[_RETRIES] = sorted(fields[_RETRIES], key=lambda retry: retry[0])
    return upgraded


def _make_block(due: Any, position: Any, task: Any = False, *_: Any) -> list[Any]:
    return [due, position, bitmaps.ALONE, 1 if task else 0]
