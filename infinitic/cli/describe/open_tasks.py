"""Reads what an instance waits for from the storage, and looks whether a worker serves it.

These are its open tasks, its children, and its calls of methods of other instances.
"""

from __future__ import annotations

import asyncio

import msgspec

from infinitic import topics
from infinitic.cli.connection import count_consumers
from infinitic.cli.output import format_instant
from infinitic.engines import open_work
from infinitic.engines.open_work import OpenRequest, OpenTask
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
        delegated: whether it waits for somebody outside to complete it.
    """

    task: str
    task_id: str
    attempt: int
    due: str | None
    failure: str | None
    served: bool
    delegated: bool = False


class OpenRequestRow(msgspec.Struct):
    """A child, or a call of a method of another instance, for people.

    Args:
        kind: "child" or "call".
        request: the names of the workflow and the method.
        workflow_id: the id of the child, or of the other instance.
        status: what has become of that instance; "not started" if the storage does not know it.
        served: whether a worker runs the state engine of its workflow.
    """

    kind: str
    request: str
    workflow_id: str
    status: str
    served: bool


class OpenTasks(msgspec.Struct):
    """What an instance waits for.

    Args:
        tasks: its open tasks, up to `MAX_TASKS` of them.
        unserved: the services among these that no worker serves.
        unknown: why all this is not known; empty if it is.
        requests: its children and calls, up to `MAX_TASKS` of them.
        unserved_workflows: the workflows among these whose state engine no worker has.
    """

    tasks: list[OpenTaskRow]
    unserved: list[str]
    unknown: str = ""
    requests: list[OpenRequestRow] = []
    unserved_workflows: list[str] = []


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
            tasks, requests, statuses = await _load_open_work(storage, StateKey(name, workflow_id))
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
            each.delegated,
        )
        for each in tasks
    ]
    hosted = {
        workflow: bool(await count_consumers(transport, topics.workflow_engine(workflow)))
        for workflow in sorted({each.workflow for each in requests})
    }
    return OpenTasks(
        rows,
        [service for service, is_served in served.items() if not is_served],
        requests=[
            OpenRequestRow(
                "child" if each.is_child else "call",
                f"{each.workflow}.{each.method}",
                each.workflow_id or f"with custom id {each.custom_id!r}",
                status,
                hosted[each.workflow],
            )
            for each, status in zip(requests, statuses, strict=True)
        ],
        unserved_workflows=[workflow for workflow, is_hosted in hosted.items() if not is_hosted],
    )


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


async def _load_open_work(storage: Storage, key: StateKey) -> tuple[list[OpenTask], list[OpenRequest], list[str]]:
    """Load open tasks, then children and calls, then what has become of the instances of these."""
    head = await read_head(storage, key)
    needed = [] if head is None else open_work.find_needed_segments(head, MAX_TASKS)
    if head is None or not needed:
        return [], [], []
    segments = await ensure_checked(storage).states.history(key, sequences=needed)
    happened = [decode_events(key, each) for each in segments]
    requests = open_work.list_open_requests(head, happened, MAX_TASKS)
    statuses = [await _read_status(storage, each) for each in requests]
    return open_work.list_open_tasks(head, happened, MAX_TASKS), requests, statuses


async def _read_status(storage: Storage, request: OpenRequest) -> str:
    if not request.workflow_id:
        return "not known"
    head = await read_head(storage, StateKey(request.workflow, request.workflow_id))
    if head is None:
        return "not started, or another one has its custom id" if request.custom_id else "not started"
    if head.parked:
        return "parked"
    return str(head.status) if head.closed or head.stalled is None else "stalled"
