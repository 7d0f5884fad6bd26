"""The queues of the shelf as SQL. Everything here runs in a transaction, alone with the file.

A message is one row for each subscription that keeps it. It is *ready* if nobody has it in hand and
its time has come. What is not due yet is in a table of its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

from infinitic.topics import Ordering, Topic
from infinitic.transport import Delivery, Message, Peeked, SubscriptionStats, TopicStats, UnknownTopic

# AUTOINCREMENT never gives a number twice. Without it, a new message could get the number of one
# that was acknowledged, and an old acknowledgement would remove it.
SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, main TEXT);
CREATE TABLE IF NOT EXISTS subscriptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, name TEXT NOT NULL,
    keyed INTEGER NOT NULL, ephemeral INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS subscriptions_of_topic ON subscriptions (topic);
CREATE TABLE IF NOT EXISTS sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, port INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS consumers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, subscription INTEGER NOT NULL, session INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS messages (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, subscription INTEGER NOT NULL,
    id TEXT NOT NULL, key TEXT, body BLOB NOT NULL, headers TEXT NOT NULL, published_at REAL NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0, holder INTEGER, ready_at REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS messages_in_order ON messages (subscription, ready_at);
CREATE INDEX IF NOT EXISTS messages_of_key ON messages (subscription, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS messages_in_hand ON messages (holder) WHERE holder IS NOT NULL;
CREATE TABLE IF NOT EXISTS pending (
    number INTEGER PRIMARY KEY AUTOINCREMENT, due REAL NOT NULL, subscription INTEGER NOT NULL,
    id TEXT NOT NULL, key TEXT, body BLOB NOT NULL, headers TEXT NOT NULL, published_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS pending_by_time ON pending (due);
"""

CLAIM = """
SELECT sequence, id, key, body, headers, published_at, attempt FROM messages
WHERE subscription = :subscription AND holder IS NULL AND ready_at <= :now
ORDER BY ready_at, sequence LIMIT :limit
"""
"""What was given back comes after what was never handed out, so that it hides nothing."""

# The lane of a key is closed to a consumer while another one has a message of the key in hand, and
# behind a message that was given back and waits. A message is never before an earlier one of its
# key, so it has the latest time of all that are before it.
CLAIM_LANES = """
SELECT sequence, id, key, body, headers, published_at, attempt FROM messages AS mine
WHERE subscription = :subscription AND holder IS NULL AND ready_at <= :now
AND NOT EXISTS (
    SELECT 1 FROM messages AS other WHERE other.subscription = :subscription AND other.key = mine.key AND (
        other.holder <> :consumer
        OR (other.holder IS NULL AND other.ready_at > :now AND other.sequence < mine.sequence)
    )
)
ORDER BY coalesce((
    SELECT max(ready_at) FROM messages AS earlier WHERE earlier.subscription = :subscription
    AND earlier.key = mine.key AND earlier.holder IS NULL AND earlier.sequence <= mine.sequence
), ready_at), sequence LIMIT :limit
"""

SETTLED = "sequence = ? AND holder = ? AND attempt = ?"
"""The fence: only the delivery that is in hand now can be settled, and only by its holder."""

SAME = "subscription, id, key, body, headers, published_at"
"""What a pending message and a message have in common."""

MOVE = f"INSERT INTO messages ({SAME}) SELECT {SAME} FROM pending WHERE number = ?"

Claimed = tuple[list[Delivery], float]
"""Deliveries, and the time at which there may be more, in seconds since the Unix epoch."""


