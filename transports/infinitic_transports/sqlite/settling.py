"""Jobs that settle what is in hand, or give it back, and those that remove what is gone.

A message is in hand by its `seq`, its consumer and its attempt. All three have to agree: so an
acknowledgement of one who was taken for dead, or of an earlier delivery, does nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from infinitic_transports.sqlite.putting import QueuedMessage, put_off
from infinitic_transports.sqlite.turn import Turn

_MINE = "seq = ? AND consumer = ? AND attempt = ?"


class Mark(NamedTuple):
    """What a delivery is known by in the file. It is the `token` of the delivery."""

    seq: int
    attempt: int
    lane: int | None


def acknowledge(turn: Turn, consumer: int, marks: Iterable[Mark]) -> None:
    """Remove messages that are in hand at a consumer. Others are ignored.

    Args:
        turn: the transaction.
        consumer: its number.
        marks: of the deliveries.
    """
    connection = turn.connection
    bodies: list[int] = []
    lanes: Counter[int] = Counter()
    for seq, attempt, _ in marks:
        for lane, body in connection.execute(
            f"DELETE FROM infinitic_queue WHERE {_MINE} RETURNING lane, body", (seq, consumer, attempt)
        ).fetchall():
            bodies.append(body)
            if lane is not None:
                lanes[lane] += 1
    _release_bodies(turn, bodies)
    for lane, count in lanes.items():
        _settle_lane(turn, lane, count)


def give_back(turn: Turn, consumer: int, mark: Mark, due: float | None, *, counts: bool = True) -> None:
    """Give a message back that is in hand at a consumer; otherwise nothing happens.

    Args:
        turn: the transaction.
        consumer: its number.
        mark: of the delivery.
        due: when it may come again, in seconds since the Unix epoch; None at once.
        counts: whether it counts as an attempt.
    """
    connection = turn.connection
    seq, attempt, _ = mark
    row = connection.execute(
        f"SELECT subscription, lane, body, size FROM infinitic_queue WHERE {_MINE}", (seq, consumer, attempt)
    ).fetchone()
    if row is None:
        return
    subscription, lane, body, size = row
    following = attempt + counts
    if due is not None and due <= turn.now:
        due = None
    if lane is not None:
        connection.execute(
            "UPDATE infinitic_queue SET consumer = NULL, attempt = ?, due = ? WHERE seq = ?", (following, due, seq)
        )
        _settle_lane(turn, lane, 1)
    elif due is not None:
        connection.execute("DELETE FROM infinitic_queue WHERE seq = ?", (seq,))
        put_off(turn, subscription, due, QueuedMessage(None, following, body, size))
    else:
        # Behind the others, so that it hides none of them.
        connection.execute(
            "UPDATE infinitic_queue SET seq = ?, consumer = NULL, attempt = ? WHERE seq = ?",
            (turn.take_number(), following, seq),
        )
        turn.dirty.add(subscription)


def leave(turn: Turn, consumer: int) -> None:
    """Remove a consumer. What it has in hand goes to others, before what is newer.

    An ephemeral subscription goes with its consumer, and a topic without a main subscription with
    its last subscription.
    """
    connection = turn.connection
    row = connection.execute(
        "DELETE FROM infinitic_consumers WHERE id = ? RETURNING subscription", (consumer,)
    ).fetchall()
    if not row:
        return
    turn.change_catalog()
    ((subscription,),) = row
    found = connection.execute(
        "SELECT topic, consumer FROM infinitic_subscriptions WHERE id = ?", (subscription,)
    ).fetchone()
    if found is None:
        return
    topic, only = found
    if only != consumer:
        _give_all_back(turn, consumer, subscription)
        return
    _remove_subscription(turn, subscription)
    connection.execute(
        "DELETE FROM infinitic_topics WHERE id = ? AND main IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM infinitic_subscriptions WHERE topic = ?)",
        (topic, topic),
    )


def end_session(turn: Turn, session: str) -> None:
    """Remove a session whose process has ended, with its consumers.

    Args:
        turn: the transaction.
        session: its name.
    """
    rows = turn.connection.execute("SELECT id FROM infinitic_sessions WHERE name = ?", (session,)).fetchall()
    for (number,) in rows:
        consumers = turn.connection.execute(
            "SELECT id FROM infinitic_consumers WHERE session = ?", (number,)
        ).fetchall()
        for (consumer,) in consumers:
            leave(turn, consumer)
        turn.connection.execute("DELETE FROM infinitic_sessions WHERE id = ?", (number,))
        turn.change_catalog()


def remove_topic(turn: Turn, name: bytes) -> None:
    """Remove a topic with all its subscriptions and messages.

    Args:
        turn: the transaction.
        name: the encoded name.
    """
    connection = turn.connection
    for (topic,) in connection.execute("DELETE FROM infinitic_topics WHERE name = ? RETURNING id", (name,)).fetchall():
        rows = connection.execute("SELECT id FROM infinitic_subscriptions WHERE topic = ?", (topic,)).fetchall()
        for (subscription,) in rows:
            _remove_subscription(turn, subscription)
        turn.change_catalog()


def list_held(turn: Turn, consumer: int, subscription: int) -> list[Mark]:
    """List what the file says that a consumer has in hand."""
    rows = turn.connection.execute(
        "SELECT seq, attempt, lane FROM infinitic_queue WHERE subscription = ? AND lane IS NULL AND consumer = ? "
        "UNION ALL SELECT q.seq, q.attempt, q.lane FROM infinitic_lanes l JOIN infinitic_queue q ON q.lane = l.id "
        "WHERE l.subscription = ? AND l.consumer = ? AND q.consumer = ?",
        (subscription, consumer, subscription, consumer, consumer),
    ).fetchall()
    return [Mark(*row) for row in rows]


def drop_expired(turn: Turn, before: float, after: int, limit: int) -> int | None:
    """Drop messages that nobody has acknowledged in time.

    What is in hand stays.

    Args:
        turn: the transaction.
        before: when they were published at the latest, in seconds since the Unix epoch.
        after: the row of the queue behind which it goes on; 0 begins.
        limit: how many rows are looked at.

    Returns:
        Behind which row to go on; None if all were looked at.
    """
    connection = turn.connection
    oldest = connection.execute("SELECT published_at FROM infinitic_bodies ORDER BY id LIMIT 1").fetchone()
    if oldest is None or oldest[0] > before:
        return None
    rows = connection.execute(
        "SELECT q.seq, q.lane, q.body, q.consumer IS NULL AND b.published_at <= ? FROM infinitic_queue q "
        "JOIN infinitic_bodies b ON b.id = q.body WHERE q.seq > ? ORDER BY q.seq LIMIT ?",
        (before, after, limit),
    ).fetchall()
    gone = [row for row in rows if row[3]]
    connection.executemany("DELETE FROM infinitic_queue WHERE seq = ?", [row[:1] for row in gone])
    _release_bodies(turn, [row[2] for row in gone])
    for lane in {row[1] for row in gone if row[1] is not None}:
        _settle_lane(turn, lane, 0)
    return rows[-1][0] if len(rows) == limit else None


def _settle_lane(turn: Turn, lane: int, count: int, *, first: bool = False) -> None:
    """Say who may take what of a lane next, after rows of it were settled or given back.

    A lane of which nothing is in hand is free. If it has more, it goes to the end of the line.

    Args:
        turn: the transaction.
        lane: its number.
        count: how many of its rows are in hand no longer.
        first: whether it goes to the front of the line.
    """
    connection = turn.connection
    row = connection.execute("SELECT held, subscription FROM infinitic_lanes WHERE id = ?", (lane,)).fetchone()
    if row is None:
        return
    held, subscription = row[0] - count, row[1]
    head = connection.execute(
        "SELECT seq, due FROM infinitic_queue WHERE lane = ? AND consumer IS NULL ORDER BY seq LIMIT 1", (lane,)
    ).fetchone()
    if head is None and not held:
        connection.execute("DELETE FROM infinitic_lanes WHERE id = ?", (lane,))
        return
    place = due = None
    if head is not None:
        seq, due = head
        if due is not None and due > turn.now:
            turn.put_off(due)
        else:
            due = None
            place = seq if first else turn.take_number()
            turn.dirty.add(subscription)
    connection.execute(
        "UPDATE infinitic_lanes SET held = ?, consumer = CASE WHEN ? THEN consumer END, place = ?, due = ? "
        "WHERE id = ?",
        (held, held, place, due, lane),
    )


def _give_all_back(turn: Turn, consumer: int, subscription: int) -> None:
    connection = turn.connection
    loose = connection.execute(
        "UPDATE infinitic_queue SET consumer = NULL, attempt = attempt + 1 "
        "WHERE subscription = ? AND lane IS NULL AND consumer = ?",
        (subscription, consumer),
    ).rowcount
    if loose:
        turn.dirty.add(subscription)
    lanes = connection.execute(
        "SELECT id FROM infinitic_lanes WHERE subscription = ? AND consumer = ?", (subscription, consumer)
    ).fetchall()
    for (lane,) in lanes:
        count = connection.execute(
            "UPDATE infinitic_queue SET consumer = NULL, attempt = attempt + 1 WHERE lane = ? AND consumer = ?",
            (lane, consumer),
        ).rowcount
        _settle_lane(turn, lane, count, first=True)


def _remove_subscription(turn: Turn, subscription: int) -> None:
    connection = turn.connection
    bodies: list[int] = []
    for statement in (
        "DELETE FROM infinitic_queue WHERE seq IN (SELECT seq FROM infinitic_queue WHERE subscription = :id "
        "AND lane IS NULL UNION ALL SELECT q.seq FROM infinitic_lanes l JOIN infinitic_queue q ON q.lane = l.id "
        "WHERE l.subscription = :id) RETURNING body",
        "DELETE FROM infinitic_pending WHERE subscription = :id RETURNING body",
    ):
        bodies += [row[0] for row in connection.execute(statement, {"id": subscription}).fetchall()]
    _release_bodies(turn, bodies)
    connection.execute("DELETE FROM infinitic_lanes WHERE subscription = ?", (subscription,))
    connection.execute("DELETE FROM infinitic_consumers WHERE subscription = ?", (subscription,))
    connection.execute("DELETE FROM infinitic_subscriptions WHERE id = ?", (subscription,))


def _release_bodies(turn: Turn, bodies: Sequence[int]) -> None:
    """Count one use less of each, and remove those that nobody needs."""
    if not bodies:
        return
    rows = [(body,) for body in bodies]
    # Nearly all have one use.
    gone = turn.connection.executemany("DELETE FROM infinitic_bodies WHERE id = ? AND uses = 1", rows).rowcount
    if gone < len(rows):
        turn.connection.executemany("UPDATE infinitic_bodies SET uses = uses - 1 WHERE id = ?", rows)
