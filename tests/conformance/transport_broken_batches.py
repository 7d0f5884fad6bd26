"""Mutants that publish to several topics, and lose, mix up or hide something."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from infinitic.errors import TransportError
from infinitic.transport import Batch, MessageTooLarge, TransportClosed
from infinitic_transports.memory import InMemoryTransport
from tests.conformance.transport_broken import broken


@broken("PUB-2")
class StopsAtTheFirstRefusal(InMemoryTransport):
    """What comes after a batch that was refused is not sent."""

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        results: list[TransportError | None] = []
        for batch in batches:
            if any(results):
                results.append(None)
            else:
                results += await super().publish_all([batch])
        return results


@broken("PUB-2")
class RefusesInSilence(InMemoryTransport):
    """Nobody is told that a batch was too large."""

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        results = await super().publish_all(batches)
        return [None if isinstance(each, MessageTooLarge) else each for each in results]


@broken("PUB-1")
class ReturnsAfterTheFirst(InMemoryTransport):
    """It waits for the first topic only; a close comes before the others have accepted theirs."""

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        for number, batch in enumerate(batches[1:], 1):
            asyncio.get_running_loop().call_later(0.1 * number, self._now_publish, batch)
        return [*await super().publish_all(batches[:1]), *(None for _ in batches[1:])]

    def _now_publish(self, batch: Batch) -> None:
        if not self._closed:
            self.broker.publish(*batch, self._now())


@broken("PUB-3")
class LastBatchWins(InMemoryTransport):
    """Of two batches for one topic, the first is lost."""

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        return await super().publish_all(list({topic.name: (topic, sent) for topic, sent in batches}.values()))


@broken("PUB-4")
class ClosedIsAResult(InMemoryTransport):
    """A closed connection is one failure more in the list."""

    async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
        try:
            return await super().publish_all(batches)
        except TransportClosed as error:
            return [error for _ in batches]
