"""What a round trip changed: `find_difference` compares a value with what its receiver would get.

Stricter than ``==`` where that would hide a change: ``True == 1``, ``0.0 == -0.0``, exponents of
decimals, time zones and folds, the order of an OrderedDict, attributes that are no fields. More
lenient where ``==`` finds a change in a faithful copy: NaN, objects without ``__eq__``. What it
lets pass on purpose stands in ``docs/values.md``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from types import NoneType
from typing import Any, cast
from uuid import UUID

import msgspec

from infinitic.codec import advice
from infinitic.codec.datetimes import is_same_moment


class Notes:
    """What `find_difference` may let pass.

    Args:
        lists: tuples that stand where the hint says list, by id; True for all tuples.
        tuples: a list may arrive as a tuple: if it does, the hint says so.
        floats: an int may arrive as a float that equals it, as Python's types have it.
        unset: collects pairs of pydantic models, sent and arrived, that differ in which fields were
            set, which is kept by other means (`infinitic.codec.unset_fields`). None: that is a
            difference.
    """

    __slots__ = ("floats", "lists", "tuples", "unset")

    def __init__(
        self,
        *,
        lists: bool | dict[int, Any] = False,
        tuples: bool = True,
        floats: bool = True,
        unset: list[tuple[Any, Any]] | None = None,
    ) -> None:
        self.lists = lists
        self.tuples = tuples
        self.floats = floats
        self.unset = unset


_Comparison = Callable[[Any, Any, Notes], "str | None"]

_NO_NOTES = Notes()
_NAN = object()  # unlike NaN, it equals itself
_ABSENT: Any = object()
_BY_VALUE = frozenset((str, int, bool, NoneType, bytes, date, timedelta, UUID))


def find_difference(sent: object, arrived: object, notes: Notes = _NO_NOTES) -> str | None:
    """None if both are the same value, else where and how they differ, and what to do about it.

    Types must be the same, but for what `notes` let pass. Example of a result:
    ``.items[2]: True (bool) would arrive as 1 (int)``.
    """
    if sent is arrived:
        return None
    kind = type(sent)
    other = type(arrived)
    if kind is other:
        if kind in _BY_VALUE:
            return None if sent == arrived else _describe_change(sent, arrived)
        if kind is float and sent == arrived and sent != 0:  # the usual case of `_compare_floats`
            return None
        return _comparison(kind)(sent, arrived, notes)
    if arrived is _ABSENT:
        return f": {show(sent)} would be lost"
    if kind is int and other is float and notes.floats and sent == arrived:
        return None
    if kind is list and other is tuple and notes.tuples:
        return _compare_sequences(sent, arrived, notes)
    if kind is tuple and other is list and (notes.lists is True or (notes.lists and id(sent) in notes.lists)):
        return _compare_sequences(sent, arrived, notes)
    if _model_origin(kind) is _model_origin(other):
        return _comparison(kind)(sent, arrived, notes)
    cure = advice.advise_on_type(kind, other)
    return f": {show(sent)} ({kind.__name__}) would arrive as {show(arrived)} ({other.__name__}){cure}"


def show(value: object, limit: int = 80) -> str:
    """Write a value for an error message.

    Args:
        value: the value.
        limit: the length of the text at most, in characters.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a repr of users
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _describe_change(sent: object, arrived: object, cure: str = "") -> str:
    return f": {show(sent)} would arrive as {show(arrived)}{cure}"


# ── How two values of one class are compared ──────────────────────────────────────────────────────


