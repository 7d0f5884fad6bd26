"""Reads the open tasks of an instance from the storage, and looks whether a worker serves them."""

from __future__ import annotations

import asyncio

import msgspec

from infinitic import topics
from infinitic.cli.connection import count_consumers
from infinitic.cli.output import format_instant
from infinitic.engines import open_work
from infinitic.engines.open_work import OpenTask
from infinitic.engines.state import WorkflowHead
from infinitic.errors import DecodingError, StorageError
from infinitic.runtime.history import decode_events, decode_head
from infinitic.storage import StateKey, Storage
from infinitic.storage.integrity import ensure_checked
from infinitic.transport import Transport

STORAGE_SECONDS = 15.0
"""How long the storage may take to answer."""

MAX_TASKS = 20
"""How many open tasks are shown."""


class OpenTaskRow(msgspec.Struct):
    """An open task, for people.

    Args:
        task: the names of the service and the task.
        task_id: the id of the task.
        attempt: the number of the next attempt, or of the one that runs.
        due: when this attempt is sent; None if that is past.
        failure: the failure of the attempt before, in one line.
        served: whether a worker runs tasks of this service.
    """

    task: str
    task_id: str
    attempt: int
    due: str | None
    failure: str | None
    served: bool


class OpenTasks(msgspec.Struct):
    """The open tasks of an instance.

    Args:
        tasks: up to `MAX_TASKS` of them.
        unserved: the services among these that no worker serves.
        unknown: why the tasks are not known; empty if they are.
    """

    tasks: list[OpenTaskRow]
    unserved: list[str]
    unknown: str = ""


async def read_open_tasks(storage: Storage | None, transport: Transport, name: str, workflow_id: str) -> OpenTasks:
    """Read the open tasks of an instance.

    A storage that cannot tell is not an error here: what else is known is worth showing.

    Args:
        storage: the database; None if the configuration has none.
        transport: the broker, which knows what workers serve.
        name: the name of the workflow.
        workflow_id: the id of the instance.
    """
    if storage is None:
        return OpenTasks([], [], "the configuration has no storage")
    try:
        async with asyncio.timeout(STORAGE_SECONDS):
            tasks = await _load_open_tasks(storage, StateKey(name, workflow_id))
    except TimeoutError:
        return OpenTasks([], [], f"the storage did not answer within {STORAGE_SECONDS:g} s")
    except (StorageError, DecodingError) as error:
        return OpenTasks([], [], f"the storage cannot be read: {' '.join(str(error).split())}")
    served = {
        service: bool(await count_consumers(transport, topics.service_executor(service)))
        for service in sorted({each.service for each in tasks})
    }
    rows = [
        OpenTaskRow(
            f"{each.service}.{each.task}",
            each.task_id,
            each.attempt,
            format_instant(each.due),
            None if each.failure is None else " ".join(str(each.failure.exception).split()),
            served[each.service],
        )
        for each in tasks
    ]
    return OpenTasks(rows, [service for service, is_served in served.items() if not is_served])


async def read_head(storage: Storage, key: StateKey) -> WorkflowHead | None:
    """Read the head of an instance.

    Args:
        storage: the database.
        key: the name of the workflow, and the id of the instance.

    Returns:
        The head; None if the storage does not know the instance.

    Raises:
        DamagedState: the head is damaged.
        NewerSchema: a later release wrote it.
    """
    stored = (await ensure_checked(storage).states.load([key])).get(key)
    return None if stored is None else decode_head(key, stored)


async def _load_open_tasks(storage: Storage, key: StateKey) -> list[OpenTask]:
    head = await read_head(storage, key)
    needed = [] if head is None else open_work.find_needed_segments(head, MAX_TASKS)
    if head is None or not needed:
        return []
    segments = await ensure_checked(storage).states.history(key, sequences=needed)
    return open_work.list_open_tasks(head, [decode_events(key, each) for each in segments], MAX_TASKS)
