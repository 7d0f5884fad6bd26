"""What people type: JSON, durations, instants, ``key=value``, and the names of workflows and their methods."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import typer

from infinitic.definitions.workflows import Workflow
from infinitic.errors import ConfigurationError, DecodingError, UsageError
from infinitic.limits import MAX_VALUE_DEPTH, is_deeper
from infinitic.worker.importing import import_object

T = TypeVar("T")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = 1_000_000_000
"""Seconds that a command may be told to wait."""

_ANOTHER_VERSION = ": its caller knows another version of it"


def parsed(option: str, text: str) -> Any:
    """A JSON value. Raises `UsageError` that names the option."""
    try:
        # Counted, not tried: how deep the decoder follows depends on the release of Python.
        if is_deeper(text.encode(), MAX_VALUE_DEPTH):
            raise UsageError(f"{option} takes JSON, and this is nested too deep")
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise UsageError(f"{option} takes JSON, got {shown!r}: {error}") from None


def seconds(text: str) -> float:
    """A number of seconds above zero, for an option. Raises `typer.BadParameter`."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0.001 <= found <= LONGEST:  # NaN is neither
        raise typer.BadParameter(f"{text!r} is no number of seconds between 0.001 and {LONGEST:,}")
    return found


def text(value: str) -> str:
    """A text that can be sent, for an option. Raises `typer.BadParameter` for one that is not valid Unicode."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{value!r} is not text in the encoding of this terminal") from None
    return value


def arguments(inputs: Sequence[str]) -> bytes:
    """The wire form of ``--input``: one array or object holds all arguments, else each is a positional one."""
    values = [parsed("--input", text) for text in inputs]
    if len(values) == 1 and isinstance(values[0], list):
        return inputs[0].encode()
    if len(values) == 1 and isinstance(values[0], dict):
        return b'{"k":%b}' % inputs[0].encode()
    return b"[%b]" % b",".join(text.encode() for text in inputs)


def checked(decode: Callable[[bytes], T], data: bytes) -> T:
    """What the type hints make of JSON that a person typed. Raises `UsageError` if it does not fit."""
    try:
        return decode(data)
    except DecodingError as error:
        raise UsageError(str(error).removesuffix(_ANOTHER_VERSION)) from error
    except RecursionError:
        raise UsageError("--input is nested too deep") from None


def since(text: str, now: datetime | None = None) -> datetime:
    """An instant: ISO 8601 (local time unless it has a zone), or a duration before now: ``90s``, ``2h``, ``7d``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    try:
        if match:
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[match[2]]: float(match[1])})
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"--since takes a date and time (2026-01-31T12:00Z) or a duration (90s, 15m, 2h, 7d), got {text!r}"
        ) from None


def metadata(pairs: Sequence[str]) -> dict[str, bytes]:
    """What ``--meta key=value`` says."""
    found: dict[str, bytes] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not key or not sign:
            raise UsageError(f"--meta takes key=value, got {pair!r}")
        try:
            key.encode()
            found[key] = value.encode()
        except UnicodeEncodeError:
            raise UsageError(f"--meta takes text, got {pair!r}") from None
    return found


def imported(path: str) -> type[Workflow]:
    """A workflow class by its path, ``shop.trip:Trip`` or ``shop.trip.Trip``; it may be in the working directory."""
    try:
        found = import_object(path)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error.__cause__
    if not (isinstance(found, type) and issubclass(found, Workflow)):
        raise ConfigurationError(f"{path} is no workflow class: it does not derive from infinitic.Workflow")
    return found