class Queues:
    """The verbs, on one connection to the file. `woken` are the sessions to wake afterwards."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.woken: set[int] = set()

    def declare(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            self._database.execute("INSERT OR IGNORE INTO topics VALUES (?, ?)", (topic.name, topic.subscription))
            if topic.subscription is not None:
                self._subscribe(topic, topic.subscription)

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        if not self._find("SELECT 1 FROM topics WHERE name = ?", topic.name):
            raise UnknownTopic(f"The topic {topic.name!r} was never declared, or its last subscriber left")
        for (subscription,) in self._find("SELECT id FROM subscriptions WHERE topic = ?", topic.name):
            for each in messages:
                columns = (
                    subscription, each.id, each.key, each.body, json.dumps(dict(each.headers)), now,
                )  # fmt: skip
                if each.deliver_at is None or each.deliver_at <= now:
                    self._database.execute(f"INSERT INTO messages ({SAME}) VALUES (?, ?, ?, ?, ?, ?)", columns)
                else:
                    values = (each.deliver_at, *columns)
                    self._database.execute(f"INSERT INTO pending (due, {SAME}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            self._wake(subscription)

    def join(self, session: int, topic: Topic, name: str, *, durable: bool) -> tuple[int, int]:
        """Returns the numbers of the subscription and of the new consumer."""
        if not self._find("SELECT 1 FROM topics WHERE name = ?", topic.name):
            if topic.subscription is not None:
                raise UnknownTopic(f"The topic {topic.name!r} was never declared")
            self.declare([topic])
        subscription = self._subscribe(topic, name, durable=durable)
        consumer = self._insert("INSERT INTO consumers (subscription, session) VALUES (?, ?)", subscription, session)
        return subscription, consumer

    def claim(self, subscription: int, consumer: int, limit: int, prefetch: int, now: float) -> Claimed:
        known = self._find("SELECT keyed FROM subscriptions WHERE id = ?", subscription)
        if not known:
            raise UnknownTopic("The topic of this consumer is gone: it was removed")
        self._release(now)
        ((in_hand,),) = self._find("SELECT count(*) FROM messages WHERE holder = ?", consumer)
        limit = max(0, min(limit, prefetch - in_hand, self._share(subscription, limit, now)))
        named = {"subscription": subscription, "consumer": consumer, "now": now, "limit": limit}
        claim = CLAIM_LANES if known[0][0] else CLAIM
        deliveries: list[Delivery] = []
        for sequence, id, key, body, headers, published_at, attempt in self._database.execute(claim, named).fetchall():
            self._database.execute(
                "UPDATE messages SET holder = ?, attempt = attempt + 1 WHERE sequence = ?", (consumer, sequence)
            )
            message = Message(id, key, body, json.loads(headers))
            deliveries.append(Delivery(message, attempt + 1, published_at, sequence))
        return deliveries, self._find_next_time(subscription, now)

    def ack(self, subscription: int, consumer: int, deliveries: Iterable[Delivery]) -> None:
        for each in deliveries:
            self._database.execute(f"DELETE FROM messages WHERE {SETTLED}", (each.token, consumer, each.attempt))
        self._wake(subscription)

    def nack(self, subscription: int, consumer: int, delivery: Delivery, ready_at: float) -> None:
        self._database.execute(
            f"UPDATE messages SET holder = NULL, ready_at = ? WHERE {SETTLED}",
            (ready_at, delivery.token, consumer, delivery.attempt),
        )
        self._wake(subscription)

    def leave(self, consumer: int) -> None:
        """Give back what a consumer has in hand, and remove it, with its ephemeral subscription."""
        found = self._find("SELECT subscription FROM consumers WHERE id = ?", consumer)
        self._database.execute("UPDATE messages SET holder = NULL WHERE holder = ?", (consumer,))
        self._database.execute("DELETE FROM consumers WHERE id = ?", (consumer,))
        for (subscription,) in found:
            self._wake(subscription)
            for (topic,) in self._find("SELECT topic FROM subscriptions WHERE id = ? AND ephemeral", subscription):
                self._remove_subscription(subscription)
                self._database.execute(
                    "DELETE FROM topics WHERE name = ? AND main IS NULL "
                    "AND NOT EXISTS (SELECT 1 FROM subscriptions WHERE topic = name)",
                    (topic,),
                )

    def end_session(self, session: int) -> None:
        for (consumer,) in self._find("SELECT id FROM consumers WHERE session = ?", session):
            self.leave(consumer)
        self._database.execute("DELETE FROM sessions WHERE id = ?", (session,))

    def list_sessions(self) -> list[int]:
        return [session for (session,) in self._find("SELECT id FROM sessions")]

    def add_session(self, port: int) -> int:
        return self._insert("INSERT INTO sessions (port) VALUES (?)", port)

    def remove(self, topic: Topic) -> None:
        """Remove a topic with all its messages."""
        for (subscription,) in self._find("SELECT id FROM subscriptions WHERE topic = ?", topic.name):
            self._wake(subscription)
            self._remove_subscription(subscription)
        self._database.execute("DELETE FROM topics WHERE name = ?", (topic.name,))

    def stats(self, topic: Topic, now: float) -> TopicStats:
        self._release(now)
        found: dict[str, SubscriptionStats] = {}
        for id, name, ephemeral in self._find(
            "SELECT id, name, ephemeral FROM subscriptions WHERE topic = ?", topic.name
        ):
            ((total, unacked, waiting),) = self._find(
                "SELECT count(*), count(holder), coalesce(sum(holder IS NULL AND ready_at > ?), 0) "
                "FROM messages WHERE subscription = ?",
                now, id,
            )  # fmt: skip
            ((pending,),) = self._find("SELECT count(*) FROM pending WHERE subscription = ?", id)
            ((consumers,),) = self._find("SELECT count(*) FROM consumers WHERE subscription = ?", id)
            found[f"{name}#{id}" if ephemeral else name] = SubscriptionStats(
                total - unacked - waiting, unacked, waiting + pending, consumers
            )
        return TopicStats(found)

    def peek(self, topic: Topic, name: str, limit: int, now: float) -> list[Peeked]:
        self._release(now)
        rows = self._find(
            "SELECT id, key, body, headers, published_at FROM messages WHERE subscription = "
            "(SELECT id FROM subscriptions WHERE topic = ? AND name = ? AND NOT ephemeral) ORDER BY sequence LIMIT ?",
            topic.name, name, limit,
        )  # fmt: skip
        return [Peeked(Message(id, key, body, json.loads(headers)), at) for id, key, body, headers, at in rows]

    def _subscribe(self, topic: Topic, name: str, *, durable: bool = True) -> int:
        known = self._find(
            "SELECT id FROM subscriptions WHERE topic = ? AND name = ? AND NOT ephemeral", topic.name, name
        )
        if durable and known:
            return int(known[0][0])
        return self._insert(
            "INSERT INTO subscriptions (topic, name, keyed, ephemeral) VALUES (?, ?, ?, ?)",
            topic.name, name, topic.ordering is Ordering.KEYED, not durable,
        )  # fmt: skip

    def _release(self, now: float) -> None:
        """Put what is due at the end of its queue: its place in the order of its key."""
        due = self._find("SELECT number, subscription FROM pending WHERE due <= ? ORDER BY due, number", now)
        for number, subscription in due:
            self._database.execute(MOVE, (number,))
            self._database.execute("DELETE FROM pending WHERE number = ?", (number,))
            self._wake(subscription)

    def _share(self, subscription: int, limit: int, now: float) -> int:
        """How many one consumer may take, so that the others that wait do not go without."""
        ((consumers,),) = self._find("SELECT count(*) FROM consumers WHERE subscription = ?", subscription)
        ((ready,),) = self._find(
            "SELECT count(*) FROM (SELECT 1 FROM messages "
            "WHERE subscription = ? AND holder IS NULL AND ready_at <= ? LIMIT ?)",
            subscription, now, limit * max(1, consumers),
        )  # fmt: skip
        share: int = -(-ready // max(1, consumers))
        return max(1, share)

    def _find_next_time(self, subscription: int, now: float) -> float:
        ((pending,),) = self._find("SELECT min(due) FROM pending WHERE subscription = ?", subscription)
        ((given_back,),) = self._find(
            "SELECT min(ready_at) FROM messages WHERE subscription = ? AND ready_at > ?", subscription, now
        )
        return min(pending or inf, given_back or inf)

    def _remove_subscription(self, subscription: int) -> None:
        for table, column in (("messages", "subscription"), ("pending", "subscription"), ("subscriptions", "id")):
            self._database.execute(f"DELETE FROM {table} WHERE {column} = ?", (subscription,))

    def _wake(self, subscription: int) -> None:
        sessions = self._find("SELECT DISTINCT session FROM consumers WHERE subscription = ?", subscription)
        self.woken.update(session for (session,) in sessions)

    def find_ports(self, sessions: Iterable[int]) -> list[int]:
        known = dict(self._find("SELECT id, port FROM sessions"))
        return [known[each] for each in sessions if each in known]

    def _find(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._database.execute(sql, values).fetchall()

    def _insert(self, sql: str, *values: object) -> int:
        number = self._database.execute(sql, values).lastrowid
        assert number is not None
        return number
