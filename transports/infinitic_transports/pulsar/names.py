"""Names of topics and subscriptions as Pulsar takes them: any text is percent-encoded, so none collide."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from infinitic.topics import Ordering, Topic

DELAYED = "delayed:"
"""In front of a topic's name: at its end it could be the end of another one's name."""

FORWARDER = "forwarder"
_PARTITION = re.compile(r"-(partition-\d+)$")


def encode(name: str) -> str:
    """One path segment. What would look like a partition of another topic does not."""
    return _PARTITION.sub(r"%2D\1", quote(name, safe=""))


def delayed(topic: Topic) -> Topic:
    """Where messages of a KEYED topic wait until they are due."""
    return Topic(DELAYED + topic.name, Ordering.SHARED, FORWARDER)


class Names:
    """The names within one namespace."""

    __slots__ = ("_full", "_path")

    def __init__(self, tenant: str, namespace: str) -> None:
        self._full = f"persistent://{tenant}/{namespace}/"
        self._path = f"persistent/{tenant}/{namespace}/"

    def full(self, topic: Topic) -> str:
        """The name for producers and consumers."""
        return self._full + encode(topic.name)

    def path(self, topic: Topic) -> str:
        """The path of the REST resource, where the encoded name is encoded once more."""
        return self._path + quote(encode(topic.name), safe="")


def encode_subscription(name: str) -> str:
    """Without a percent sign: REST decodes a subscription twice, a topic once."""
    return quote(name, safe="").replace("%", "=")


def decode_subscription(name: str) -> str:
    """The name that was encoded."""
    return unquote(name.replace("=", "%"))
