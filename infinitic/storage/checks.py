"""What every storage refuses, said in one place for all adapters.

The arguments of the methods are checked before the database is asked (`Query` checks itself). An
error names the argument, and what it may be. Then there are the outcomes of changes that can never
be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from infinitic.storage import (
    Change,
    InvalidArgument,
    Published,
    Refused,
    ValueTooLarge,
)
from infinitic.storage.arguments import check_instant, check_limit

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def check_changes(changes: Sequence[Change | Published], max_value: int) -> None:
    """Check the changes of one commit.

    Args:
        changes: what `commit` was given.
        max_value: bytes that a value may have, see `StorageCapabilities.max_value`.

    Raises:
        InvalidArgument: a key comes twice, or a number or a time is out of range.
        ValueTooLarge: a head, events or an outbox have more bytes.
    """
    if len(changes) > 1:
        # A set of ids is cheaper than a set of keys, and rarely too small.
        ids = {change.key.id for change in changes}
        if len(ids) < len(changes) and len({change.key for change in changes}) < len(changes):
            raise InvalidArgument("The changes of one commit have to be for distinct keys")
    for change in changes:
        # The usual case comes first: `isinstance` is quick only if it is true.
        if isinstance(change, Change):
            if not _is_sound(change, max_value):
                _check_numbers(change)
                _check_sizes(change, max_value)
        else:
            _check_whole("Published.version", change.version)


def check_history(after: int, limit: int, sequences: Sequence[int] | None) -> None:
    """Check what `history` is asked for.

    Args:
        after: the sequence before the first segment.
        limit: how many segments; 0 or less asks for none, and is allowed.
        sequences: the segments, instead of the other two; None without.

    Raises:
        InvalidArgument: a number is out of range.
    """
    _check_whole("after", after)
    if sequences is None and limit > 0:
        check_limit("The limit of a history", limit)
    for each in sequences or ():
        _check_whole("A sequence", each)


def check_purge(now: object, limit: object) -> None:
    """Check when and how much to purge.

    Args:
        now: seconds since the Unix epoch.
        limit: how much is removed at most.

    Raises:
        InvalidArgument: `now` is not a finite number, or the limit is out of range.
    """
    if now is None:
        raise InvalidArgument("now has to be a finite number of seconds, not None")
    check_instant("now", now)
    check_limit("The limit of a purge", limit)


def _is_sound(change: Change, max_value: int) -> bool:
    """A quick look at a change: True if nothing can be wrong with it. It runs for every transition.

    So numbers, sizes and instants are each put together first, and looked at once: bits above the
    63rd stay, and so does what is not finite. False says nothing: the checks below know more.
    """
    segment, entry = change.segment, change.entry
    numbers = change.version | (change.expected or 0)
    size = len(change.head)
    try:
        instants = change.at
        if change.expires_at is not None:
            instants += change.expires_at
        if segment is not None:
            numbers |= segment.sequence
            size += len(segment.events)
            if segment.outbox is not None:
                size += len(segment.outbox)
        if entry is not None:
            numbers |= entry.version or 0
            instants += entry.started_at + (entry.closed_at or 0.0) + (entry.next_wake or 0.0)
        return not numbers >> 63 and size <= max_value and isfinite(instants)
    except (TypeError, OverflowError):  # an instant that is no number, or has too many digits
        return False


def _check_numbers(change: Change) -> None:
    entry, segment = change.entry, change.segment
    _check_whole("Change.version", change.version)
    _check_whole("Change.expected", change.expected)
    check_instant("Change.at", change.at)
    check_instant("Change.expires_at", change.expires_at)
    if segment is not None:
        _check_whole("Segment.sequence", segment.sequence)
    if entry is not None:
        _check_whole("Entry.version", entry.version)
        check_instant("Entry.started_at", entry.started_at)
        check_instant("Entry.closed_at", entry.closed_at)
        check_instant("Entry.next_wake", entry.next_wake)


def _check_sizes(change: Change, max_value: int) -> None:
    if len(change.head) > max_value:
        raise ValueTooLarge(len(change.head), max_value, "A head")
    segment = change.segment
    if segment is not None:
        if len(segment.events) > max_value:
            raise ValueTooLarge(len(segment.events), max_value, "A segment")
        if segment.outbox is not None and len(segment.outbox) > max_value:
            raise ValueTooLarge(len(segment.outbox), max_value, "An outbox")


def _check_whole(what: str, value: int | None) -> None:
    if value is not None and not _LOWEST <= value <= _HIGHEST:
        raise InvalidArgument(f"{what} has to be a whole number of 64 bits; this one has {value.bit_length()}")


# What a commit refuses, in the same words for every storage.

MAX_KEY_PART = 255
"""Bytes of UTF-8 that a name may have, and an id."""


def fits_key(part: str) -> bool:
    """Whether a name or an id can be part of a key: Unicode text that is not too long."""
    if part.isascii():
        return len(part) <= MAX_KEY_PART
    try:
        return len(part.encode()) <= MAX_KEY_PART
    except UnicodeEncodeError:
        # It has a lone surrogate, which UTF-8 cannot say.
        return False


def refuse_version(version: int, stored: int | None) -> Refused:
    """Make the outcome of a change whose version is not larger than the stored one.

    Args:
        version: that of the change.
        stored: that of the instance.
    """
    return Refused(f"version {version} does not come after {stored}")


def refuse_segment(sequence: int, last: int) -> Refused:
    """Make the outcome of a change whose segment does not follow the last one.

    Args:
        sequence: that of the segment.
        last: that of the last segment; 0 if there is none.
    """
    return Refused(f"segment {sequence} does not follow {last}")


def refuse_key() -> Refused:
    """Make the outcome of a change whose key is too long, or is not Unicode text."""
    return Refused(f"a name and an id are at most {MAX_KEY_PART} bytes of UTF-8 each")
