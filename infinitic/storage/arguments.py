"""Numbers and times that are given to a storage: which ones there are."""

from __future__ import annotations

from enum import Enum
from math import isfinite

from infinitic.storage.errors import InvalidArgument

MAX_LIMIT = 1_000_000
"""The most that one call of `find`, `history` or `purge` is asked for."""


def check_limit(what: str, limit: object) -> None:
    """Check how much is asked for.

    Args:
        what: names the argument in the error, such as "The limit of a page".
        limit: the argument.

    Raises:
        InvalidArgument: it is no whole number from 1 to `MAX_LIMIT`.
    """
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgument(f"{what} has to be a whole number from 1 to {MAX_LIMIT:,}, not {_shorten(limit)}")


def check_instant(what: str, instant: object) -> None:
    """Check a time in seconds since the Unix epoch. None is allowed.

    Args:
        what: names the argument in the error, such as "Change.at".
        instant: the argument.

    Raises:
        InvalidArgument: it is neither None nor a finite number.
    """
    if instant is None or (type(instant) is float and isfinite(instant)):
        return
    if not isinstance(instant, int | float) or not isfinite(_to_float(instant)):
        raise InvalidArgument(f"{what} has to be a finite number of seconds, not {_shorten(instant)}")


def check_text(what: str, text: object, longest: int | None = None) -> None:
    """Check a condition that is a text. None is allowed.

    Args:
        what: names it in the error, such as "The cursor".
        text: the condition.
        longest: how many characters it may have; None: any number.

    Raises:
        InvalidArgument: it is no text, or too long.
    """
    if text is not None and not isinstance(text, str):
        raise InvalidArgument(f"{what} has to be a text, not {_shorten(text)}")
    if text is not None and longest is not None and len(text) > longest:
        raise InvalidArgument(f"{what} has {len(text):,} characters, and there is none with more than {longest:,}")


def check_type(what: str, value: object, wanted: type[Enum]) -> None:
    """Check a condition that is one of a few values. None is allowed.

    Args:
        what: names it in the error, such as "The status".
        value: the condition.
        wanted: the type that has these values.

    Raises:
        InvalidArgument: it is of another type.
    """
    if value is not None and not isinstance(value, wanted):
        known = ", ".join(f"{wanted.__name__}.{each.name}" for each in wanted)
        raise InvalidArgument(f"{what} has to be one of {known}, not {_shorten(value)}")


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _shorten(value: object) -> str:
    """A short text, also of an int with more digits than Python prints."""
    if type(value) is int and value.bit_length() > 256:
        return f"a number of {value.bit_length():,} bits"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"
