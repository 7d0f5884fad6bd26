"""An in-memory broker and database that tell an observer what takes effect in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from infinitic.storage import Change, Claim, Outcome, Published, TagChange, TagKey
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic_storages.memory import DEFAULT_DEDUPLICATION_WINDOW, DEFAULT_MAX_VALUE, Database
from infinitic_storages.memory_tags import TagDatabase
from infinitic_testing.observing import Observer
from infinitic_transports.memory import DEFAULT_MAX_PAYLOAD, Broker, Choose
from infinitic_transports.memory.subscription import BrokerConsumer

SOMEBODY = "somebody"
"""Who does it all: connections are not told apart."""


class ObservedBroker(Broker):
    """A broker that tells an observer what is published and acknowledged.

    Attributes:
        observer: is told; None: nobody is.
    """

    def __init__(self, *, max_payload: int = DEFAULT_MAX_PAYLOAD, choose: Choose | None = None) -> None:
        super().__init__(max_payload=max_payload, choose=choose)
        self.observer: Observer | None = None
        # By name. They stay when they are removed.
        self._declared: dict[str, Topic] = {}

    def declare(self, topics: Iterable[Topic]) -> None:
        topics = list(topics)
        super().declare(topics)
        self._declared |= {topic.name: topic for topic in topics}

    def publish(self, topic: Topic, messages: Sequence[Message], now: float) -> None:
        super().publish(topic, messages, now)
        if self.observer is not None:
            self.observer.published(SOMEBODY, topic, messages)

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery]) -> None:
        deliveries = [each for each in deliveries if each in consumer.in_hand]
        super().ack(consumer, deliveries)
        topic = self._declared.get(consumer.subscription.topic)
        if self.observer is not None and topic is not None and topic.subscription == consumer.subscription.name:
            self.observer.acknowledged(SOMEBODY, topic, deliveries)


class ObservedDatabase(Database):
    """A database that tells an observer what is committed, tagged and purged.

    Attributes:
        observer: is told; None: nobody is.
    """

    observer: Observer | None = None

    def __init__(
        self, *, deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW, max_value: int = DEFAULT_MAX_VALUE
    ) -> None:
        super().__init__(deduplication_window=deduplication_window, max_value=max_value)
        self.tags = _ObservedTags(self)

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        outcomes = super().commit(changes)
        if self.observer is not None:
            self.observer.committed(SOMEBODY, changes, outcomes)
        return outcomes

    def purge(self, now: float, limit: int = 1000) -> int:
        count = super().purge(now, limit)
        if self.observer is not None:
            self.observer.purged(SOMEBODY, now, count)
        return count


class _ObservedTags(TagDatabase):
    def __init__(self, database: ObservedDatabase) -> None:
        super().__init__(database.deduplication_window)
        self._database = database

    def update(self, changes: Sequence[TagChange]) -> None:
        super().update(changes)
        if self._database.observer is not None:
            self._database.observer.tagged(SOMEBODY, changes)

    def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        claim = super().claim(key, id, version, at)
        if self._database.observer is not None:
            self._database.observer.claimed(SOMEBODY, TagChange(key, id, True, version, at), claim)
        return claim
