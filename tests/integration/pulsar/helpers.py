"""What tests of a transport say often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from infinitic.ids import new_id
from infinitic.topics import Ordering, Topic
from infinitic.transport import Consumer, Delivery, Message


def shared() -> Topic:
    return Topic(f"shared:{new_id()[:8]}", Ordering.SHARED, "main")


def keyed() -> Topic:
    return Topic(f"keyed:{new_id()[:8]}", Ordering.KEYED, "main")


def ephemeral() -> Topic:
    return Topic(f"client:{new_id()[:8]}", Ordering.SHARED, None)


def message(body: object, key: str | None = None, due: float | None = None) -> Message:
    return Message(new_id(), key, str(body).encode(), deliver_at=due)


def bodies(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.body.decode() for delivery in deliveries]


async def collect(consumer: Consumer, number: int, *, ack: bool = True) -> list[Delivery]:
    """So many deliveries, in their order."""
    found: list[Delivery] = []
    while len(found) < number:
        deliveries = await consumer.receive(number - len(found))
        found += deliveries
        if ack:
            await consumer.ack(deliveries)
    return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when it holds; the test's own timeout bounds this."""
    while not await condition():  # noqa: ASYNC110 (the broker tells nobody)
        await asyncio.sleep(0.02)


async def nothing(consumer: Consumer, seconds: float) -> None:
    """Nothing comes within this time."""
    try:
        async with asyncio.timeout(seconds):
            deliveries = await consumer.receive(10)
    except TimeoutError:
        return
    raise AssertionError(f"{bodies(deliveries)} came")
