"""Publishing to several topics at once: for adapters whose `publish` waits for the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from infinitic.errors import TransportError
from infinitic.topics import Topic
from infinitic.transport import Batch, Message, TransportClosed, check_batches


async def publish_together(
    publish: Callable[[Topic, Sequence[Message]], Awaitable[None]], batches: Sequence[Batch]
) -> list[TransportError | None]:
    """Do what `Transport.publish_all` has to do: send all batches, and then wait for all of them.

    Args:
        publish: sends one batch, as `Transport.publish`.
        batches: topics, each with its messages. No topic comes twice.

    Raises:
        UsageError: a topic comes twice.
        TransportClosed: the transport is closed.

    Example::

        async def publish_all(self, batches: Sequence[Batch]) -> list[TransportError | None]:
            return await publish_together(self.publish, batches)
    """
    check_batches(batches)
    # Each is waited for, also if another one fails: none may be sent after this has returned.
    settled = await asyncio.gather(*(publish(*batch) for batch in batches), return_exceptions=True)
    results: list[TransportError | None] = []
    for each in settled:
        if isinstance(each, TransportClosed) or (each is not None and not isinstance(each, TransportError)):
            raise each
        results.append(each)
    return results
