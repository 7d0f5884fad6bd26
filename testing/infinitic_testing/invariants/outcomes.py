"""Compares what a function returned under faults with what it returned without any."""

from __future__ import annotations

from typing import cast

from infinitic.codec.difference import find_difference

_MOST_SHOWN = 300
"""Characters of a value that are shown."""


def find_outcome_difference(expected: object, actual: object) -> str | None:
    """Say where two outcomes differ; None if they are equal.

    Args:
        expected: that of a run without faults. None: the function returned nothing, or checked
            everything itself. Then any outcome is right.
        actual: that of another run.

    Returns:
        Such as ``[2].total: 3 is expected, and it is 4``.
    """
    if expected is None:
        return None
    try:
        if expected == actual:
            return None
    except Exception:  # noqa: BLE001 (a class of the user may refuse to be compared; the parts still can be)
        pass
    return _find(expected, actual, "") or _describe("", expected, actual)


def _find(expected: object, actual: object, place: str) -> str | None:
    """The first place at which two values differ; None if no part of them does."""
    if type(expected) is not type(actual):
        return _describe(place, expected, actual)
    if isinstance(expected, dict):
        return _find_in_mapping(cast("dict[object, object]", expected), cast("dict[object, object]", actual), place)
    if isinstance(expected, list | tuple):
        one, other = cast("list[object]", expected), cast("list[object]", actual)
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            if (found := _find(left, right, f"{place}[{index}]")) is not None:
                return found
        if len(one) != len(other):
            return f"{place or 'it'} has {len(other)} items, and {len(one)} are expected"
        return None
    return None if find_difference(expected, actual) is None else _describe(place, expected, actual)


def _find_in_mapping(expected: dict[object, object], actual: dict[object, object], place: str) -> str | None:
    for key, value in expected.items():
        if key not in actual:
            return f"{place}[{key!r}] is missing: {_show(value)} is expected"
        if (found := _find(value, actual[key], f"{place}[{key!r}]")) is not None:
            return found
    surplus = [key for key in actual if key not in expected]
    return f"{place}[{surplus[0]!r}] is not expected: {_show(actual[surplus[0]])}" if surplus else None


def _describe(place: str, expected: object, actual: object) -> str:
    return f"{place or 'it'}: {_show(expected)} is expected, and it is {_show(actual)}"


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
