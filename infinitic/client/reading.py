"""What a client reads from the storage. It asks no engine, so it needs no worker."""

from __future__ import annotations

from datetime import datetime

from infinitic.client.handles import find_instance
from infinitic.client.intercepting import client_verb
from infinitic.clock import to_instant
from infinitic.codec.payloads import Coder
from infinitic.errors import UsageError, WorkflowUnknownError
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.middleware.call import ClientCall
from infinitic.middleware.chain import Layer
from infinitic.replay.run import Run
from infinitic.replay.run_payloads import decode_run
from infinitic.runtime.run_reading import read_run
from infinitic.runtime.tag_listing import find_tagged, make_tagged_key
from infinitic.storage import Flag, Page, Query, StateKey, Storage


class StorageReads:
    """The methods of a client that read the storage."""

    name: str
    layers: tuple[Layer[ClientCall], ...]
    _storage: Storage | None
    _coder: Coder | None

    @client_verb
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
            payloads: whether arguments and values are read as well. The codec of this client
                decodes them.

        Raises:
            WorkflowUnknownError: the storage has no such instance.
            UsageError: this client has no storage, or `target` stands for no instance.
            DamagedState: what is stored is not what was written.
            PayloadError: the codec cannot decode what was stored, never or not now.
        """
        name, workflow_id = find_instance(target)
        run = await read_run(self._find_storage("read_run"), StateKey(name, workflow_id), payloads=payloads)
        if run is None:
            raise WorkflowUnknownError(name, "", workflow_id)
        coder = self._coder
        return run if coder is None or not payloads else await coder.run_outside(lambda: decode_run(run, coder))

    @client_verb
    async def list_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        tag: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
        flag: Flag | None = None,
        until: datetime | None = None,
        closed_since: datetime | None = None,
        closed_until: datetime | None = None,
        id_prefix: str | None = None,
        custom_id: str | None = None,
    ) -> Page:
        """Read a page of instances from the storage, newest first.

        Closed instances are there until their retention ends. By tag or custom id, only those that
        run are found, in the order of their ids. Instants need a time zone.

        Args:
            name: only instances of this workflow.
            status: only those of this status.
            tag: only those that run and have this tag. It needs `name`, and takes no other filter.
            since: only those that started after this instant.
            limit: how many at most.
            cursor: `Page.cursor` of the page before.
            flag: only those that are stalled, or parked.
            until: only those that started before this instant.
            closed_since: only those that closed after this instant.
            closed_until: only those that closed before this instant.
            id_prefix: only those whose id begins so. It needs `name`.
            custom_id: only the one that runs and has this custom id. It needs `name`, and takes no
                other filter.

        Raises:
            UsageError: this client has no storage, or an argument cannot be.
        """
        storage = self._find_storage("list_workflows")
        if tag is not None or custom_id is not None:
            filters = (status, since, flag, until, closed_since, closed_until, id_prefix)
            both = tag is not None and custom_id is not None
            if name is None or both or any(each is not None for each in filters):
                what = "tag" if custom_id is None else "custom_id"
                raise UsageError(f"list_workflows({what}=…) takes name, limit and cursor, and no other filter")
            return await find_tagged(storage, make_tagged_key(name, tag, custom_id), limit=limit, cursor=cursor)
        states = storage.states
        started, closed = _make_range(since, until), _make_range(closed_since, closed_until)
        return await states.find(Query(name, status, *started, None, limit, cursor, flag, *closed, id_prefix))

    @client_verb
    async def count_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        since: datetime | None = None,
        limit: int = 10_000,
        flag: Flag | None = None,
        until: datetime | None = None,
        closed_since: datetime | None = None,
        closed_until: datetime | None = None,
        id_prefix: str | None = None,
    ) -> int:
        """Count the instances that `list_workflows` would list, but no further than `limit`.

        So it is quick also where there are millions: 10,000 means "10,000 or more".

        Args:
            name: as for `list_workflows`, and so the others.
            status: see there.
            since: see there.
            limit: how far it counts.
            flag: see there.
            until: see there.
            closed_since: see there.
            closed_until: see there.
            id_prefix: see there.

        Raises:
            UsageError: this client has no storage, or an argument cannot be.
        """
        states = self._find_storage("count_workflows").states
        started, closed = _make_range(since, until), _make_range(closed_since, closed_until)
        return await states.count(Query(name, status, *started, None, limit, None, flag, *closed, id_prefix))

    def _find_storage(self, method: str) -> Storage:
        if self._storage is None:
            raise UsageError(f"{method} reads the storage: Client(transport, storage=…)")
        return self._storage


def _make_range(after: datetime | None, before: datetime | None) -> tuple[float | None, float | None]:
    return None if after is None else to_instant(after), None if before is None else to_instant(before)
