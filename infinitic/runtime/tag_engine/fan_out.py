"""Sends one message to all instances that have a tag, page by page (S33).

Each page is published together with the message for the next page, which goes to the same tag. So
memory is constant, other messages of this tag get in between, and a crash repeats one page at most.
An instance recognises a repeat by the operation.
"""

from __future__ import annotations

from collections import OrderedDict

from msgspec.structs import replace

from infinitic import topics
from infinitic.messages import engine
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.tags import ByTag, encode
from infinitic.storage import TagKey, TagStorage
from infinitic.transport import Delivery, Message, Outgoing

PAGE = 1000
"""To how many instances a message is sent at a time, at most."""

PAGE_BYTES = 4 * 1024 * 1024
"""How many bytes these messages have together, at most; or one message."""

SKEW_SECONDS = 5.0
"""By how much the clocks of clients may differ.

An operation reaches those that were added until then. A repeat of it that comes later reaches
nobody else.
"""

REMEMBERED = 10_000
"""How many pages that were done are kept in memory."""

_OPERATIONS = (
    engine.Signal,
    engine.CallMethod,
    engine.Cancel,
    engine.Terminate,
    engine.CompleteTimers,
    engine.RetryWorkflowTask,
    engine.RetryTasks,
)


class FanOut:
    """Makes the messages of operations by tag, for one workflow.

    Args:
        name: the workflow.
    """

    def __init__(self, name: str) -> None:
        self._topic = topics.workflow_engine(name)
        self._tag_topic = topics.workflow_tag(name)
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def make_page(self, storage: TagStorage, key: TagKey, delivery: Delivery, message: ByTag) -> list[Outgoing]:
        """Make the messages to the next instances, and the message for those behind them.

        Args:
            storage: where the members are.
            key: the tag or custom id.
            delivery: the message as it came.
            message: the same, decoded.

        Returns:
            Nothing if this page was done here before. Then its copy continues the operation.

        Raises:
            UndecodableMessage: instances cannot be sent this.
        """
        if (message.operation, message.after) in self._done:
            return []
        body = bytes(message.input)
        if not isinstance(engine.decode(body), _OPERATIONS):
            raise UndecodableMessage("This cannot be sent by tag")
        limit = max(1, min(PAGE, PAGE_BYTES // len(body)))
        until = message.made_at + SKEW_SECONDS
        found = await storage.members(key, until=until, after=message.after, limit=limit)
        outgoing = [Outgoing(self._topic, Message(message.operation, each, body)) for each in found]
        if len(found) == limit:
            following = Message(
                delivery.message.id,
                delivery.message.key,
                encode(replace(message, after=found[-1])),
                delivery.message.headers,
            )
            outgoing.append(Outgoing(self._tag_topic, following))
        return outgoing

    def note_done(self, message: ByTag) -> None:
        """Note that a page was published. If it comes twice, only one copy goes on."""
        self._done[message.operation, message.after] = None
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
