"""What is read for people: counts, and messages that are looked at."""

from __future__ import annotations

import sqlite3

from infinitic.topics import Topic
from infinitic.transport import Peeked, SubscriptionStats, TopicStats
from infinitic_transports.sqlite.catalog import read_topic
from infinitic_transports.sqlite.claiming import decode_message

_LOOSE = "SELECT count(*), count(consumer), 0 FROM infinitic_queue WHERE subscription = :id AND lane IS NULL"
_IN_LANES = (
    "SELECT count(*), count(q.consumer), coalesce(sum(q.consumer IS NULL AND q.due > :now), 0) "
    "FROM infinitic_lanes l JOIN infinitic_queue q ON q.lane = l.id WHERE l.subscription = :id"
)
_PENDING = "SELECT count(*) FROM infinitic_pending WHERE subscription = :id"
_CONSUMERS = "SELECT count(*) FROM infinitic_consumers WHERE subscription = :id"
_PEEK = (
    "SELECT b.name, b.key, b.body, b.headers, b.published_at FROM (SELECT body FROM infinitic_queue "
    "WHERE subscription = :id AND lane IS NULL UNION ALL SELECT q.body FROM infinitic_lanes l "
    "JOIN infinitic_queue q ON q.lane = l.id WHERE l.subscription = :id ORDER BY 1 LIMIT :limit) AS q "
    "JOIN infinitic_bodies b ON b.id = q.body ORDER BY b.id"
)


def read_stats(connection: sqlite3.Connection, topic: Topic, now: float) -> TopicStats:
    """Count the messages and consumers of a topic.

    Args:
        connection: a connection.
        topic: any topic.
        now: seconds since the Unix epoch.
    """
    known = read_topic(connection, topic.name)
    found: dict[str, SubscriptionStats] = {}
    for subscription in known.subscriptions if known is not None else ():
        values = {"id": subscription.id, "now": now}
        rows = [connection.execute(each, values).fetchone() for each in (_LOOSE, _IN_LANES)]
        total, unacked, blocked = (sum(row[place] for row in rows) for place in range(3))
        ((pending,), (consumers,)) = (connection.execute(each, values).fetchone() for each in (_PENDING, _CONSUMERS))
        found[subscription.name] = SubscriptionStats(
            backlog=total - unacked - blocked, unacked=unacked, delayed=pending + blocked, consumers=consumers
        )
    return TopicStats(found)


def peek(connection: sqlite3.Connection, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
    """Look at the oldest messages of a subscription, in the order of their publishing.

    Args:
        connection: a connection.
        topic: any topic.
        subscription: the name of the subscription.
        limit: messages at most.
    """
    known = read_topic(connection, topic.name)
    for each in known.subscriptions if known is not None else ():
        if each.name == subscription:
            rows = connection.execute(_PEEK, {"id": each.id, "limit": limit}).fetchall()
            return [Peeked(decode_message(*row[:4]), row[4]) for row in rows]
    return []
