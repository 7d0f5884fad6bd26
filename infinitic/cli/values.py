"""What people type: JSON, durations, instants, ``key=value``, and the names of workflows and their methods."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from infinitic.errors import ConfigurationError, DecodingError, UsageError
from infinitic.replay.spec import MethodSpec, WorkflowSpec, spec_of
from infinitic.workflows import Workflow

T = TypeVar("T")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ANOTHER_VERSION = ": its caller knows another version of it"


def parsed(option: str, text: str) -> Any:
    """A JSON value. Raises `UsageError` that names the option."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise UsageError(f"{option} takes JSON, got {shown!r}: {error}") from None


def arguments(inputs: Sequence[str]) -> bytes:
    """The wire form of ``--input``: one array or object holds all arguments, else each is a positional one."""
    values = [parsed("--input", text) for text in inputs]
    if len(values) == 1 and isinstance(values[0], list):
        return inputs[0].encode()
    if len(values) == 1 and isinstance(values[0], dict):
        return b'{"k":%b}' % inputs[0].encode()
    return b"[%b]" % b",".join(text.encode() for text in inputs)


def checked(decode: Callable[[bytes], T], data: bytes, hint: str = "") -> T:
    """What the type hints make of JSON that a person typed. Raises `UsageError` if it does not fit."""
    try:
        return decode(data)
    except DecodingError as error:
        raise UsageError(str(error).removesuffix(_ANOTHER_VERSION) + hint) from error


def since(text: str, now: datetime | None = None) -> datetime:
    """An instant: ISO 8601 (local time unless it has a zone), or a duration before now: ``90s``, ``2h``, ``7d``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    try:
        if match:
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[match[2]]: float(match[1])})
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
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
        found[key] = value.encode()
    return found


def imported(path: str) -> type[Workflow]:
    """A workflow class by its path, ``shop.trip:Trip`` or ``shop.trip.Trip``; it may be in the working directory."""
    module_name, _, name = path.rpartition(":" if ":" in path else ".")
    if not module_name or not name:
        raise UsageError(f"{path!r} is no path of a class: write module:Class")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{path}: the module cannot be imported: {error}") from error
    except Exception as error:
        raise ConfigurationError(f"{path}: importing the module raised {type(error).__name__}: {error}") from error
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, Workflow)):
        raise ConfigurationError(f"{path}: there is no workflow class '{name}' in {module_name}")
    return found


def method_of(cls: type[Workflow], name: str) -> tuple[WorkflowSpec, MethodSpec]:
    """A method of a workflow, by the name of its attribute or the one in messages."""
    spec = spec_of(cls)
    method = spec.attributes.get(name) or spec.methods.get(name)
    if method is None:
        raise UsageError(
            f"The workflow {spec.name} has no method '{name}'; it has {', '.join(sorted(spec.attributes))}"
        )
    return spec, method
