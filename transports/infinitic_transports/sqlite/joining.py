"""Jobs that make topics, subscriptions, consumers and sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from infinitic.errors import UsageError
from infinitic.topics import Topic
from infinitic.transport import UnknownTopic
from infinitic_transports.sqlite.catalog import KnownTopic, encode_text
from infinitic_transports.sqlite.turn import Turn


class Joined(NamedTuple):
    """A consumer that has joined, by its number, and the number of its subscription."""

    consumer: int
    subscription: int


class OtherSession(NamedTuple):
    """A connection of some process."""

    name: str
    host: str
    boot: str


def declare(turn: Turn, topics: Iterable[Topic]) -> None:
    """Make topics and their main subscriptions where they do not exist.

    Raises:
        UsageError: a topic exists with another ordering or main subscription. Nothing was written.
    """
    missing: dict[str, Topic] = {}
    for topic in topics:
        known = turn.catalog.find_topic(turn.connection, topic.name)
        if known is None:
            missing[topic.name] = topic
        elif known.topic != topic:
            raise UsageError(f"The topic {topic.name!r} exists as {known.topic}, not as {topic}")
    for topic in missing.values():
        _make_topic(turn, topic)


def join(turn: Turn, session: str, topic: Topic, name: str, *, durable: bool) -> Joined:
    """Make a consumer of a subscription, which is made if it does not exist.

    Args:
        turn: the transaction.
        session: the name of the session.
        topic: a topic that was declared, or one without a main subscription.
        name: of the subscription.
        durable: False makes an ephemeral subscription for this consumer.

    Raises:
        UnknownTopic: the topic does not exist. Nothing was written.
    """
    known = turn.catalog.find_topic(turn.connection, topic.name)
    if known is None:
        if topic.subscription is not None:
            raise UnknownTopic(f"The topic {topic.name!r} was never declared")
        known = _make_topic(turn, topic)
    consumer = turn.take_number()
    subscription = None
    if durable:
        subscription = next((each.id for each in known.subscriptions if each.name == name), None)
    if subscription is None:
        text = name if durable else f"{name}#{consumer}"
        subscription = _make_subscription(turn, known.id, text, None if durable else consumer)
    turn.connection.execute(
        "INSERT INTO infinitic_consumers (id, session, subscription) "
        "SELECT ?, id, ? FROM infinitic_sessions WHERE name = ?",
        (consumer, subscription, session),
    )
    turn.change_catalog()
    return Joined(consumer, subscription)


def list_sessions(turn: Turn) -> list[OtherSession]:
    """List the sessions that have not ended, or whose end nobody has noticed."""
    rows = turn.connection.execute("SELECT name, host, boot FROM infinitic_sessions ORDER BY id").fetchall()
    return [OtherSession(*row) for row in rows]


def begin_session(turn: Turn, session: OtherSession, pid: int) -> None:
    """Note a session.

    Args:
        turn: the transaction.
        session: who it is.
        pid: the process.
    """
    turn.connection.execute(
        "INSERT INTO infinitic_sessions (id, name, host, boot, pid, started_at) VALUES (?, ?, ?, ?, ?, ?)",
        (turn.take_number(), *session, pid, turn.now),
    )
    turn.change_catalog()


def _make_topic(turn: Turn, topic: Topic) -> KnownTopic:
    number, main = turn.take_number(), topic.subscription
    turn.connection.execute(
        "INSERT INTO infinitic_topics (id, name, ordering, main) VALUES (?, ?, ?, ?)",
        (number, encode_text(topic.name), topic.ordering.value, None if main is None else encode_text(main)),
    )
    if main is not None:
        _make_subscription(turn, number, main, None)
    turn.change_catalog()
    made = turn.catalog.find_topic(turn.connection, topic.name)
    assert made is not None
    return made


def _make_subscription(turn: Turn, topic: int, name: str, consumer: int | None) -> int:
    number = turn.take_number()
    turn.connection.execute(
        "INSERT INTO infinitic_subscriptions (id, topic, name, consumer) VALUES (?, ?, ?, ?)",
        (number, topic, encode_text(name), consumer),
    )
    return number
