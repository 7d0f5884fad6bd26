"""Finds transports and storages by the names that a configuration uses.

An adapter registers with an entry point in the group `infinitic.transports` or
`infinitic.storages`. The name of the entry point is the key in the configuration. It points to a
`TransportPlugin` or a `StoragePlugin`; most simply that is the class of the adapter. The adapters
of this project are found in the same way. What wraps every storage, such as compression, is in the
group `infinitic.storage_wrappers`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from infinitic.errors import ConfigurationError
from infinitic.importing import describe_error
from infinitic.storage import Storage
from infinitic.transport import Transport

TRANSPORTS = "infinitic.transports"
STORAGES = "infinitic.storages"
STORAGE_WRAPPERS = "infinitic.storage_wrappers"

_NEEDED = ("Settings", "from_settings")
"""What the adapter of an entry point must have."""

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
            deduplication_window: in seconds. A transport keeps a message that nobody acknowledges
                at least that long, counted from its publish, and may then drop it: engines refuse
                what is older and may be a duplicate. A storage keeps deduplication ids and
                remnants that long.

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
        ConfigurationError: there is none, it cannot be imported, or it is no adapter.
        MissingDriverError: its driver is not installed.
    """
    return cast(TransportPlugin, _load("transport", TRANSPORTS, name, _NEEDED))


def load_storage_plugin(name: str) -> StoragePlugin:
    """Load the storage of this name. Raises as `load_transport_plugin`."""
    return cast(StoragePlugin, _load("storage", STORAGES, name, _NEEDED))


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


def _load(kind: str, group: str, name: str, needs: Iterable[str] = ()) -> Any:
    """Load what an entry point names. Whatever that raises, the error is one sentence.

    Args:
        kind: what is loaded, for the error.
        group: of the entry point.
        name: of the entry point.
        needs: the attributes that it must have; without any, it must be callable.
    """
    points = _find_entry_points(group)
    for point in points:
        if point.name == name:
            found = _import(kind, point)
            _check(kind, point, found, needs)
            return found
    known = _list_names(points)
    close = get_close_matches(name, known, 1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise ConfigurationError(f"There is no {kind} '{name}'{hint}; installed are: {', '.join(known) or 'none'}")


def _import(kind: str, point: EntryPoint) -> object:
    try:
        return point.load()
    except ConfigurationError:
        # It says itself what is wrong, for instance that a driver is missing.
        raise
    except (Exception, SystemExit) as error:
        if _is_stale(point, error):
            why = f"{error}. The entry point is stale: install {_name_owner(point)} again"
        else:
            why = f"importing it raised {describe_error(error)}"
        raise ConfigurationError(f"{_name(kind, point)} cannot be loaded: {why}") from error


def _is_stale(point: EntryPoint, error: BaseException) -> bool:
    """True if the entry point itself names a module or an attribute that does not exist."""
    if isinstance(error, ModuleNotFoundError):
        return error.name is not None and f"{point.module}.".startswith(f"{error.name}.")
    # `load` looks up the attribute in the module, which is imported by then.
    return isinstance(error, AttributeError) and error.obj is sys.modules.get(point.module)


def _check(kind: str, point: EntryPoint, found: Any, needs: Iterable[str]) -> None:
    """Check that what was loaded can be used as an adapter, before anybody calls it."""
    missing = [each for each in needs if not hasattr(found, each)]
    wrong: str | None
    if missing:
        wrong = f"it has no {' and no '.join(missing)}: an entry point must name the class of the adapter"
    elif not needs:
        wrong = None if callable(found) else "it cannot be called"
    elif not (isinstance(found.Settings, type) and issubclass(found.Settings, BaseModel)):
        wrong = "its Settings is not a subclass of infinitic.plugins.Settings"
    else:
        wrong = _find_fault_of_maker(found.from_settings)
    if wrong is not None:
        raise ConfigurationError(f"{_name(kind, point)} cannot be used: {wrong}")


def _find_fault_of_maker(make: Any) -> str | None:
    """Say why `from_settings` cannot be called as it is called; None if it can."""
    try:
        inspect.signature(make).bind(object(), deduplication_window=0.0)
    except TypeError as error:
        wanted = "from_settings(settings, *, deduplication_window)"
        return f"{wanted} cannot be called ({error}). Was it made for this release?"
    except ValueError:
        # It is written in C, and does not tell.
        return None
    return None


def _name(kind: str, point: EntryPoint) -> str:
    """Name an entry point, with where it points to and what installed it."""
    return f"The {kind} '{point.name}' ({point.value}, of {_name_owner(point)})"


def _name_owner(point: EntryPoint) -> str:
    return "an unknown distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"
