"""Looks at messages without taking them in hand.

The broker tells which entries of a subscription are not acknowledged. A reader then reads just
these: for it the broker keeps nothing, and the consumers of the subscription do not notice.
"""

from __future__ import annotations

import asyncio

from infinitic.clock import Clock
from infinitic.ids import new_id
from infinitic.topics import Topic
from infinitic.transport import Peeked
from infinitic_transports.pulsar.admin import Admin
from infinitic_transports.pulsar.backlog import Backlog
from infinitic_transports.pulsar.client import PulsarClient, RawMessage, call_async
from infinitic_transports.pulsar.incoming import read_message

READ_SECONDS = 5.0
"""How long to wait for the next entry. One that the broker has removed meanwhile never comes."""

MOST_AHEAD = 100
"""Messages that the library requests beforehand, at most."""

AHEAD_BYTES = 32 * 1024 * 1024
"""How many bytes they have, at most: the library bounds their number only."""


class Peeker:
    """Looks at messages of durable subscriptions.

    Args:
        client: the connection to the brokers.
        admin: their REST interface.
        clock: tells which messages are due.
        largest: bytes that a message may have.
    """

    def __init__(self, client: PulsarClient, admin: Admin, clock: Clock, largest: int) -> None:
        self._client = client
        self._admin = admin
        self._clock = clock
        self._largest = largest

    async def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        """Look at messages, see `Transport.peek`."""
        backlogs = await self._admin.read_backlogs(topic, subscription)
        parts = [await self._read(topic, backlog, limit) for backlog in backlogs if not backlog.empty]
        # The partitions of a topic have no common order but that of time.
        found = sorted((each for part in parts for each in part), key=lambda each: each.published_at)
        return found[:limit]

    async def _read(self, topic: Topic, backlog: Backlog, limit: int) -> list[Peeked]:
        name, where, now = f"peek-{new_id()[:8]}", self._client.where, self._clock.now()
        queue = max(1, min(limit, MOST_AHEAD, AHEAD_BYTES // self._largest))
        reader = await self._client.reader(backlog.topic, name, queue=queue, after=backlog.after)
        found: list[Peeked] = []
        try:
            while len(found) < limit:
                try:
                    async with asyncio.timeout(READ_SECONDS):
                        raw: RawMessage = await call_async(f"Reading {topic.name}", where, reader.read_next_async)
                except TimeoutError:
                    break
                id = raw.message_id()
                entry = id.ledger_id(), id.entry_id()
                if entry > backlog.last:
                    break
                if backlog.holds(entry):
                    message = read_message(raw, topic)
                    if (message.deliver_at or 0.0) <= now:
                        found.append(Peeked(message, raw.publish_timestamp() / 1000))
                if entry == backlog.last and not await call_async(
                    # It may be a batch, of which each message comes by itself.
                    f"Reading {topic.name}",
                    where,
                    reader.has_message_available_async,
                ):
                    break
        finally:
            await call_async("Closing a reader", where, reader.close_async)
        return found
