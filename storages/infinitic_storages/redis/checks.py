"""What a commit is refused for before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from infinitic.storage import Change, Published, StateKey, ValueTooLarge

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def check(changes: Sequence[Change | Published], limit: int) -> None:
    """Raises `ValueError` for what no storage can keep, `ValueTooLarge` for what is above the limit."""
    if len({change.key for change in changes}) < len(changes):
        raise ValueError("The changes of one call are for distinct keys")
    for change in changes:
        _check_version(change.key, "version", change.version)
        if isinstance(change, Published):
            continue
        _check_numbers(change)
        _check_sizes(change, limit)


def _check_numbers(change: Change) -> None:
    """A script that errs at such a number, after its first write, would not be undone."""
    key, entry = change.key, change.entry
    _check_version(key, "expected", change.expected)
    _check_instant(key, "at", change.at)
    _check_instant(key, "expires_at", change.expires_at)
    if entry is not None:
        _check_version(key, "entry.version", entry.version)
        _check_instant(key, "entry.started_at", entry.started_at)
        _check_instant(key, "entry.closed_at", entry.closed_at)
        _check_instant(key, "entry.next_wake", entry.next_wake)


def _check_instant(key: StateKey, field: str, value: float | None) -> None:
    if value is not None and not isfinite(value):
        raise ValueError(f"`{field}` of {key} is {value}, which is no finite number")


def _check_version(key: StateKey, field: str, value: int | None) -> None:
    if value is not None and not _LOWEST <= value <= _HIGHEST:
        raise ValueError(f"`{field}` of {key} is {value}, which does not fit into 64 bits")


def _check_sizes(change: Change, limit: int) -> None:
    segment = change.segment
    for what, value in (
        ("A head", change.head),
        ("A segment", None if segment is None else segment.events),
        ("An outbox", None if segment is None else segment.outbox),
    ):
        if value is not None and len(value) > limit:
            raise ValueTooLarge(len(value), limit, what)