def _choose_comparison(kind: Any) -> _Comparison:
    checks: list[_Comparison] = [check for base, check in _CONTAINERS.items() if issubclass(kind, base)]
    scalar = next((same for base, same in _SAME.items() if issubclass(kind, base)), None)
    if scalar is not None:
        checks.append(_compare_values(scalar))
    names: list[str] = []
    if "__dataclass_fields__" in dir(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif issubclass(kind, msgspec.Struct):
        names = list(kind.__struct_fields__)
    elif hasattr(kind, "__pydantic_generic_metadata__"):  # a pydantic model
        names = list(kind.model_fields)
        checks.append(_compare_models)
    elif not checks:
        return (
            _compare_objects
            if kind.__eq__ is object.__eq__
            else _compare_values(lambda sent, arrived: bool(sent == arrived))
        )
    if scalar is None:  # scalars of Python keep what they have computed in slots
        names += [name for name in _slots(kind) if name not in names]
    if names or kind.__dictoffset__:
        checks.insert(0, _compare_fields(names, kind if kind.__dictoffset__ else None))
    return checks[0] if len(checks) == 1 else _combine(checks)


_comparison: Callable[[type], _Comparison] = functools.lru_cache(maxsize=1024)(_choose_comparison)


def _combine(checks: Iterable[_Comparison]) -> _Comparison:
    in_turn = tuple(checks)

    def compare(sent: Any, arrived: Any, notes: Notes) -> str | None:
        for check in in_turn:
            if path := check(sent, arrived, notes):
                return path
        return None

    return compare


def _compare_floats(sent: float, arrived: float) -> bool:
    if sent == arrived:
        return sent != 0 or math.copysign(1, sent) == math.copysign(1, arrived)
    return math.isnan(sent) and math.isnan(arrived)


_SAME: dict[type, Callable[[Any, Any], bool]] = {
    float: _compare_floats,
    complex: lambda sent, arrived: (
        _compare_floats(sent.real, arrived.real) and _compare_floats(sent.imag, arrived.imag)
    ),
    Decimal: lambda sent, arrived: sent.as_tuple() == arrived.as_tuple(),
    datetime: is_same_moment,
    time: is_same_moment,
    PurePath: lambda sent, arrived: str(sent) == str(arrived),  # those of Windows are equal in another case
}


def _compare_values(same: Callable[[Any, Any], bool]) -> _Comparison:
    def compare(sent: Any, arrived: Any, notes: Notes) -> str | None:
        return None if same(sent, arrived) else _describe_change(sent, arrived, advice.advise_on_value(sent, arrived))

    return compare


def _compare_sequences(sent: Any, arrived: Any, notes: Notes) -> str | None:
    if len(sent) != len(arrived):
        return _describe_change(sent, arrived)
    for index, (one, other) in enumerate(zip(sent, arrived, strict=True)):
        if one is other:
            continue
        same = one.__class__
        if same is other.__class__ and same in _BY_VALUE and one == other:  # as in `find_difference`, for speed
            continue
        if path := find_difference(one, other, notes):
            return f"[{index}]{path}"
    return None


def _compare_deques(sent: deque[Any], arrived: deque[Any], notes: Notes) -> str | None:
    if sent.maxlen != arrived.maxlen:
        return f".maxlen: {sent.maxlen} would arrive as {arrived.maxlen}{advice.MAXLEN}"
    return _compare_sequences(sent, arrived, notes)


def _compare_dicts(sent: dict[Any, Any], arrived: dict[Any, Any], notes: Notes) -> str | None:
    text_only = True
    for key, value in sent.items():
        text_only = text_only and type(key) is str
        if path := find_difference(value, arrived.get(key, _ABSENT), notes):
            lost = type(key) is not str and key not in arrived
            return f"[{show(key)}]{path}{advice.KEY if lost else ''}"
    if len(sent) != len(arrived):
        return _describe_change(sent, arrived)
    return None if text_only else _compare_sets(sent.keys(), arrived.keys(), notes)


def _compare_ordered_dicts(sent: dict[Any, Any], arrived: dict[Any, Any], notes: Notes) -> str | None:
    return None if list(sent) == list(arrived) else ": its keys would arrive in another order"


def _compare_default_dicts(sent: Any, arrived: Any, notes: Notes) -> str | None:
    one, other = sent.default_factory, arrived.default_factory
    return None if one == other else f".default_factory: {show(one)} would arrive as {show(other)}{advice.FACTORY}"


def _compare_sets(sent: Any, arrived: Any, notes: Notes) -> str | None:
    if len(sent) != len(arrived):
        return _describe_change(sent, arrived)
    received = {_NAN if item != item else item: item for item in arrived}
    for item in sent:
        if path := find_difference(item, received.get(_NAN if item != item else item, _ABSENT), notes):
            return path
    return None


_CONTAINERS: dict[type, _Comparison] = {
    dict: _compare_dicts,
    OrderedDict: _compare_ordered_dicts,
    defaultdict: _compare_default_dicts,
    list: _compare_sequences,
    tuple: _compare_sequences,
    deque: _compare_deques,
    set: _compare_sets,
    frozenset: _compare_sets,
}


# ── Fields and attributes ─────────────────────────────────────────────────────────────────────────


def _compare_fields(fields: Iterable[str], kind: type | None = None) -> _Comparison:
    """Compare by these fields.

    Given a class, also by what else has been put into the ``__dict__`` of its objects.
    """
    names = tuple(fields)
    known = frozenset(names)

    def compare(sent: Any, arrived: Any, notes: Notes) -> str | None:
        for name in names:
            one, other = getattr(sent, name, _ABSENT), getattr(arrived, name, _ABSENT)
            if one is other:
                continue
            same = one.__class__
            if same is other.__class__ and same in _BY_VALUE and one == other:  # as in `find_difference`, for speed
                continue
            if path := find_difference(one, other, notes):
                return f".{name}{path}{advice.advise_on_field(sent.__class__, name)}"
        if kind is None or sent.__dict__.keys() <= known:
            return None
        ours: dict[str, Any] = sent.__dict__
        theirs: dict[str, Any] = arrived.__dict__
        for name, value in ours.items():
            if name in known or _is_of_class(kind, name):
                continue
            if path := find_difference(value, theirs.get(name, _ABSENT), notes):
                return f".{name}{path}{advice.ATTRIBUTE}"
        return None

    return compare


def _compare_models(sent: Any, arrived: Any, notes: Notes) -> str | None:
    """What a pydantic model has besides its fields."""
    extra, private = sent.__pydantic_extra__, sent.__pydantic_private__
    if extra is not None and (path := find_difference(extra, arrived.__pydantic_extra__, notes)):
        return path
    if private is not None and (path := find_difference(private, arrived.__pydantic_private__, notes)):
        return f"{path}{advice.PRIVATE}"
    if sent.__pydantic_fields_set__ != arrived.__pydantic_fields_set__:
        if notes.unset is None:
            sets = (sorted(each.__pydantic_fields_set__) for each in (sent, arrived))
            return ".model_fields_set: {} would arrive as {}".format(*sets)
        notes.unset.append((sent, arrived))
    return None


def _compare_objects(sent: object, arrived: object, notes: Notes) -> str | None:
    """By their attributes."""
    kind = type(sent)
    names = dict.fromkeys([*getattr(sent, "__dict__", ()), *getattr(arrived, "__dict__", ()), *_slots(kind)])
    return _compare_fields([name for name in names if not _is_of_class(kind, name)])(sent, arrived, notes)


def _slots(kind: type) -> list[str]:
    found: list[str] = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else tuple(cast(Iterable[str], slots))
        found += [
            f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
            for name in names
            if name not in ("__dict__", "__weakref__") and not name.startswith("__pydantic_")
        ]
    return found


def _is_of_class(kind: type, name: str) -> bool:
    """True for an attribute that the receiver computes again, or that `typing` has put there.

    The first kind is the value of a `functools.cached_property`.
    """
    return name == "__orig_class__" or any(
        isinstance(base.__dict__.get(name), functools.cached_property) for base in kind.__mro__
    )


def _model_origin(kind: type) -> type:
    """``Box`` for ``Box`` and for ``Box[int]``: pydantic makes a class of each."""
    return cast(dict[str, Any], getattr(kind, "__pydantic_generic_metadata__", {})).get("origin") or kind
