"""A publisher declares a topic once, however many want to publish to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import pytest

from infinitic.errors import TransportError
from infinitic.runtime.publisher import Publisher
from infinitic.topics import Topic, service_executor
from infinitic.transport import Message, TransportUnavailable
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport

TOPIC = service_executor("Mailer")
WIDTH = 50
FAILURES = 3


class FailingDeclares(InMemoryTransport):
    """Its first declarations fail.

    Args:
        error: what they raise.
    """

    def __init__(self, error: TransportError) -> None:
        super().__init__()
        self.tries = 0
        self._error = error

    async def declare(self, topics: Iterable[Topic]) -> None:
        self.tries += 1
        await asyncio.sleep(0.1)
        if self.tries <= FAILURES:
            raise self._error
        await super().declare(topics)


def test_after_an_outage_the_broker_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> tuple[int, int]:
        transport = FailingDeclares(TransportUnavailable("away"))
        publisher = Publisher(transport)
        await asyncio.gather(*(publisher.send(TOPIC, [Message(str(each), None, b"")]) for each in range(WIDTH)))
        return transport.tries, (await transport.stats(TOPIC)).subscriptions["service-executor"].backlog

    with caplog.at_level(logging.WARNING):
        assert run(play()) == (FAILURES + 1, WIDTH)
    assert sum("works again" in each.getMessage() for each in caplog.records) == 1


def test_one_that_is_cancelled_or_refused_leaves_it_to_the_next() -> None:
    async def play() -> int:
        transport = FailingDeclares(TransportError("no"))
        publisher = Publisher(transport)

        async def send() -> None:
            await publisher.send(TOPIC, [Message("1", None, b"")])

        first, *others = (asyncio.create_task(send()) for _ in range(FAILURES + 2))
        await asyncio.sleep(0.05)
        first.cancel()
        outcomes = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(each) for each in outcomes] == [asyncio.CancelledError, TransportError, TransportError, *_NONES]
        return (await transport.stats(TOPIC)).subscriptions["service-executor"].backlog

    assert run(play()) == 2


_NONES = (type(None),) * 2
