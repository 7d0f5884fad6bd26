"""Messages by tag go out in pages (S33)."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, ParamSpec

import pytest
from msgspec import Raw

from infinitic import topics
from infinitic.messages import engine, tags
from infinitic.messages.client import ReplyTo
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.tags import ByTag
from infinitic.runtime.tag_engine import pages as tag_pages
from infinitic.runtime.tag_engine.fan_out import FanOut
from infinitic.storage import Claim, TagChange, TagKey, TagKind, TagStorage
from infinitic.transport import Delivery, Message, Outgoing

P = ParamSpec("P")


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


NOW = 1_800_000_000.0
KEY = TagKey(TagKind.WORKFLOW, "Trip", "eu")


class ManyMembers(TagStorage):
    """A tag with so many members, which takes no memory. The last one was added a minute later."""

    def __init__(self, count: int) -> None:
        self.members_of_tag = count

    async def members(
        self, key: TagKey, *, until: float | None = None, after: str = "", limit: int = 1000
    ) -> list[str]:
        first = int(after) + 1 if after else 0
        last = self.members_of_tag if until is None or until >= NOW + 60.0 else self.members_of_tag - 1
        return [f"{number:08d}" for number in range(first, min(first + limit, last))]

    async def update(self, changes: Sequence[TagChange]) -> None:
        raise NotImplementedError

    async def count(self, key: TagKey) -> int:
        raise NotImplementedError

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        raise NotImplementedError

    async def purge(self, now: float, limit: int = 1000) -> int:
        raise NotImplementedError


def make_signal(size: int = 1) -> engine.Signal:
    return engine.Signal(made_at=NOW, signal_id="s", channel="go", value=Raw(b'"' + b"x" * size + b'"'), by_tag="eu")


def make_by_tag(message: engine.Input) -> ByTag:
    return ByTag(made_at=NOW, operation="op", input=Raw(engine.encode(message)))


def deliver(message: ByTag) -> Delivery:
    return Delivery(Message("op", tags.make_tag_key("eu"), tags.encode(message)), 1, NOW)


async def make_page(sending: FanOut, storage: TagStorage, message: ByTag) -> tuple[list[Outgoing], ByTag | None]:
    """Make a page, and take the message for the next one out of it."""
    outgoing = await sending.make_page(storage, KEY, deliver(message), message)
    if not outgoing or outgoing[-1].topic != topics.workflow_tag("Trip"):
        return outgoing, None
    following = tags.decode(outgoing[-1].message.body)
    assert isinstance(following, ByTag)
    assert outgoing[-1].message.key == tags.make_tag_key("eu")
    return outgoing[:-1], following


@pytest.mark.parametrize("count", [1, 2, 1000, 1001, 1002, 2500])
@in_a_loop
async def test_S33_each_instance_is_reached_once_page_by_page(count: int) -> None:
    """But for the one that was added later (S31)."""
    sending, storage = FanOut("Trip"), ManyMembers(count)
    reached: list[str] = []
    message: ByTag | None = make_by_tag(make_signal())
    while message is not None:
        page, following = await make_page(sending, storage, message)
        assert len(page) <= tag_pages.PAGE
        assert all(each.topic == topics.workflow_engine("Trip") for each in page)
        assert all(each.message.body == bytes(message.input) for each in page)
        reached += [each.message.key or "" for each in page]
        sending.note_done(message)
        message = following
    assert reached == [f"{number:08d}" for number in range(count - 1)]


@in_a_loop
async def test_S33_a_page_that_comes_twice_goes_on_once() -> None:
    sending, storage = FanOut("Trip"), ManyMembers(2500)
    first = make_by_tag(make_signal())
    page, following = await make_page(sending, storage, first)
    assert len(page) == 1000
    # It was not published: it is made again, as after a crash.
    assert await make_page(sending, storage, first) == (page, following)
    sending.note_done(first)
    assert await make_page(sending, storage, first) == ([], None)
    assert following is not None
    assert len((await make_page(sending, storage, following))[0]) == 1000


@in_a_loop
async def test_S33_large_messages_make_small_pages() -> None:
    sending, storage = FanOut("Trip"), ManyMembers(50)
    page, following = await make_page(sending, storage, make_by_tag(make_signal(900_000)))
    assert len(page) == 4
    assert following is not None
    page, following = await make_page(sending, storage, make_by_tag(make_signal(10_000_000)))
    assert len(page) == 1


@in_a_loop
async def test_S33_a_page_takes_the_same_memory_however_many_there_are() -> None:
    storage = ManyMembers(1_000_000)

    async def measure(pages: int) -> int:
        sending = FanOut("Trip")
        message: ByTag | None = make_by_tag(make_signal())
        tracemalloc.start()
        try:
            for _ in range(pages):
                assert message is not None
                page, following = await make_page(sending, storage, message)
                assert len(page) == 1000
                sending.note_done(message)
                message = following
                del page
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = await measure(5)
    assert await measure(50) < few + 200_000


@pytest.mark.parametrize(
    "message",
    [
        engine.Describe(made_at=NOW, reply_to=ReplyTo("c", "1")),
        engine.Wake(made_at=NOW, due=NOW),
        engine.Start(made_at=NOW, method="book", arguments=Raw(b"[]")),
    ],
)
@in_a_loop
async def test_what_cannot_be_sent_by_tag_goes_to_nobody(message: engine.Input) -> None:
    with pytest.raises(UndecodableMessage, match="cannot be sent by tag"):
        await make_page(FanOut("Trip"), ManyMembers(5), make_by_tag(message))
    broken = ByTag(made_at=NOW, operation="op", input=Raw(b'{"t":"signal"}'))
    with pytest.raises(UndecodableMessage):
        await make_page(FanOut("Trip"), ManyMembers(5), broken)
