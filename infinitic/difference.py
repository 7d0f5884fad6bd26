"""What a round trip changed: `difference` compares a value with what its receiver would get.

Stricter than ``==`` where that would hide a change (``True == 1``, ``Decimal("1.0") == Decimal("1.00")``),
and more lenient where it finds one in a faithful copy (NaN, objects without ``__eq__``).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, cast
from uuid import UUID

import msgspec

_Comparison = Callable[[Any, Any], "str | None"]

_NAN = object()  # unlike NaN, it equals itself
_ABSENT: Any = object()
_BY_VALUE = frozenset((str, int, bool, NoneType, bytes, date, timedelta, UUID))


def difference(sent: object, arrived: object) -> str | None:
    """None if both are the same value, else where and how they differ.

    Types must be the same, but an int may arrive as a float that equals it. Aware datetimes are the same if
    wall clock and offset are. Example of a result: ``.items[2]: True (bool) would arrive as 1 (int)``.
    """
    if sent is arrived:
        return None
    kind = type(sent)
    if kind is type(arrived):
        if kind in _BY_VALUE:
            return None if sent == arrived else _change(sent, arrived)
        return _comparison(kind)(sent, arrived)
    if arrived is _ABSENT:
        return f": {shown(sent)} would be lost"
    if kind is int and type(arrived) is float and sent == arrived:
        return None
    if _model_origin(kind) is _model_origin(type(arrived)):
        return _comparison(kind)(sent, arrived)
    return f": {shown(sent)} ({kind.__name__}) would arrive as {shown(arrived)} ({type(arrived).__name__})"


def shown(value: object, limit: int = 80) -> str:
    """A text of at most `limit` characters for a value in an error message; never raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a repr of users
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _change(sent: object, arrived: object) -> str:
    return f": {shown(sent)} would arrive as {shown(arrived)}"


def _choose(kind: Any) -> _Comparison:
    """How two values of this class are compared."""
    if issubclass(kind, dict):
        return _of_dicts
    if issubclass(kind, list | tuple | deque):
        return _of_sequences
    if issubclass(kind, set | frozenset):
        return _of_sets
    if dataclasses.is_dataclass(kind):
        return _of_fields(field.name for field in dataclasses.fields(kind) if field.compare or field.init)
    if issubclass(kind, msgspec.Struct):
        return _of_fields(kind.__struct_fields__)
    if hasattr(kind, "__pydantic_generic_metadata__"):  # a pydantic model
        return _of_fields((*kind.model_fields, "__pydantic_extra__", "__pydantic_private__"))
    for base, same in _SAME.items():
        if issubclass(kind, base):
            return _of_values(same)
    return _of_objects if kind.__eq__ is object.__eq__ else _of_values(lambda sent, arrived: sent == arrived)


_comparison: Callable[[type], _Comparison] = functools.lru_cache(maxsize=1024)(_choose)

_SAME: dict[type, Callable[[Any, Any], bool]] = {
    float: lambda sent, arrived: sent == arrived or (math.isnan(sent) and math.isnan(arrived)),
    Decimal: lambda sent, arrived: sent.as_tuple() == arrived.as_tuple(),
    # In the hour that a clock change repeats, Python calls no two datetimes equal whose tzinfo differs.
    datetime: lambda sent, arrived: _wall_clock(sent) == _wall_clock(arrived),
    time: lambda sent, arrived: _wall_clock(sent) == _wall_clock(arrived),
}


def _wall_clock(moment: Any) -> tuple[Any, timedelta | None]:
    return moment.replace(tzinfo=None), moment.utcoffset()


def _of_values(same: Callable[[Any, Any], bool]) -> _Comparison:
    return lambda sent, arrived: None if same(sent, arrived) else _change(sent, arrived)


def _of_sequences(sent: Any, arrived: Any) -> str | None:
    if len(sent) != len(arrived):
        return _change(sent, arrived)
    for index, value in enumerate(sent):
        if path := difference(value, arrived[index]):
            return f"[{index}]{path}"
    return None


def _of_dicts(sent: dict[Any, Any], arrived: dict[Any, Any]) -> str | None:
    text_only = True
    for key, value in sent.items():
        text_only = text_only and type(key) is str
        if path := difference(value, arrived.get(key, _ABSENT)):
            return f"[{shown(key)}]{path}"
    if len(sent) != len(arrived):
        return _change(sent, arrived)
    return None if text_only else _of_sets(sent.keys(), arrived.keys())


def _of_sets(sent: Any, arrived: Any) -> str | None:
    if len(sent) != len(arrived):
        return _change(sent, arrived)
    received = {_NAN if item != item else item: item for item in arrived}
    for item in sent:
        if path := difference(item, received.get(_NAN if item != item else item, _ABSENT)):
            return path
    return None


def _of_fields(fields: Iterable[str]) -> _Comparison:
    names = tuple(fields)

    def compare(sent: Any, arrived: Any) -> str | None:
        for name in names:
            if path := difference(getattr(sent, name, _ABSENT), getattr(arrived, name, _ABSENT)):
                return path if name.startswith("__pydantic") else f".{name}{path}"
        return None

    return compare


def _of_objects(sent: object, arrived: object) -> str | None:
    """By their attributes."""
    names = dict.fromkeys([*getattr(sent, "__dict__", ()), *getattr(arrived, "__dict__", ())])
    for base in type(sent).__mro__:
        slots = base.__dict__.get("__slots__", ())
        names |= dict.fromkeys((slots,) if isinstance(slots, str) else slots)
    return _of_fields(names)(sent, arrived)


def _model_origin(kind: type) -> type:
    """``Box`` for ``Box`` and for ``Box[int]``: pydantic makes a class of each."""
    return cast(dict[str, Any], getattr(kind, "__pydantic_generic_metadata__", {})).get("origin") or kind
