"""Sends a message about each task that has a tag to the instance that waits for it (S33).

It works as `fan_out` does for instances: in pages, each of which ends with a message to itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from msgspec.structs import replace

from infinitic import topics
from infinitic.ids import task_operation_id
from infinitic.messages import engine
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.delegated import CompleteTask, FailTask
from infinitic.messages.task_tags import ByTaskTag, encode, read_token
from infinitic.runtime.tag_engine.fan_out import PAGE, PAGE_BYTES, REMEMBERED, SKEW_SECONDS
from infinitic.storage import TagKey, TagStorage
from infinitic.transport import Delivery, Message, Outgoing

_OPERATIONS = (engine.CancelTask, CompleteTask, FailTask, engine.RetryTasks)


class TaskFanOut:
    """Makes the messages of operations by tag, for the tasks of one service.

    Args:
        service: the service.
    """

    def __init__(self, service: str) -> None:
        self._topic = topics.service_tag(service)
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()

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
        if (message.operation, message.after) in self._done:
            return []
        body = bytes(message.input)
        asked = engine.decode(body)
        if not isinstance(asked, _OPERATIONS):
            raise UndecodableMessage("This cannot be sent by a tag of tasks")
        limit = max(1, min(PAGE, PAGE_BYTES // len(body)))
        until = message.made_at + SKEW_SECONDS
        found = await storage.members(key, until=until, after=message.after, limit=limit)
        outgoing = _address(asked, message.operation, found)
        if len(found) == limit:
            following = Message(
                delivery.message.id,
                delivery.message.key,
                encode(replace(message, after=found[-1])),
                delivery.message.headers,
            )
            outgoing.append(Outgoing(self._topic, following))
        return outgoing

    def note_done(self, message: ByTaskTag) -> None:
        """Note that a page was published. If it comes twice, only one copy goes on."""
        self._done[message.operation, message.after] = None
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)


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
