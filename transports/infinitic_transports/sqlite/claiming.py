"""Hands messages to consumers.

A consumer takes no more than its share of what is there: the others that are connected have their
wake-up on the way. Lanes that nobody has come before more messages of lanes that the consumer has
already, so that a busy key starves no other one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from infinitic.transport import Delivery, Message
from infinitic_transports.sqlite.settling import Mark
from infinitic_transports.sqlite.turn import Turn

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_LOOK_AT = 10_000
"""How many rows are looked at, at most, to know a share."""
_headers = msgspec.msgpack.Decoder(dict[str, str])


class Demand(NamedTuple):
    """What a consumer wants.

    Attributes:
        consumer: its number.
        subscription: the number of its subscription.
        keyed: whether the subscription has lanes.
        messages: messages at most, 1 or more.
        size: bytes at most; or one message.
        sharers: how many consumers the subscription has.
    """

    consumer: int
    subscription: int
    keyed: bool
    messages: int
    size: int
    sharers: int


class _Hand:
    """What is being handed out, and how much more may be."""

    def __init__(self, demand: Demand) -> None:
        self.rows: list[tuple[Mark, int]] = []
        self.count, self.size = demand.messages, demand.size

    def add(self, seq: int, attempt: int, lane: int | None, body: int, size: int) -> bool:
        """Add a message, if there is room."""
        if self.count <= 0 or (self.rows and size > self.size):
            self.count = 0
            return False
        self.rows.append((Mark(seq, attempt, lane), body))
        self.count -= 1
        self.size -= size
        return True


def is_something_there(connection: sqlite3.Connection, demand: Demand) -> bool:
    """True if `claim` would find something. It needs no transaction."""
    look = "SELECT 1 FROM infinitic_queue WHERE subscription = ? AND lane IS NULL AND consumer IS NULL LIMIT 1"
    if connection.execute(look, (demand.subscription,)).fetchall():
        return True
    if not demand.keyed:
        return False
    look = "SELECT 1 FROM infinitic_lanes WHERE subscription = ? AND consumer IS ? AND place IS NOT NULL LIMIT 1"
    return any(connection.execute(look, (demand.subscription, who)).fetchall() for who in (None, demand.consumer))


def claim(turn: Turn, demand: Demand) -> list[Delivery]:
    """Hand messages to a consumer. They are in its hand once the turn is committed.

    Args:
        turn: the transaction.
        demand: what it wants.
    """
    hand = _Hand(demand)
    if demand.keyed:
        lanes = _find_lanes(turn, demand, None)
        # Some brokers have keyed topics with messages that have no key. Both get half.
        _take_loose(turn, demand, hand, max(1, hand.count // 2) if lanes else hand.count)
        for lane in lanes:
            if hand.count <= 0:
                break
            _take_lane(turn, demand, hand, lane)
        if hand.count > 0:
            for lane in _find_lanes(turn, demand, demand.consumer):
                if hand.count <= 0:
                    break
                _take_lane(turn, demand, hand, lane)
    else:
        _take_loose(turn, demand, hand, hand.count)
    return [_read(turn.connection, mark, body) for mark, body in hand.rows]


def _share(demand: Demand, there: int, most: int) -> int:
    return min(most, -(-there // max(1, demand.sharers)))


def _take_loose(turn: Turn, demand: Demand, hand: _Hand, most: int) -> None:
    rows = turn.connection.execute(
        "SELECT seq, attempt, body, size FROM infinitic_queue "
        "WHERE subscription = ? AND lane IS NULL AND consumer IS NULL ORDER BY seq LIMIT ?",
        (demand.subscription, min(most * max(1, demand.sharers), _LOOK_AT)),
    ).fetchall()
    taken: list[tuple[int, int]] = []
    for seq, attempt, body, size in rows[: _share(demand, len(rows), most)]:
        if not hand.add(seq, attempt, None, body, size):
            break
        taken.append((demand.consumer, seq))
    turn.connection.executemany("UPDATE infinitic_queue SET consumer = ? WHERE seq = ?", taken)


def _find_lanes(turn: Turn, demand: Demand, holder: int | None) -> list[int]:
    """Find lanes that have something, of a holder or of nobody, in their order."""
    sharers = max(1, demand.sharers) if holder is None else 1
    rows = turn.connection.execute(
        "SELECT id FROM infinitic_lanes WHERE subscription = ? AND consumer IS ? AND place IS NOT NULL "
        "ORDER BY place LIMIT ?",
        (demand.subscription, holder, min(demand.messages * sharers, _LOOK_AT)),
    ).fetchall()
    if holder is None:
        rows = rows[: _share(demand, len(rows), demand.messages)]
    return [row[0] for row in rows]


def _take_lane(turn: Turn, demand: Demand, hand: _Hand, lane: int) -> None:
    """Take what a lane has, as far as there is room, and lock it."""
    connection = turn.connection
    rows = connection.execute(
        "SELECT seq, attempt, body, size, due FROM infinitic_queue WHERE lane = ? AND consumer IS NULL "
        "ORDER BY seq LIMIT ?",
        (lane, hand.count + 1),
    ).fetchall()
    taken: list[tuple[int, int]] = []
    place = blocked = None
    for seq, attempt, body, size, due in rows:
        if due is not None and due > turn.now:
            blocked = due
            turn.put_off(due)
            break
        if not hand.add(seq, attempt, lane, body, size):
            place = turn.take_number()
            break
        taken.append((demand.consumer, seq))
    if not taken and blocked is None:
        return
    connection.executemany("UPDATE infinitic_queue SET consumer = ? WHERE seq = ?", taken)
    connection.execute(
        "UPDATE infinitic_lanes SET consumer = CASE WHEN ? THEN ? ELSE consumer END, held = held + ?, place = ?, "
        "due = ? WHERE id = ?",
        (len(taken), demand.consumer, len(taken), place, blocked, lane),
    )


def _read(connection: sqlite3.Connection, mark: Mark, body: int) -> Delivery:
    row = connection.execute(
        "SELECT name, key, body, headers, published_at FROM infinitic_bodies WHERE id = ?", (body,)
    ).fetchone()
    return Delivery(decode_message(*row[:4]), mark.attempt, row[4], mark)


def decode_message(name: bytes, key: bytes | None, body: bytes, headers: bytes | None) -> Message:
    """Make the message of a row of `infinitic_bodies`."""
    return Message(
        bytes(name).decode(),
        None if key is None else bytes(key).decode(),
        body,
        _NO_HEADERS if headers is None else _headers.decode(headers),
    )
