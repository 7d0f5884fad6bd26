"""Where a consumer gets messages from: a durable subscription, or a reader of what comes from now on."""

from __future__ import annotations

from typing import Any, Protocol

from infinitic_transports.pulsar.client import (
    Answer,
    PulsarClient,
    RawConsumer,
    RawMessageId,
    RawReader,
    answered,
    ignore,
)

ACK_GROUPING_SECONDS = 0.15
"""Seconds that the library may keep an acknowledgement to itself, and a bit."""


class Source(Protocol):
    """Asks for one message at a time, and acknowledges."""

    keeps: bool
    """False if the broker keeps nothing for it: there is nothing to acknowledge."""

    @property
    def connected(self) -> bool:
        """False while the broker is away, and when the topic is gone."""
        ...

    def next(self, answer: Answer, /) -> None: ...
    def ack(self, id: RawMessageId, /) -> None: ...
    async def close(self) -> None: ...


class Subscribed:
    """A consumer of the library."""

    keeps = True

    def __init__(self, raw: RawConsumer, client: PulsarClient) -> None:
        self._raw = raw
        self._where = client.where
        self.next = raw.receive_async
        self._ack: Any = raw.acknowledge_async

    @property
    def connected(self) -> bool:
        return self._raw.is_connected()

    def ack(self, id: RawMessageId) -> None:
        self._ack(id, ignore)

    async def close(self) -> None:
        await answered("Closing a consumer", self._where, self._raw.close_async)


class Reading:
    """A reader of the library."""

    keeps = False

    def __init__(self, raw: RawReader, client: PulsarClient) -> None:
        self._raw = raw
        self._where = client.where
        self.next = raw.read_next_async

    def ack(self, id: RawMessageId) -> None:
        """Nothing is kept that could be acknowledged."""

    @property
    def connected(self) -> bool:
        return self._raw.is_connected()

    async def close(self) -> None:
        await answered("Closing a reader", self._where, self._raw.close_async)
