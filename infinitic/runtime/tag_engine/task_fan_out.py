"""Sends a message about each task that has a tag to the instance that waits for it (S33).

It works as `fan_out` does for instances: in pages, each of which ends with a message to itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from infinitic import topics
from infinitic.ids import task_operation_id
from infinitic.messages import engine
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.delegated import CompleteTask, FailTask
from infinitic.messages.task_tags import ByTaskTag, read_token
from infinitic.runtime.tag_engine.pages import Pages
from infinitic.storage import TagKey, TagStorage
from infinitic.transport import Delivery, Message, Outgoing

_OPERATIONS = (engine.CancelTask, CompleteTask, FailTask, engine.RetryTasks)


class TaskFanOut:
    """Makes the messages of operations by tag, for the tasks of one service.

    Args:
        service: the service.
    """

    def __init__(self, service: str) -> None:
        self._pages = Pages[ByTaskTag](topics.service_tag(service))

    async def make_page(
        self, storage: TagStorage, key: TagKey, delivery: Delivery, message: ByTaskTag
    ) -> list[Outgoing]:
        """Make the messages about the next tasks, and the message for those behind them.

        Args:
            storage: where the tasks are.
            key: the tag.
            delivery: the message as it came.
            message: the same, decoded.

        Returns:
            Nothing if this page was done here before. Then its copy continues the operation.

        Raises:
            UndecodableMessage: instances cannot be sent this.
        """
        if self._pages.is_done(message):
            return []
        asked = engine.decode(bytes(message.input))
        if not isinstance(asked, _OPERATIONS):
            raise UndecodableMessage("This cannot be sent by a tag of tasks")
        found, following = await self._pages.read(storage, key, delivery, message)
        return [*_address(asked, message.operation, found), *following]

    def note_done(self, message: ByTaskTag) -> None:
        """Note that a page was published. If it comes twice, only one copy goes on."""
        self._pages.note_done(message)


def _address(
    asked: engine.CancelTask | CompleteTask | FailTask | engine.RetryTasks, operation: str, tokens: Sequence[str]
) -> list[Outgoing]:
    """Make the messages about some tasks.

    A retry is for all tasks of an instance, which come one after another. If the next page has more
    of them, the instance recognises the second message.
    """
    outgoing: list[Outgoing] = []
    before = ("", "")
    for place in map(read_token, tokens):
        request_id = operation
        if not isinstance(asked, engine.RetryTasks):
            request_id = task_operation_id(operation, place.run, place.position)
            body = engine.encode(replace(asked, request_id=request_id, run=place.run, position=place.position))
        elif place[:2] == before:
            continue
        else:
            before = place[:2]
            body = engine.encode(replace(asked, request_id=operation))
        outgoing.append(
            Outgoing(topics.workflow_engine(place.workflow_name), Message(request_id, place.workflow_id, body))
        )
    return outgoing
