"""Where a consumer gets messages from: a durable subscription, or a reader of new messages."""

from __future__ import annotations

from typing import Any, Protocol

from infinitic_transports.pulsar.client import (
    Answer,
    PulsarClient,
    RawConsumer,
    RawMessageId,
    RawReader,
    call_async,
    ignore,
)

ACK_GROUPING_SECONDS = 0.15
"""Seconds for which the library may keep an acknowledgement before it sends it, and a bit more."""


class Source(Protocol):
    """Requests one message at a time, and acknowledges.

    Attributes:
        keeps: whether the broker keeps messages for it. If not, there is nothing to acknowledge.
    """

    keeps: bool

    @property
    def connected(self) -> bool:
        """False while the broker is away, and when the topic is gone."""
        ...

    def request(self, answer: Answer, /) -> None: ...
    def ack(self, id: RawMessageId, /) -> None: ...
    async def close(self) -> None: ...


class SubscriptionSource:
    """A consumer of the library, which has a durable subscription."""

    keeps = True

    def __init__(self, raw: RawConsumer, client: PulsarClient) -> None:
        self._raw = raw
        self._where = client.where
        self.request = raw.receive_async
        self._ack: Any = raw.acknowledge_async

    @property
    def connected(self) -> bool:
        return self._raw.is_connected()

    def ack(self, id: RawMessageId) -> None:
        self._ack(id, ignore)

    async def close(self) -> None:
        await call_async("Closing a consumer", self._where, self._raw.close_async)


class ReaderSource:
    """A reader of the library, for which the broker keeps nothing."""

    keeps = False

    def __init__(self, raw: RawReader, client: PulsarClient) -> None:
        self._raw = raw
        self._where = client.where
        self.request = raw.read_next_async

    def ack(self, id: RawMessageId) -> None:
        """Do nothing: the broker keeps nothing that could be acknowledged."""

    @property
    def connected(self) -> bool:
        return self._raw.is_connected()

    async def close(self) -> None:
        await call_async("Closing a reader", self._where, self._raw.close_async)
