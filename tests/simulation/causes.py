"""S12, F6: nothing is published before its cause is in storage. Every publish is checked."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from infinitic.messages import client, commands, engine, events, executor, service
from infinitic.messages.events import Event
from infinitic.storage import DamagedState, Query, StateKey
from infinitic.storage.integrity import check_segment
from infinitic.topics import DEAD_LETTERS, Topic
from infinitic.transport import Message
from infinitic_storages.memory import Database


class Phantom(AssertionError):
    """A message was published, and its cause is not in storage."""


def check_cause(database: Database, topic: Topic, message: Message) -> None:
    """Check that the cause of a message is in storage.

    Raises:
        Phantom: it is not.
    """
    kind, _, name = topic.name.partition(":")
    if topic.name.startswith(DEAD_LETTERS):
        return
    match kind:
        case "service-executor":
            task = service.decode(message.body)
            _check_task(task, _read_history(database, StateKey(task.workflow_name, task.workflow_id)))
        case "workflow-executor":
            activation = executor.decode(message.body).activation
            history = _read_history(database, StateKey(name, message.key or ""))
            if not any(isinstance(event, events.Activated) and event.number == activation for event in history):
                raise Phantom(f"Activation {activation} of {message.key} is not in its history")
        case "workflow-engine" if message.deliver_at is not None:
            sent = engine.decode(message.body)
            if isinstance(sent, engine.Wake) and not database.load([StateKey(name, message.key or "")]):
                raise Phantom(f"A wake for {message.key}, which does not exist")
        case "client":
            response = client.decode(message.body)
            if isinstance(response, client.MethodCompleted) and not _is_returned(database, response):
                raise Phantom(f"The result {bytes(response.value)!r} is in no history")
        case _:
            pass


def _read_history(database: Database, key: StateKey) -> list[Event]:
    found: list[Event] = []
    for segment in database.history(key, limit=100_000):
        with suppress(DamagedState, msgspec.MsgspecError, UnicodeDecodeError):
            found += events.decode(check_segment(key, segment).events)
    return found


def _check_task(task: service.ExecuteTask, history: list[Event]) -> None:
    asked = (task.position, task.service, task.task, bytes(task.arguments))
    for event in history:
        if isinstance(event, commands.ScheduleTask) and event.position == task.position:
            if (event.position, event.service, event.task, bytes(event.arguments)) == asked:
                return
            break
    raise Phantom(f"The history of {task.workflow_id} does not hold the task {asked}")


def _is_returned(database: Database, response: client.MethodCompleted) -> bool:
    return any(
        isinstance(event, commands.CompleteMethod) and bytes(event.value) == bytes(response.value)
        for found in database.find(Query(limit=1000)).found
        for event in _read_history(database, found.key)
    )
