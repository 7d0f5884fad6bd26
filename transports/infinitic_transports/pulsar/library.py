"""Loads the client library, and checks that it has what this adapter needs.

The adapter uses `_pulsar`, the module that the public ones of pulsar-client wrap.
docs/performance.md says why, with figures. That module may change with any release. So the version
is bounded in pyproject.toml, and the installed library is tried out here: at the start, and not
under load.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from infinitic.errors import ConfigurationError, MissingDriverError, UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message
from infinitic_transports.pulsar.configuration import (
    make_client_configuration,
    make_consumer_configuration,
    make_producer_configuration,
    make_reader_configuration,
    make_start,
)
from infinitic_transports.pulsar.outgoing import build_message
from infinitic_transports.pulsar.settings import Compression, LogLevel, ProducerOptions, PulsarSettings

SUPPORTED = ">=3.13,<3.14"
"""The releases of pulsar-client that this adapter was tested with, as in pyproject.toml."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "AuthenticationAthenz": ("create",),
    "AuthenticationBasic": ("create",),
    "AuthenticationOauth2": ("create",),
    "AuthenticationTLS": ("create",),
    "AuthenticationToken": ("create",),
    "Client": ("close", "create_producer_async_v2", "create_reader_async_v2", "shutdown", "subscribe_async_v2"),
    "Consumer": ("acknowledge_async", "close_async", "is_connected", "receive_async"),
    "Message": (
        "data",
        "length",
        "message_id",
        "partition_key",
        "properties",
        "publish_timestamp",
        "redelivery_count",
    ),
    "MessageId": ("entry_id", "ledger_id", "serialize"),
    "Producer": ("close_async", "is_connected", "send_async"),
    "Reader": ("close_async", "is_connected", "read_next_async"),
    "Result": ("Ok",),
}
"""Methods of the objects that the library makes. `_try_out` calls the rest."""


def load_module(module: str) -> Any:
    """Import a module of a driver.

    Args:
        module: the name of the module.

    Raises:
        MissingDriverError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDriverError("The transport 'pulsar'", "pulsar", module) from error


def load_library() -> Any:
    """Import the client library.

    Raises:
        MissingDriverError: it is not installed.
        ConfigurationError: its release lacks something that this adapter needs.
    """
    return _check_library(load_module("_pulsar"))


@cache
def _check_library(library: Any) -> Any:
    needed = ((name, method) for name, methods in NEEDED.items() for method in methods)
    lacks = next(
        (f"{name}.{method}" for name, method in needed if not hasattr(_get_class(library, name), method)), None
    )
    if lacks is not None:
        raise _make_unfit_error(f"lacks {lacks}")
    try:
        _try_out(library)
    except (AttributeError, TypeError, UsageError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise _make_unfit_error(f"is not as it was: {reason}") from error
    return library


def _get_class(library: Any, name: str) -> object:
    return getattr(library, name, None)


def _try_out(library: Any) -> None:
    """Make everything that can be made without a broker."""
    for level in LogLevel:
        make_client_configuration(
            library, PulsarSettings.model_validate({"client": {"log_level": level, "listener_name": "x"}})
        )
    for kind in Compression:
        make_producer_configuration(library, ProducerOptions(compression=kind), batching=True, timeout=1.0)
    for keyed in (True, False):
        make_consumer_configuration(library, keyed=keyed, queue=1, partitions=1)
    make_reader_configuration(library, "name", queue=1)
    for after in (None, (1, 2)):
        make_start(library, after).serialize()
    build_message(library, Message("id", "key", b"", {"name": "value"}), Topic("topic", Ordering.KEYED, None), 1.0)


def _make_unfit_error(what: str) -> ConfigurationError:
    try:
        installed = version("pulsar-client")
    except PackageNotFoundError:
        installed = "of unknown version"
    return ConfigurationError(
        f"pulsar-client {installed} is installed, which {what}: this release of Infinitic needs another one, "
        f"pip install 'pulsar-client{SUPPORTED}'"
    )
