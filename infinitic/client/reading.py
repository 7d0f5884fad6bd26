"""What a client reads from the storage. It asks no engine, so it needs no worker."""

from __future__ import annotations

from datetime import datetime

from infinitic.client.handles import find_instance
from infinitic.clock import to_instant
from infinitic.errors import UsageError, WorkflowUnknownError
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.replay.run import Run
from infinitic.runtime.run_reading import read_run
from infinitic.storage import Flag, Page, Query, StateKey, Storage


class StorageReads:
    """The methods of a client that read the storage."""

    _storage: Storage | None

    async def read_run(self, target: object, *, payloads: bool = True) -> Run:
        """Read what an instance did, step by step: its tasks with their attempts, timers, signals.

        ::

            run = await client.read_run(handle)
            for step in run.steps:
                print(step.name, step.status, [attempt.worker for attempt in step.attempts])

        A closed instance can be read until its retention ends. `describe` asks the engine instead,
        and knows what the instance waits for, but not what it did.

        Args:
            target: a stub of an instance, or a handle.
            payloads: whether arguments and values are read as well. They are as the history has
                them: a payload codec may have coded them.

        Raises:
            WorkflowUnknownError: the storage has no such instance.
            UsageError: this client has no storage, or `target` stands for no instance.
            DamagedState: what is stored is not what was written.
        """
        name, workflow_id = find_instance(target)
        run = await read_run(self._find_storage("read_run"), StateKey(name, workflow_id), payloads=payloads)
        if run is None:
            raise WorkflowUnknownError(name, "", workflow_id)
        return run

    async def list_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
        flag: Flag | None = None,
    ) -> Page:
        """Read a page of instances from the storage, newest first.

        Closed instances are there until their retention ends.

        Args:
            name: only instances of this workflow.
            status: only those of this status.
            since: only those that started at this instant or later. It needs a time zone.
            limit: how many at most.
            cursor: `Page.cursor` of the page before.
            flag: only those that are stalled, or parked.

        Raises:
            UsageError: this client has no storage, or an argument cannot be.
        """
        states = self._find_storage("list_workflows").states
        after = None if since is None else to_instant(since)
        return await states.find(Query(name, status, after, limit=limit, cursor=cursor, flag=flag))

    def _find_storage(self, method: str) -> Storage:
        if self._storage is None:
            raise UsageError(f"{method} reads the storage: Client(transport, storage=…)")
        return self._storage
