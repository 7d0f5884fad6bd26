"""Messages to whoever holds a custom id: a duplicate goes to the same instance (S13, S32)."""

from __future__ import annotations

import asyncio

from msgspec import Raw

from infinitic.messages import engine
from infinitic.messages.client import ReplyTo
from infinitic.messages.tags import ToHolder
from infinitic.runtime.tag_engine.forwarding import HolderMessages
from infinitic.storage import TagChange, TagKey, TagKind
from infinitic_storages.memory import InMemoryStorage

KEY = TagKey(TagKind.CUSTOM_ID, "Order", "order-42")
SIGNAL = Raw(engine.encode(engine.Signal(made_at=10.0, signal_id="o", channel="go", value=Raw(b"1"))))


async def find_receiver(holders: HolderMessages, storage: InMemoryStorage, operation: str) -> str | None:
    message = ToHolder(made_at=10.0, operation=operation, input=SIGNAL, reply_to=ReplyTo("w", "0/1/0", "Shop"))
    [sent] = await holders.send(storage.tags, KEY, message)
    return sent.message.key


async def hand_over(storage: InMemoryStorage, before: str, after: str) -> None:
    await storage.tags.update([TagChange(KEY, before, False, 1, 10.0)])
    assert (await storage.tags.claim(KEY, after, 0, 12.0)).granted


def test_a_duplicate_does_not_reach_the_next_holder() -> None:
    """The clocks of clients may differ by more than it takes to hand the custom id over."""

    async def main() -> None:
        storage, holders = InMemoryStorage(), HolderMessages()
        await storage.prepare()
        assert (await storage.tags.claim(KEY, "first", 0, 10.0)).granted
        assert await find_receiver(holders, storage, "a") == "first"
        await hand_over(storage, "first", "second")
        assert await find_receiver(holders, storage, "b") == "second"
        assert await find_receiver(holders, storage, "a") == "first"

    asyncio.run(main())


def test_who_was_told_that_nobody_holds_it_is_told_so_again() -> None:
    async def main() -> None:
        storage, holders = InMemoryStorage(), HolderMessages()
        await storage.prepare()
        assert await find_receiver(holders, storage, "a") == "w"
        assert (await storage.tags.claim(KEY, "late", 0, 10.0)).granted
        assert await find_receiver(holders, storage, "a") == "w"

    asyncio.run(main())
