"""In-memory brokers for simulations: they use what the contract leaves open, or promise less.

Nothing is random here: as in all of the broker, `Choose` decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from infinitic.errors import UsageError
from infinitic.transport import Delivery
from infinitic_transports.memory.broker import DEFAULT_MAX_PAYLOAD, Broker
from infinitic_transports.memory.choice import Choose
from infinitic_transports.memory.pulsar_like import ACK_DURABILITY, RULES, Acknowledged, Holders, PulsarLikeKeyed
from infinitic_transports.memory.subscription import BrokerConsumer, BrokerSubscription

TICK = 1.0
"""Seconds by which Pulsar may deliver a delayed message early."""


class SeededBroker(Broker):
    """A broker that keeps the contract, but may deliver delayed messages late."""

    lateness: ClassVar[tuple[float, ...]] = (0.0, 0.001, 0.1, 1.0, 5.0)

    _held_until = 0.0

    def hold_delayed(self, until: float) -> None:
        """Let no delayed message join its queue before a time. Then all that are due join at once.

        Args:
            until: seconds since the Unix epoch.
        """
        self._held_until = until
        if until <= self._time:
            self._delays.release(self._time)
        # The next one is due at another time now.
        self._announce()

    def find_next_due(self) -> float | None:
        """When `due` has to be called next; None if no message is delayed."""
        due = super().find_next_due()
        return None if due is None else max(due, self._held_until)

    def _advance(self, now: float) -> float:
        if now >= self._held_until:
            return super()._advance(now)
        self._time = max(self._time, now)
        return self._time


class PulsarLikeBroker(SeededBroker):
    """A broker that does what Pulsar does, as an engine above the adapter for Pulsar sees it.

    - Attempts are counted in the memory of the broker, and may be counted from 1 again.
    - After a consumer has left, the messages of a key may be out of order.
    - An acknowledgement by an earlier holder settles the message, also if another one has it now.
    - A delayed message may come a tick early.
    - After a crash of the broker, messages that were acknowledged may come again: `give_back`.
    """

    keyed = PulsarLikeKeyed
    rules = RULES
    ack_durability = ACK_DURABILITY
    lateness = (*SeededBroker.lateness, -TICK)

    def __init__(self, *, max_payload: int = DEFAULT_MAX_PAYLOAD, choose: Choose | None = None) -> None:
        super().__init__(max_payload=max_payload, choose=choose)
        self._holders = Holders()
        # What each durable subscription can give back.
        self._acknowledged = defaultdict[BrokerSubscription, Acknowledged](Acknowledged)

    def take(self, consumer: BrokerConsumer, limit: int, now: float) -> list[Delivery]:
        taken = super().take(consumer, limit, now)
        self._holders.note(consumer, taken)
        return taken

    def ack(self, consumer: BrokerConsumer, deliveries: Iterable[Delivery]) -> None:
        for holder, held in self._holders.find(consumer, deliveries).items():
            if holder.subscription.durable:
                self._acknowledged[holder.subscription].note(held, self._time)
            super().ack(holder, held)

    def detach(self, consumer: BrokerConsumer) -> None:
        if self._choose is not None and consumer.in_hand and self._choose("attempts", 2):
            # They are counted from 1 again.
            consumer.in_hand = {replace(each, attempt=0): queue for each, queue in consumer.in_hand.items()}
        super().detach(consumer)

    def give_back(self, seconds: float, now: float) -> int:
        """Deliver messages again that were acknowledged, as after a crash of the broker.

        They come in the order of their acknowledgements, with attempts counted from 1, and wait
        behind what waits already. They are given back once.

        Args:
            seconds: how long ago they were acknowledged, at most.
            now: seconds since the Unix epoch.

        Returns:
            How many there are.
        """
        now = self._advance(now)
        count = 0
        for topic in self._topics.values():
            for subscription in topic.durable.values():
                count += self._acknowledged[subscription].give_back(subscription, now - seconds)
        return count


def make_broker(profile: str, *, choose: Choose | None, max_payload: int = DEFAULT_MAX_PAYLOAD) -> Broker:
    """Make a broker of a profile.

    Args:
        profile: "fifo": the oldest message comes first. "seeded": what the contract leaves open is
            chosen. "pulsar": as "seeded", and what Pulsar does worse happens too.
        choose: see `Choose`. The profile "fifo" does not use it.
        max_payload: how many bytes a body may have.

    Raises:
        UsageError: there is no such profile.
    """
    match profile:
        case "fifo":
            return Broker(max_payload=max_payload)
        case "seeded":
            return SeededBroker(max_payload=max_payload, choose=choose)
        case "pulsar":
            return PulsarLikeBroker(max_payload=max_payload, choose=choose)
        case _:
            raise UsageError(f"There is no profile {profile!r} of the in-memory broker: fifo, seeded, pulsar")
