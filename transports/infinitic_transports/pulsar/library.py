"""Loads the client library, and checks that it has what this adapter needs of it.

The adapter uses `_pulsar`, which the public modules of pulsar-client wrap: docs/performance.md says why, with figures.
That part may change with any release. So the version is bounded in pyproject.toml, and what is installed all the same
is tried here, at the start, and not under load.
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
from infinitic_transports.pulsar.configuration import connection, consuming, place, producing, reading
from infinitic_transports.pulsar.outgoing import build
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
    "MessageId": ("serialize",),
    "Producer": ("close_async", "is_connected", "send_async"),
    "Reader": ("close_async", "is_connected", "read_next_async"),
    "Result": ("Ok",),
}
"""What is called of what the library makes. `_try_out` calls the rest."""


def load(module: str) -> Any:
    """A module of a driver. Raises `MissingDriverError` if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDriverError("The transport 'pulsar'", "pulsar", module) from error


def load_library() -> Any:
    """The client library. Raises `MissingDriverError`, or `ConfigurationError` for a release that will not do."""
    return _checked(load("_pulsar"))


@cache
def _checked(library: Any) -> Any:
    lacks = next(
        (f"{name}.{verb}" for name, verbs in NEEDED.items() for verb in verbs if not hasattr(_of(library, name), verb)),
        None,
    )
    if lacks is not None:
        raise _unfit(f"lacks {lacks}")
    try:
        _try_out(library)
    except (AttributeError, TypeError, UsageError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise _unfit(f"is not as it was: {reason}") from error
    return library


def _of(library: Any, name: str) -> object:
    return getattr(library, name, None)


def _try_out(library: Any) -> None:
    """Make all that is made without a broker."""
    for level in LogLevel:
        connection(library, PulsarSettings.model_validate({"client": {"log_level": level, "listener_name": "x"}}))
    for kind in Compression:
        producing(library, ProducerOptions(compression=kind), batching=True, timeout=1.0)
    for keyed in (True, False):
        consuming(library, keyed=keyed, queue=1, partitions=1)
    reading(library, "name", queue=1)
    for after in (None, (1, 2)):
        place(library, after).serialize()
    build(library, Message("id", "key", b"", {"name": "value"}), Topic("topic", Ordering.KEYED, None), 1.0)


def _unfit(what: str) -> ConfigurationError:
    try:
        installed = version("pulsar-client")
    except PackageNotFoundError:
        installed = "of unknown version"
    return ConfigurationError(
        f"pulsar-client {installed} is installed, which {what}: this release of Infinitic needs another one, "
        f"pip install 'pulsar-client{SUPPORTED}'"
    )
