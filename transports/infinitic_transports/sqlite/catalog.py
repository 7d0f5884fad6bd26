"""What exists: topics, subscriptions, consumers and sessions. Read when it is first needed.

`infinitic_broker.catalog` counts the changes of all processes. When it has moved on, everything
that was read is forgotten.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic


class KnownSubscription(NamedTuple):
    """A subscription of a topic.

    Attributes:
        id: its number.
        name: its name; that of an ephemeral one ends in its number.
        consumer: the only consumer of an ephemeral subscription.
    """

    id: int
    name: str
    consumer: int | None


class KnownTopic(NamedTuple):
    """A topic, with the subscriptions for which messages are kept."""

    id: int
    topic: Topic
    subscriptions: tuple[KnownSubscription, ...]


class BrokerCatalog:
    """What exists, as of a version."""

    def __init__(self) -> None:
        self.version = -1
        self._topics: dict[str, KnownTopic | None] = {}
        self._consumers: dict[int, tuple[str, ...]] = {}

    def move(self, version: int) -> bool:
        """Note the version of now. True if what was read before is forgotten."""
        if version == self.version:
            return False
        self.version = version
        self._topics.clear()
        self._consumers.clear()
        return True

    def find_topic(self, connection: sqlite3.Connection, name: str) -> KnownTopic | None:
        """Find a topic by its name.

        Args:
            connection: where it is looked for, if it is not known yet.
            name: the name.
        """
        if name not in self._topics:
            self._topics[name] = read_topic(connection, name)
        return self._topics[name]

    def list_holders(self, connection: sqlite3.Connection, subscription: int) -> tuple[str, ...]:
        """List the sessions of the consumers of a subscription, one entry for each consumer.

        Args:
            connection: where they are looked for, if they are not known yet.
            subscription: its number.
        """
        found = self._consumers.get(subscription)
        if found is None:
            rows = connection.execute(
                "SELECT s.name FROM infinitic_consumers c JOIN infinitic_sessions s ON s.id = c.session "
                "WHERE c.subscription = ?",
                (subscription,),
            ).fetchall()
            found = self._consumers[subscription] = tuple(row[0] for row in rows)
        return found


def read_topic(connection: sqlite3.Connection, name: str) -> KnownTopic | None:
    """Read a topic by its name; None if there is none."""
    row = connection.execute(
        "SELECT id, ordering, main FROM infinitic_topics WHERE name = ?", (encode_text(name),)
    ).fetchone()
    if row is None:
        return None
    number, ordering, main = row
    rows = connection.execute(
        "SELECT id, name, consumer FROM infinitic_subscriptions WHERE topic = ? ORDER BY id", (number,)
    ).fetchall()
    topic = Topic(name, Ordering(ordering), None if main is None else bytes(main).decode())
    return KnownTopic(number, topic, tuple(KnownSubscription(id, bytes(text).decode(), who) for id, text, who in rows))


def encode_text(text: str) -> bytes:
    """Encode a name or a key. They are bytes in the file, so that they are compared exactly.

    Raises:
        UsageError: the text is not Unicode.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{text!r} is not Unicode text: {error.reason}") from error
