"""Datetimes and times as text that keeps time zones, names of offsets, and folds.

ISO 8601 has no place for these.

After the offset stand suffixes in brackets, as RFC 9557 has them:
``2030-07-01T12:00:00+02:00[Europe/Paris]``. Those that begin with ``_`` are our own:
``[_name=CEST]`` names a fixed offset, ``[_fold=1]`` is a fold that the offset does not tell.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable
from datetime import datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_SUFFIXES = re.compile(r"(\[[^\]]+\]){1,3}")
_NAME, _FOLD = "_name=", "_fold="
NO_SUFFIX = "no zone behind it"


_timezones: dict[Any, timezone] = {}


def standardize(moment: Any) -> Any:
    """The datetime or time, with a plain offset.

    Its `tzinfo` is a `datetime.timezone` if its offset is one that pydantic made of text.
    """
    zone = moment.tzinfo
    if zone is None or not _is_of_pydantic(zone.__class__):
        return moment
    offset = _timezones.get(zone)
    if offset is None:
        offset = _timezones[zone] = timezone(zone.utcoffset(None))  # one for each minute of the day, at most
    m = moment  # its `replace` would take four times as long
    if type(m) is datetime:
        return datetime(m.year, m.month, m.day, m.hour, m.minute, m.second, m.microsecond, offset)
    return time(m.hour, m.minute, m.second, m.microsecond, offset) if type(m) is time else m


def write_moment(moment: datetime | time) -> str | None:
    """Write a datetime or time as text with suffixes; None if plain ISO 8601 keeps all of it."""
    zone = moment.tzinfo
    suffix = ""
    if isinstance(zone, ZoneInfo) and zone.key:
        suffix = f"[{zone.key}]"
    elif type(zone) is timezone and zone.tzname(None) != timezone(zone.utcoffset(None)).tzname(None):
        suffix = f"[{_NAME}{zone.tzname(None)}]"
    text = moment.isoformat() + suffix
    if moment.fold:
        kind = datetime if isinstance(moment, datetime) else time
        if not suffix or not read_moment(kind, text).fold:
            suffix += f"[{_FOLD}1]"
            text += f"[{_FOLD}1]"
    return text if suffix else None


def remove_suffix(text: str) -> str:
    """The text of a datetime or time as pydantic writes it alone; any other text as it is."""
    plain, bracket, _ = text.partition("[")
    if not bracket or not plain or not _SUFFIXES.fullmatch(text, len(plain)):
        return text
    return plain[:-6] + "Z" if plain.endswith("+00:00") else plain


def read_moment(kind: type[datetime] | type[time], text: object) -> Any:
    """Read a datetime or time from text with suffixes.

    Where the rules of a zone have changed since, the time of day is kept and the instant moves, as
    in any program that holds such a datetime.

    Args:
        kind: the class to read: `datetime` or `time`.
        text: the text, as `write_moment` wrote it.

    Raises:
        ValueError: the text is no such thing, or the zone is unknown here.
    """
    plain, bracket, _ = text.partition("[") if isinstance(text, str) else ("", "", "")
    if not bracket:
        raise ValueError(NO_SUFFIX)
    assert isinstance(text, str)
    if not _SUFFIXES.fullmatch(text, len(plain)):
        raise ValueError(f"what stands behind {plain!r} is no suffix in brackets")
    moment: Any = kind.fromisoformat(plain)
    for suffix in text[len(plain) + 1 : -1].split("]["):
        if suffix.startswith(_FOLD):
            moment = moment.replace(fold=1)
        elif suffix.startswith(_NAME):
            moment = moment.replace(tzinfo=timezone(_read_offset(moment), suffix[len(_NAME) :]))
        else:
            moment = _move_to_zone(moment, suffix)
    return moment


def _read_offset(moment: Any) -> timedelta:
    offset: timedelta | None = moment.utcoffset()
    if offset is None:
        raise ValueError("a name stands behind an offset")
    return offset


def _move_to_zone(moment: Any, key: str) -> Any:
    try:
        zone = ZoneInfo(key)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"the time zone '{key}' is not known here: pip install tzdata") from None
    first = moment.replace(tzinfo=zone, fold=0)
    if moment.utcoffset() is None or first.utcoffset() == moment.utcoffset():
        return first
    second = moment.replace(tzinfo=zone, fold=1)
    return second if second.utcoffset() == moment.utcoffset() else first


def is_same_moment(sent: Any, arrived: Any) -> bool:
    """Tell whether two datetimes or times are the same, with zone and fold.

    Args:
        sent: what was sent.
        arrived: what arrived.
    """
    one, other = sent.tzinfo, arrived.tzinfo
    if one is not other and _zone_key(one) != _zone_key(other):
        return False
    if sent.fold != arrived.fold:
        return False
    return bool(sent == arrived if one is other else sent.replace(tzinfo=None) == arrived.replace(tzinfo=None))


def _zone_key(zone: Any) -> object:
    """What is the same for two tzinfos that are."""
    if isinstance(zone, ZoneInfo):
        return type(zone), zone.key or id(zone)
    if type(zone) is timezone:
        return timezone, zone.utcoffset(None), zone.tzname(None)
    if _is_of_pydantic(zone.__class__):  # arrives as the standard one
        return timezone, zone.utcoffset(None), timezone(zone.utcoffset(None)).tzname(None)
    return zone


@functools.lru_cache(64)
def _is_of_pydantic(kind: Hashable) -> bool:
    """True for the class of offsets that pydantic makes of text.

    By name: here pydantic is not imported.
    """
    return isinstance(kind, type) and kind.__name__ == "TzInfo" and kind.__module__.startswith("pydantic_core")
