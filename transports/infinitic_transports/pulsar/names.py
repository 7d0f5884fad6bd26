"""Names of topics and subscriptions as Pulsar takes them: percent-encoded, so that none collide."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from infinitic.topics import Ordering, Topic

DELAYED = "delayed:"
"""Stands in front of the name of a topic: at its end, it could be part of another name."""

FORWARDER = "forwarder"
_PARTITION = re.compile(r"-(partition-\d+)$")


def encode_topic(name: str) -> str:
    """Encode a name as one path segment that does not look like a partition of another topic."""
    return _PARTITION.sub(r"%2D\1", quote(name, safe=""))


def derive_delayed_topic(topic: Topic) -> Topic:
    """The topic where messages of a KEYED topic wait until they are due."""
    return Topic(DELAYED + topic.name, Ordering.SHARED, FORWARDER)


class Names:
    """The names within one namespace."""

    __slots__ = ("_full", "_path")

    def __init__(self, tenant: str, namespace: str) -> None:
        self._full = f"persistent://{tenant}/{namespace}/"
        self._path = f"persistent/{tenant}/{namespace}/"

    def full(self, topic: Topic) -> str:
        """The name for producers and consumers."""
        return self._full + encode_topic(topic.name)

    def path(self, topic: Topic) -> str:
        """The path of the REST resource, where the encoded name is encoded once more."""
        return self._path + quote(encode_topic(topic.name), safe="")


def encode_subscription(name: str) -> str:
    """Encode the name of a subscription, without percent signs.

    REST decodes the name of a subscription twice, and that of a topic once.
    """
    return quote(name, safe="").replace("%", "=")


def decode_subscription(name: str) -> str:
    """The inverse of `encode_subscription`."""
    return unquote(name.replace("=", "%"))
