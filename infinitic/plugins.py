"""Finds transports and storages by the names that a configuration uses.

An adapter registers with an entry point in the group `infinitic.transports` or
`infinitic.storages`. The name of the entry point is the key in the configuration. It points to a
`TransportPlugin` or a `StoragePlugin`; most simply that is the class of the adapter. The adapters
of this project are found in the same way. What wraps every storage, such as compression, is in the
group `infinitic.storage_wrappers`.
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
    """The base class for the settings of an adapter: frozen, and without other fields.

    Give each field a `description` with its unit: the documentation is generated from it.
    Durations are in seconds, and their names end in `_seconds`. Secrets are `SecretStr`; errors do
    not show what was given. Secret files (`password_file`), environment variables and keys in
    camelCase are resolved before the settings are validated. ::

        class ShelfSettings(Settings):
            path: Path = Field(description="The folder of the shelf")
            timeout_seconds: float = Field(5.0, description="Seconds to wait for its lock")
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Plugin(Protocol[T_co]):
    """What the entry point of an adapter points to."""

    Settings: ClassVar[type[BaseModel]]
    """The keys that may stand in the section of the adapter."""

    @classmethod
    def from_settings(cls, settings: Any, *, deduplication_window: float) -> T_co:
        """Make an adapter. It connects when it is first used, not here.

        Args:
            settings: an instance of `Settings`.
            deduplication_window: how long, in seconds, unacknowledged messages, deduplication ids
                and remnants are kept.

        Raises:
            ConfigurationError: the settings alone show that it cannot work.
        """
        ...


TransportPlugin = _Plugin[Transport]
StoragePlugin = _Plugin[Storage]


def list_transports() -> list[str]:
    """List the names of the transports that are installed."""
    return _list_names(_find_entry_points(TRANSPORTS))


def list_storages() -> list[str]:
    """List the names of the storages that are installed."""
    return _list_names(_find_entry_points(STORAGES))


def load_transport_plugin(name: str) -> TransportPlugin:
    """Load the transport of this name.

    Raises:
        ConfigurationError: there is none, or it cannot be imported.
        MissingDriverError: its driver is not installed.
    """
    return cast(TransportPlugin, _load("transport", TRANSPORTS, name))


def load_storage_plugin(name: str) -> StoragePlugin:
    """Load the storage of this name. Raises as `load_transport_plugin`."""
    return cast(StoragePlugin, _load("storage", STORAGES, name))


def load_storage_wrapper(name: str) -> Callable[[Storage, str], Storage]:
    """Load what wraps a storage. It is called with the storage and its setting.

    Raises as `load_transport_plugin`.
    """
    return cast("Callable[[Storage, str], Storage]", _load("storage wrapper", STORAGE_WRAPPERS, name))


def _find_entry_points(group: str) -> tuple[EntryPoint, ...]:
    return _read_entry_points(tuple(sys.path)).get(group, ())


@lru_cache(4)
def _read_entry_points(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """Read the entry points of our groups.

    That reads every distribution on `sys.path`, which takes milliseconds. So it is done once for
    each path.
    """
    found = entry_points()
    return {group: tuple(found.select(group=group)) for group in (TRANSPORTS, STORAGES, STORAGE_WRAPPERS)}


def _list_names(points: Iterable[EntryPoint]) -> list[str]:
    return sorted({point.name for point in points})


def _load(kind: str, group: str, name: str) -> object:
    points = _find_entry_points(group)
    for point in points:
        if point.name == name:
            try:
                return point.load()
            except ModuleNotFoundError as error:
                raise ConfigurationError(f"The {kind} '{name}' ({point.value}) cannot be loaded: {error}") from error
    known = _list_names(points)
    close = get_close_matches(name, known, 1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise ConfigurationError(f"There is no {kind} '{name}'{hint}; installed are: {', '.join(known) or 'none'}")
