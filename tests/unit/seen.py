"""`seen`: all that a program can see of a value, as one text. It uses no code under test."""

from __future__ import annotations

import contextlib
import functools
import math
import types
from collections import deque
from datetime import datetime, time, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

_WHOLE = (str, int, bytes, bytearray, Decimal, Fraction, UUID, types.NoneType)


def seen(value: Any) -> str:
    """Describe a value. Values with the same text differ only in identity or in bits of NaN."""
    kind: Any = value.__class__
    return f"{kind.__module__}.{kind.__qualname__}({', '.join(_parts(value, kind))})"


def _parts(value: Any, kind: Any) -> list[str]:
    if issubclass(kind, Enum):
        return [value.name or repr(value.value)]
    if issubclass(kind, float):
        return ["nan" if math.isnan(value) else value.hex()]
    if issubclass(kind, complex):
        return [seen(value.real), seen(value.imag)]
    if issubclass(kind, datetime | time):
        return [value.replace(tzinfo=None).isoformat(), f"fold {value.fold}", _zone(value.tzinfo)]
    if issubclass(kind, PurePath):
        return [str(value)]
    found: list[str] = []
    if issubclass(kind, _WHOLE):
        found.append(str(value))
    elif issubclass(kind, dict):
        found += [f"{seen(key)}: {seen(item)}" for key, item in value.items()]
    elif issubclass(kind, set | frozenset):
        found += sorted(seen(item) for item in value)
    elif issubclass(kind, list | tuple | deque):
        found += [seen(item) for item in value]
    for name in ("default_factory", "maxlen"):
        if issubclass(kind, dict | deque) and hasattr(value, name):
            found.append(f"{name} {getattr(value, name)}")
    attributes = _attributes(value, kind)
    if not found and not attributes:
        return [repr(value)]
    return found + [f"{name}={seen(item)}" for name, item in attributes.items()]


def _zone(zone: Any) -> str:
    if isinstance(zone, ZoneInfo):
        return f"zone {zone.key}"
    if type(zone) is timezone:
        return f"offset {zone.utcoffset(None)} {zone.tzname(None)}"
    return repr(zone)


def _attributes(value: Any, kind: Any) -> dict[str, Any]:
    names = list(getattr(value, "__dict__", ()))
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
        for fields in ("__dataclass_fields__", "__struct_fields__"):
            with contextlib.suppress(TypeError):
                names += getattr(base, fields, ())
    classes: list[Any] = list(kind.__mro__)
    cached = [name for base in classes for name in base.__dict__
              if isinstance(base.__dict__[name], functools.cached_property)]  # fmt: skip
    return {
        name: getattr(value, name)
        for name in sorted(set(names))
        if name not in ("__dict__", "__weakref__", "__orig_class__", "is_safe")
        and name not in cached
        and hasattr(value, name)
    }
