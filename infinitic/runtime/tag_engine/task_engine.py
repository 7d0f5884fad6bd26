"""The tag engine of one service: which tasks have a tag, and what is done to all of them."""

from __future__ import annotations

from infinitic import topics
from infinitic.clock import Clock
from infinitic.messages import task_tags
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.tags import read_key
from infinitic.messages.task_tags import AddTaskTag, ByTaskTag, GetTasks, RemoveTaskTag, TaskTagMessage, read_token
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.tag_engine.answers import answer_tasks
from infinitic.runtime.tag_engine.base import TagEngine
from infinitic.runtime.tag_engine.task_fan_out import TaskFanOut
from infinitic.storage import Storage, TagChange, TagKey, TagKind
from infinitic.transport import Delivery, Outgoing


class ServiceTagEngine(TagEngine[TaskTagMessage]):
    """Handles the tags of the tasks of one service.

    Args:
        name: the service.
        publisher: sends messages.
        storage: where members of tags are.
        clock: the time of day.
        concurrency: how many tags are worked on at once.
        buffer_bytes: how many bytes of messages are held in memory.
    """

    def __init__(
        self,
        name: str,
        publisher: Publisher,
        storage: Storage,
        clock: Clock,
        *,
        concurrency: int,
        buffer_bytes: int,
    ) -> None:
        topic = topics.service_tag(name)
        super().__init__(name, topic, publisher, storage, clock, concurrency=concurrency, buffer_bytes=buffer_bytes)
        self._fan_out = TaskFanOut(name)

    def _decode(self, body: bytes) -> TaskTagMessage:
        decoded: TaskTagMessage = task_tags.decode(body)
        return decoded

    def _read_key(self, key: str | None) -> TagKey:
        read = read_key(key)
        if read.unique:
            raise UndecodableMessage("Tasks have no custom id")
        return TagKey(TagKind.TASK, self.name, read.name)

    def _make_change(self, key: TagKey, message: TaskTagMessage) -> TagChange | None:
        at = message.made_at
        match message:
            case AddTaskTag():
                read_token(message.token)
                self._check_age(at)
                # That of a task that has failed goes at last, and nobody has to remove it.
                ends = at + self._storage.capabilities.deduplication_window
                return TagChange(key, message.token, True, message.version, at, ends)
            case RemoveTaskTag():
                read_token(message.token)
                return TagChange(key, message.token, False, message.version, at)
            case GetTasks():
                _check_after(message.after)
                return None
            case ByTaskTag():
                _check_after(message.after)
                self._check_age(at)
                return None

    async def _make_outgoing(self, key: TagKey, delivery: Delivery, message: TaskTagMessage) -> list[Outgoing]:
        storage = self._storage.tags
        match message:
            case GetTasks():
                largest = self._publisher.transport.capabilities.max_payload
                return [await answer_tasks(storage, key, message, largest)]
            case ByTaskTag():
                return await self._fan_out.make_page(storage, key, delivery, message)
            case AddTaskTag() | RemoveTaskTag():
                raise AssertionError(f"{message} is a change")

    def _note_done(self, message: TaskTagMessage) -> None:
        if isinstance(message, ByTaskTag):
            self._fan_out.note_done(message)


def _check_after(token: str) -> None:
    if token:
        read_token(token)
