"""Jobs that put messages into the file: what is published, and what has become due."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message, MessageTooLarge, UnknownTopic
from infinitic_transports.sqlite.catalog import encode_text
from infinitic_transports.sqlite.turn import Turn

SLICE_MESSAGES = 500
SLICE_BYTES = 1024 * 1024
"""What one job publishes at most; or one message."""

DUE_AT_A_TIME = 1000
"""How many messages that are due join their queues in one job."""

_INSERT_BODY = (
    "INSERT INTO infinitic_bodies (id, uses, published_at, name, key, headers, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_PENDING = (
    "INSERT INTO infinitic_pending (id, due, subscription, key, attempt, body, size) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_QUEUED = "INSERT INTO infinitic_queue (seq, subscription, lane, attempt, body, size) VALUES (?, ?, ?, ?, ?, ?)"
_FIND_LANE = (
    "INSERT INTO infinitic_lanes (id, subscription, key, held, place) VALUES (?, ?, ?, 0, ?) "
    "ON CONFLICT (subscription, key) DO UPDATE SET place = CASE WHEN place IS NULL AND due IS NULL "
    "THEN excluded.place ELSE place END RETURNING id"
)


class EncodedMessage(NamedTuple):
    """A message as the file has it."""

    name: bytes
    key: bytes | None
    headers: bytes | None
    body: bytes
    due: float | None


class QueuedMessage(NamedTuple):
    """What joins the queue of a subscription."""

    key: bytes | None
    attempt: int
    body: int
    size: int


def encode_messages(topic: Topic, messages: Sequence[Message], largest: int) -> list[EncodedMessage]:
    """Encode messages, and check that the broker can take them.

    Args:
        topic: where they go.
        messages: what is published.
        largest: bytes of a body at most.

    Raises:
        MessageTooLarge: a body is larger.
        UsageError: a text is not Unicode, or a due time is not a time.
    """
    encoded: list[EncodedMessage] = []
    for message in messages:
        if len(message.body) > largest:
            raise MessageTooLarge(len(message.body), largest, topic.name)
        due = message.deliver_at
        if due is not None and not math.isfinite(due):
            raise UsageError(f"A message for {topic.name} is to be delivered at {due}, which is not a time")
        try:
            headers = msgspec.msgpack.encode(dict(message.headers)) if message.headers else None
        except UnicodeEncodeError as error:
            raise UsageError(f"A header of a message for {topic.name} is not Unicode text: {error.reason}") from error
        key = None if message.key is None else encode_text(message.key)
        encoded.append(EncodedMessage(encode_text(message.id), key, headers, bytes(message.body), due))
    return encoded


def slice_messages(messages: Sequence[EncodedMessage]) -> Iterator[tuple[Sequence[EncodedMessage], int]]:
    """Split messages into slices for one job each, with their bytes."""
    start = size = 0
    for index, each in enumerate(messages):
        if index > start and (index - start >= SLICE_MESSAGES or size + len(each.body) > SLICE_BYTES):
            yield messages[start:index], size
            start, size = index, 0
        size += len(each.body)
    if start < len(messages):
        yield messages[start:], size


def publish(turn: Turn, topic: Topic, messages: Sequence[EncodedMessage]) -> None:
    """Publish messages, in this order.

    Args:
        turn: the transaction.
        topic: where they go.
        messages: what `encode_messages` has made of them.

    Raises:
        UnknownTopic: there is no such topic. Nothing was written.
    """
    known = turn.catalog.find_topic(turn.connection, topic.name)
    if known is None:
        raise UnknownTopic(f"The topic {topic.name!r} was never declared, or its last subscriber left")
    if not known.subscriptions:
        return
    uses, now = len(known.subscriptions), turn.now
    is_keyed = known.topic.ordering is Ordering.KEYED
    bodies: list[tuple[object, ...]] = []
    at_once: list[QueuedMessage] = []
    later: list[tuple[float, QueuedMessage]] = []
    for message in messages:
        number = turn.take_number()
        bodies.append((number, uses, now, message.name, message.key, message.headers, message.body))
        queued = QueuedMessage(message.key if is_keyed else None, 1, number, len(message.body))
        if message.due is None or message.due <= now:
            at_once.append(queued)
        else:
            later.append((message.due, queued))
    turn.connection.executemany(_INSERT_BODY, bodies)
    for subscription in known.subscriptions:
        if at_once:
            enqueue(turn, subscription.id, at_once)
        for due, queued in later:
            put_off(turn, subscription.id, due, queued)


def enqueue(turn: Turn, subscription: int, messages: Sequence[QueuedMessage]) -> None:
    """Append messages to the queue of a subscription, each behind those of its key.

    Args:
        turn: the transaction.
        subscription: its number.
        messages: in this order. Those without a key have no lane.
    """
    lanes: dict[bytes, int] = {}
    rows: list[tuple[int, int, int | None, int, int, int]] = []
    for key, attempt, body, size in messages:
        seq = turn.take_number()
        lane = None
        if key is not None:
            lane = lanes.get(key)
            if lane is None:
                values = (turn.take_number(), subscription, key, seq)
                ((lane,),) = turn.connection.execute(_FIND_LANE, values).fetchall()
                lanes[key] = lane
        rows.append((seq, subscription, lane, attempt, body, size))
    turn.connection.executemany(_INSERT_QUEUED, rows)
    turn.dirty.add(subscription)


def put_off(turn: Turn, subscription: int, due: float, message: QueuedMessage) -> None:
    """Keep a message back until it is due.

    Args:
        turn: the transaction.
        subscription: its number.
        due: when, in seconds since the Unix epoch.
        message: what is kept back.
    """
    key, attempt, body, size = message
    turn.connection.execute(_INSERT_PENDING, (turn.take_number(), due, subscription, key, attempt, body, size))
    turn.put_off(due)


def release_due(turn: Turn) -> None:
    """Let what is due by now join its queue, in the order of due times; a limited number."""
    connection, now = turn.connection, turn.now
    rows = connection.execute(
        "SELECT id, subscription, key, attempt, body, size FROM infinitic_pending WHERE due <= ? "
        "ORDER BY due, id LIMIT ?",
        (now, DUE_AT_A_TIME),
    ).fetchall()
    by_subscription: dict[int, list[QueuedMessage]] = {}
    for _, subscription, key, attempt, body, size in rows:
        by_subscription.setdefault(subscription, []).append(QueuedMessage(key, attempt, body, size))
    connection.executemany("DELETE FROM infinitic_pending WHERE id = ?", [row[:1] for row in rows])
    for subscription, messages in by_subscription.items():
        enqueue(turn, subscription, messages)
    lanes = connection.execute(
        "SELECT id, subscription FROM infinitic_lanes WHERE due <= ? LIMIT ?", (now, DUE_AT_A_TIME)
    ).fetchall()
    for lane, subscription in lanes:
        connection.execute("UPDATE infinitic_lanes SET place = ?, due = NULL WHERE id = ?", (turn.take_number(), lane))
        turn.dirty.add(subscription)


def read_next_due(connection: sqlite3.Connection) -> float | None:
    """When something is due next, in seconds since the Unix epoch; None if nothing is put off."""
    rows = connection.execute(
        "SELECT * FROM (SELECT due FROM infinitic_pending ORDER BY due LIMIT 1) UNION ALL "
        "SELECT * FROM (SELECT due FROM infinitic_lanes WHERE due IS NOT NULL ORDER BY due LIMIT 1)"
    ).fetchall()
    return min((row[0] for row in rows), default=None)
