"""The pages of an operation by tag: who comes next, and which pages were done (S33).

Each page is published together with the message for the next page, which goes to the same tag. So
memory is constant, other messages of this tag get in between, and a crash repeats one page at most.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import replace

from infinitic.messages.tags import ByTag
from infinitic.messages.task_tags import ByTaskTag
from infinitic.storage import TagKey, TagStorage
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message, Outgoing

PAGE = 1000
"""To how many members a message is sent at a time, at most."""

PAGE_BYTES = 4 * 1024 * 1024
"""How many bytes these messages have together, at most; or one message."""

SKEW_SECONDS = 5.0
"""By how much the clocks of clients may differ.

An operation reaches those that were added until then. A repeat of it that comes later reaches
nobody else.
"""

REMEMBERED = 10_000
"""How many pages that were done are kept in memory."""

B = TypeVar("B", ByTag, ByTaskTag)


class Pages(Generic[B]):
    """Reads the members of tags page by page.

    Args:
        topic: where the messages of these tags come from.
    """

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()

    def is_done(self, message: B) -> bool:
        """Tell whether a page was done here before. Then its copy continues the operation."""
        return (message.operation, message.after) in self._done

    def note_done(self, message: B) -> None:
        """Note that a page was published. If it comes twice, only one copy goes on."""
        self._done[message.operation, message.after] = None
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    async def read(
        self, storage: TagStorage, key: TagKey, delivery: Delivery, message: B
    ) -> tuple[list[str], list[Outgoing]]:
        """Read the next members.

        Args:
            storage: where they are.
            key: the tag or custom id.
            delivery: the message as it came.
            message: the same, decoded.

        Returns:
            The members, and the message for those behind them, if there may be any.
        """
        limit = max(1, min(PAGE, PAGE_BYTES // len(memoryview(message.input))))
        until = message.made_at + SKEW_SECONDS
        found = await storage.members(key, until=until, after=message.after, limit=limit)
        if len(found) < limit:
            return found, []
        sent = delivery.message
        following = Message(sent.id, sent.key, msgspec.json.encode(replace(message, after=found[-1])), sent.headers)
        return found, [Outgoing(self._topic, following)]
