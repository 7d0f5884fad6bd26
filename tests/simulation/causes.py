"""S12, F6: nothing is published before its cause is in storage. Every publish is checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from infinitic.messages import client, engine, events, executor, service
from infinitic.messages.commands import CompleteMethod, ScheduleTask
from infinitic.messages.events import Event
from infinitic.storage import DamagedState, Query, Segment, StateKey
from infinitic.storage.integrity import check_segment
from infinitic.topics import DEAD_LETTERS, Topic
from infinitic.transport import Message
from infinitic_storages.memory import Database


class Phantom(AssertionError):
    """A message was published, and its cause is not in storage."""


class Causes:
    """Knows whether the cause of a message is in a database.

    A history is read for each message. To keep this cheap, each segment is decoded once.

    Args:
        database: the database of all workers.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decoded: dict[tuple[StateKey, int], tuple[bytes, list[Event]]] = {}
        # What methods returned, in any history so far.
        self._returned = set[bytes]()

    def check(self, topic: Topic, message: Message) -> None:
        """Check that the cause of a message is in the database.

        Raises:
            Phantom: it is not.
        """
        kind, _, name = topic.name.partition(":")
        if topic.name.startswith(DEAD_LETTERS):
            return
        match kind:
            case "service-executor":
                task = service.decode(message.body)
                _check_task(task, self._read_history(StateKey(task.workflow_name, task.workflow_id)))
            case "workflow-executor":
                activation = executor.decode(message.body).activation
                history = self._read_history(StateKey(name, message.key or ""))
                if not any(isinstance(event, events.Activated) and event.number == activation for event in history):
                    raise Phantom(f"Activation {activation} of {message.key} is not in its history")
            case "workflow-engine" if message.deliver_at is not None:
                sent = engine.decode(message.body)
                if isinstance(sent, engine.Wake) and not self._database.load([StateKey(name, message.key or "")]):
                    raise Phantom(f"A wake for {message.key}, which does not exist")
            case "client":
                response = client.decode(message.body)
                if isinstance(response, client.MethodCompleted) and not self._is_returned(bytes(response.value)):
                    raise Phantom(f"The result {bytes(response.value)!r} is in no history")
            case _:
                pass

    def _read_history(self, key: StateKey) -> Iterator[Event]:
        for segment in self._database.history(key, limit=100_000):
            stored, decoded = self._decoded.get((key, segment.sequence), (b"", []))
            if stored is not segment.events:
                decoded = _decode(key, segment)
                self._decoded[key, segment.sequence] = segment.events, decoded
            yield from decoded

    def _is_returned(self, value: bytes) -> bool:
        if value not in self._returned:
            cursor: str | None = None
            while True:
                page = self._database.find(Query(limit=1000, cursor=cursor))
                for found in page.found:
                    completed = (each for each in self._read_history(found.key) if isinstance(each, CompleteMethod))
                    self._returned.update(bytes(each.value) for each in completed)
                cursor = page.cursor
                if cursor is None:
                    break
        return value in self._returned


def _decode(key: StateKey, segment: Segment) -> list[Event]:
    # A damaged segment is the cause of nothing.
    with suppress(DamagedState, msgspec.MsgspecError, UnicodeDecodeError):
        return list(events.decode(check_segment(key, segment).events))
    return []


def _check_task(task: service.ExecuteTask, history: Iterable[Event]) -> None:
    asked = (task.position, task.service, task.task, bytes(task.arguments))
    for event in history:
        if isinstance(event, ScheduleTask) and event.position == task.position:
            if (event.position, event.service, event.task, bytes(event.arguments)) == asked:
                return
            break
    raise Phantom(f"The history of {task.workflow_id} does not hold the task {asked}")
