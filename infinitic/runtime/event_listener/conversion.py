"""Makes the `CloudEvent` objects that listeners get. The library is imported when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from infinitic.errors import MissingDriverError
from infinitic.messages.cloud_events import DecodedEvent, decode
from infinitic.messages.decoding import UndecodableMessage

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent


class EventReader:
    """Reads the events of messages.

    Args:
        types: the types that matter; None: all.

    Raises:
        MissingDriverError: the library `cloudevents` is not installed.
    """

    def __init__(self, types: Collection[str] | None) -> None:
        try:
            library: Any = import_module("cloudevents.core.v1.event")
        except ImportError as error:
            raise MissingDriverError("An event listener", "events", str(error.name)) from error
        self._make: Callable[[dict[str, Any], dict[str, Any]], CloudEvent] = library.CloudEvent
        self._types = types

    def read(self, body: bytes) -> list[CloudEvent]:
        """Read those events of a message that matter.

        Raises:
            UndecodableMessage: these bytes are no batch of CloudEvents 1.0.
        """
        types = self._types
        return [self._convert(each) for each in decode(body) if types is None or each.type in types]

    def _convert(self, event: DecodedEvent) -> CloudEvent:
        try:
            event.attributes["time"] = datetime.fromisoformat(event.attributes["time"])
            return self._make(event.attributes, event.data)
        except Exception as error:
            raise UndecodableMessage(f"This is no CloudEvent: {error}") from error
