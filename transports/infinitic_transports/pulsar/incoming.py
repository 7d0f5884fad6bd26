"""Messages as they come from the client library: the inverse of `outgoing`."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_transports.pulsar.client import RawMessage
from infinitic_transports.pulsar.outgoing import DUE, ID, KEY, is_own_header

T = TypeVar("T")

_logger = logging.getLogger("infinitic.transports.pulsar")


def read_message(raw: RawMessage, topic: Topic) -> Message:
    """Read what the publisher sent.

    Args:
        raw: the message of the library.
        topic: where it came from, for the log.
    """
    headers = _decode(raw.properties, dict[str, str](), topic)
    key: str | None
    match headers.get(KEY):
        case None:
            key = _decode(raw.partition_key, "", topic)
        case "none":
            key = None
        case _:
            key = ""
    message_id, body = headers.get(ID, ""), raw.data()
    if len(headers) == 1 and message_id:
        return Message(message_id, key, body)
    due = _parse_due(headers[DUE], topic) if DUE in headers else 0.0
    others = {name: value for name, value in headers.items() if not is_own_header(name)}
    return Message(message_id, key, body, others, due or None)


def _decode(read: Callable[[], T], otherwise: T, topic: Topic) -> T:
    try:
        return read()
    except UnicodeDecodeError as error:
        _logger.warning("A message on %s has a key or headers that are not UTF-8: %s", topic.name, error)
        return otherwise


def _parse_due(text: str, topic: Topic) -> float:
    """When a message is due. At once if its header is no time: then it is not from this adapter."""
    try:
        due = float(text)
    except ValueError:
        due = math.nan
    if math.isfinite(due):
        return due
    _logger.warning("A message on %s has the due time %r, which is not a time: it comes at once", topic.name, text[:40])
    return 0.0
