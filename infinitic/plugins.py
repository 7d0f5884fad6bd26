"""Transports and storages by the names that a configuration uses.

An adapter is found by an entry point in the group `infinitic.transports` or `infinitic.storages`. The name of the
entry point is the key in the configuration; it points to a `TransportPlugin` or a `StoragePlugin`, most simply the
adapter's class itself. Ours have no privilege. What wraps storages is found in `infinitic.storage_wrappers`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from infinitic.errors import ConfigurationError
from infinitic.storage import Storage
from infinitic.transport import Transport

TRANSPORTS = "infinitic.transports"
STORAGES = "infinitic.storages"
STORAGE_WRAPPERS = "infinitic.storage_wrappers"

T_co = TypeVar("T_co", covariant=True)


class Settings(BaseModel):
    """Base of the settings of an adapter: frozen, and nothing that is not declared.

    Give each field a `description` with its unit: the documentation is made of it. Durations are seconds, and their
    names end in `_seconds`. Secrets are `SecretStr`, and errors do not show what was given. Files that hold secrets
    (`…_file`), environment variables and camelCase keys are resolved before the settings are validated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Plugin(Protocol[T_co]):
    Settings: ClassVar[type[BaseModel]]
    """What stands under the adapter's key in the configuration."""

    @classmethod
    def from_settings(cls, settings: Any, *, deduplication_window: float) -> T_co:
        """Make an adapter. It connects when it is first used, not here.

        Args:
            settings: an instance of `Settings`.
            deduplication_window: seconds that messages, marks and remnants are kept.

        Raises `ConfigurationError` for what the settings alone show to be wrong.
        """
        ...


TransportPlugin = _Plugin[Transport]
StoragePlugin = _Plugin[Storage]


def transport_plugins() -> list[str]:
    """The names of the transports that are installed."""
    return _names(_points(TRANSPORTS))


def storage_plugins() -> list[str]:
    """The names of the storages that are installed."""
    return _names(_points(STORAGES))


def transport_plugin(name: str) -> TransportPlugin:
    """The transport of this name. Raises `ConfigurationError`, `MissingDriverError` if its driver is not installed."""
    return cast(TransportPlugin, _load("transport", TRANSPORTS, name))


def storage_plugin(name: str) -> StoragePlugin:
    """The storage of this name. Raises `ConfigurationError`, `MissingDriverError` if its driver is not installed."""
    return cast(StoragePlugin, _load("storage", STORAGES, name))


def storage_wrapper(name: str) -> Callable[[Storage, str], Storage]:
    """What stands between the engine and a storage, called with the storage and its setting."""
    return cast("Callable[[Storage, str], Storage]", _load("storage wrapper", STORAGE_WRAPPERS, name))


def _points(group: str) -> tuple[EntryPoint, ...]:
    return _installed(tuple(sys.path)).get(group, ())


@lru_cache(4)
def _installed(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """Our groups. Every distribution on `sys.path` is read for it, which takes milliseconds: so once for each path."""
    found = entry_points()
    return {group: tuple(found.select(group=group)) for group in (TRANSPORTS, STORAGES, STORAGE_WRAPPERS)}


def _names(points: Iterable[EntryPoint]) -> list[str]:
    return sorted({point.name for point in points})


def _load(kind: str, group: str, name: str) -> object:
    points = _points(group)
    for point in points:
        if point.name == name:
            try:
                return point.load()
            except ModuleNotFoundError as error:
                raise ConfigurationError(f"The {kind} '{name}' ({point.value}) cannot be loaded: {error}") from error
    known = _names(points)
    close = get_close_matches(name, known, 1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise ConfigurationError(f"There is no {kind} '{name}'{hint}; installed are {', '.join(known) or 'none'}")
