"""Sends one message to all instances that have a tag, page by page (S33).

An instance recognises a repeat by the operation.
"""

from __future__ import annotations

from infinitic import topics
from infinitic.messages import engine
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.tags import ByTag
from infinitic.runtime.tag_engine.pages import Pages
from infinitic.storage import TagKey, TagStorage
from infinitic.transport import Delivery, Message, Outgoing

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
        self._pages = Pages[ByTag](topics.workflow_tag(name))

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
        if self._pages.is_done(message):
            return []
        body = bytes(message.input)
        if not isinstance(engine.decode(body), _OPERATIONS):
            raise UndecodableMessage("This cannot be sent by tag")
        found, following = await self._pages.read(storage, key, delivery, message)
        return [*(Outgoing(self._topic, Message(message.operation, each, body)) for each in found), *following]

    def note_done(self, message: ByTag) -> None:
        """Note that a page was published. If it comes twice, only one copy goes on."""
        self._pages.note_done(message)
