"""Parses what people type: JSON, instants, ``key=value``, and paths of workflow classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from infinitic.definitions.workflows import Workflow
from infinitic.errors import ConfigurationError, DecodingError, UsageError
from infinitic.importing import import_object
from infinitic.limits import MAX_VALUE_DEPTH, is_deeper

T = TypeVar("T")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_ANOTHER_VERSION = ": its caller knows another version of it"


def parse_json(option: str, text: str) -> Any:
    """Parse the value of an option that is JSON.

    Args:
        option: the option, for the message: ``--input``.
        text: its value.

    Raises:
        UsageError: it is not JSON, or is nested too deep to be sent.
    """
    try:
        # The depth is counted: how deep the decoder follows depends on the release of Python.
        if is_deeper(text.encode(), MAX_VALUE_DEPTH):
            raise UsageError(f"{option} takes JSON with at most {MAX_VALUE_DEPTH} levels; this has more")
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise UsageError(f"{option} takes JSON, got {shown!r}: {error}") from None


def encode_arguments(inputs: Sequence[str]) -> bytes:
    """Encode the values of ``--input`` as the arguments of a call, as messages have them.

    Args:
        inputs: one JSON array or object with all arguments, or one value for each argument.

    Raises:
        UsageError: a value is not JSON.
    """
    values = [parse_json("--input", text) for text in inputs]
    if len(values) == 1 and isinstance(values[0], list):
        return inputs[0].encode()
    if len(values) == 1 and isinstance(values[0], dict):
        return b'{"k":%b}' % inputs[0].encode()
    return b"[%b]" % b",".join(text.encode() for text in inputs)


def decode_input(decode: Callable[[bytes], T], data: bytes) -> T:
    """Decode JSON that a person typed, by type hints.

    Args:
        decode: the decoder of the type hints.
        data: the JSON.

    Raises:
        UsageError: the JSON does not fit the type hints.
    """
    try:
        return decode(data)
    except DecodingError as error:
        raise UsageError(str(error).removesuffix(_ANOTHER_VERSION)) from error
    except RecursionError:
        raise UsageError(f"--input takes JSON with at most {MAX_VALUE_DEPTH} levels; this has more") from None


def parse_instant(text: str, now: datetime | None = None, *, option: str = "--since") -> datetime:
    """Parse the value of ``--since``, or of another option of this kind.

    Args:
        text: a date and time in ISO 8601, local if it has no zone; or how long ago: ``90s``.
        now: the present; by default what the clock of this machine says.
        option: the name of the option, for the error.

    Raises:
        UsageError: it is neither.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    try:
        if match:
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[match[2]]: float(match[1])})
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{option} takes a date and time (2026-01-31T12:00Z) or a duration (90s, 15m, 2h, 7d), got {text!r}"
        ) from None


def parse_metadata(pairs: Sequence[str]) -> dict[str, bytes]:
    """Parse the values of ``--meta``.

    Args:
        pairs: texts of the form ``key=value``.

    Raises:
        UsageError: one of them has another form, or is not valid Unicode.
    """
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


def import_workflow(path: str) -> type[Workflow]:
    """Import a workflow class. Its module may be in the working directory.

    Args:
        path: ``shop.trip:Trip`` or ``shop.trip.Trip``.

    Raises:
        ConfigurationError: it cannot be imported, or is not a workflow class.
    """
    try:
        found = import_object(path)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error.__cause__
    if not (isinstance(found, type) and issubclass(found, Workflow)):
        raise ConfigurationError(f"{path} is not a workflow class: it does not derive from infinitic.Workflow")
    return found
