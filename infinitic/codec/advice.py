"""What to do about a value that would not arrive as it was sent.

These are the second halves of error messages.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from datetime import datetime, time, timezone
from typing import Any
from zoneinfo import ZoneInfo

MAXLEN = ": send a list, or a deque without a bound"
FACTORY = ": the hint makes the factory, as defaultdict[str, list[int]] makes list; send a dict for any other"
PRIVATE = " (private attributes are not sent: make it a field)"
ATTRIBUTE = " (only fields are sent: declare it as one, or make it a functools.cached_property)"
NOT_IN_CONSTRUCTOR = ": the constructor does not take this field (init=False), so make it compute the same, or take it"
EXCLUDED = ": the field is declared with exclude=True, so it is not sent"
SECRET = ": a secret is written as asterisks; give the field a serializer with get_secret_value(), or send a str"
IN_SET = "which fields of a model in a set were set would be lost: send a list"
INIT_VAR = ": an InitVar is gone once the object is made; make it a field"
NO_JSON_VALUE = ": JSON has no such value; use members that are str or int"
KEY = ": a key of JSON is text; send a list of pairs"

_PLAIN = (dict, list, str, int, float, bool)


def advise_on_type(kind: type, arriving: type) -> str:
    """Say what to do about a value that would arrive as one of another class.

    Args:
        kind: the class of the value.
        arriving: the class of what would arrive.
    """
    if kind is tuple and arriving is list:
        return ": say list[…] or tuple[…] in the hint"
    if _has_fields(kind) and _has_fields(arriving):
        tag = f"kind: Literal['{kind.__name__.lower()}'] = '{kind.__name__.lower()}'"
        if issubclass(kind, arriving):
            return (
                f": the hint must name {kind.__name__}; if it can be either, say so, and give each a field like {tag}"
            )
        return f": it looks like {arriving.__name__} on the way; give each class of the union a field like {tag}"
    if issubclass(kind, arriving) and kind is not bool:
        return f": say {kind.__name__} in the hint, or send it as {arriving.__name__}"
    if arriving in _PLAIN and kind not in _PLAIN:
        return f": the hint does not name {kind.__name__}, or cannot tell it apart"
    return ""


def _has_fields(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields") or hasattr(kind, "__struct_fields__")


def advise_on_moment(moment: datetime | time) -> str:
    """Say what to do about a datetime or time that would lose its zone or its fold."""
    if isinstance(moment.tzinfo, ZoneInfo):
        return (
            ": no time zone is kept in a msgspec Struct, or where the hint takes a str too; send it in UTC,"
            " .astimezone(timezone.utc), and the name of the zone beside it"
        )
    if moment.tzinfo is None or isinstance(moment.tzinfo, timezone):
        return ": its fold, or the name or the seconds of its offset, would be lost; send it in UTC"
    return ": use zoneinfo.ZoneInfo or datetime.timezone, which are kept"


def advise_on_value(value: Any, arriving: Any) -> str:
    """Say what to do about a scalar that would arrive as another one.

    Args:
        value: the value.
        arriving: what would arrive.
    """
    if isinstance(value, datetime | time):
        return advise_on_moment(value)
    if value.__class__ is re.Pattern and value.flags != arriving.flags:
        return ": flags are not sent; write them into the pattern, as in (?i)"
    return SECRET if hasattr(value, "get_secret_value") else ""


def advise_on_field(kind: Any, name: str) -> str:
    """Say what to do about a field that would arrive with another value.

    Args:
        kind: the class that has the field.
        name: the name of the field.
    """
    if dataclasses.is_dataclass(kind):
        found = next((field for field in dataclasses.fields(kind) if field.name == name), None)
        return "" if found is None or found.init else NOT_IN_CONSTRUCTOR
    fields: Mapping[str, Any] = getattr(kind, "model_fields", {})
    return EXCLUDED if name in fields and fields[name].exclude is True else ""
