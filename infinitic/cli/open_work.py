"""What an instance waits for, read from the storage, and whether a worker serves it."""

from __future__ import annotations

import asyncio

import msgspec

from infinitic import topics
from infinitic.cli.link import consumers
from infinitic.cli.output import instant
from infinitic.engines import open_work
from infinitic.engines.open_work import OpenTask
from infinitic.engines.state import WorkflowHead
from infinitic.errors import DecodingError, StorageError
from infinitic.runtime.revival import events_of, head_of
from infinitic.storage import StateKey, Storage
from infinitic.storage.integrity import checked
from infinitic.transport import Transport

SECONDS = 15.0
"""How long the storage may take."""

MOST = 20
"""How many open tasks are shown."""


class Task(msgspec.Struct):
    """An open task for people. `due` is when the attempt is sent, `failure` that of the attempt before, in one line."""

    task: str
    task_id: str
    attempt: int
    due: str | None
    failure: str | None
    served: bool


class OpenWork(msgspec.Struct):
    """Up to `MOST` open tasks, the services that nobody serves, and why the tasks are not known, if they are not."""

    tasks: list[Task]
    unserved: list[str]
    unknown: str = ""


async def read(storage: Storage | None, transport: Transport, name: str, workflow_id: str) -> OpenWork:
    """The open tasks of an instance. What the storage cannot tell is said, not raised: the rest is worth showing."""
    if storage is None:
        return OpenWork([], [], "the configuration has no storage")
    try:
        async with asyncio.timeout(SECONDS):
            found = await _open_tasks(storage, StateKey(name, workflow_id))
    except TimeoutError:
        return OpenWork([], [], f"the storage did not answer within {SECONDS:g} s")
    except (StorageError, DecodingError) as error:
        return OpenWork([], [], f"the storage cannot tell: {' '.join(str(error).split())}")
    served = {
        service: bool(await consumers(transport, topics.service_executor(service)))
        for service in sorted({each.service for each in found})
    }
    tasks = [
        Task(
            f"{each.service}.{each.task}",
            each.task_id,
            each.attempt,
            instant(each.due),
            None if each.failure is None else " ".join(str(each.failure.exception).split()),
            served[each.service],
        )
        for each in found
    ]
    return OpenWork(tasks, [service for service, is_served in served.items() if not is_served])


async def read_head(storage: Storage, key: StateKey) -> WorkflowHead | None:
    """The head of an instance; None if there is none. Raises `DamagedState`, and `NewerSchema`."""
    stored = (await checked(storage).states.load([key])).get(key)
    return None if stored is None else head_of(key, stored)


async def _open_tasks(storage: Storage, key: StateKey) -> list[OpenTask]:
    head = await read_head(storage, key)
    needed = [] if head is None else open_work.segments_needed(head, MOST)
    if head is None or not needed:
        return []
    segments = await checked(storage).states.history(key, sequences=needed)
    return open_work.open_tasks(head, [events_of(key, each) for each in segments], MOST)
