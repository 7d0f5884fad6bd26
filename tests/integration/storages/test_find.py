"""`find`: pages, filters, and queries that make no sense."""

from __future__ import annotations

import asyncio

import pytest

from infinitic.storage import Change, Entry, Query, StateKey, StateStorage, WorkflowStatus
from tests.integration.storages.databases import Place


def test_pages_of_find(shared: Place, name: str) -> None:
    async def scenario(states: StateStorage) -> None:
        status = list(WorkflowStatus)
        entries = {
            StateKey(name, f"{index:02}"): Entry(status[index % 3], float(index // 4), index, None, float(index))
            for index in range(25)
        }
        changes = [Change(key, None, 1, b"", 1.0, entry=entry) for key, entry in entries.items()]
        await states.commit([*changes, Change(StateKey(name, "no entry"), None, 1, b"", 1.0)])
        expected = sorted(entries, key=lambda key: (entries[key].started_at, key.id), reverse=True)
        for size in (1, 4, 25, 26):
            found: list[StateKey] = []
            cursor = None
            while True:
                page = await states.find(Query(name=name, limit=size, cursor=cursor))
                found += [each.key for each in page.found]
                assert all(each.entry == entries[each.key] for each in page.found)
                cursor = page.cursor
                if cursor is None:
                    break
                assert len(page.found) == size
            assert found == expected
        for query in (
            Query(name=name, status=WorkflowStatus.FAILED),
            Query(name=name, started_after=1.0, started_before=4.0),
            Query(name=name, overdue_at=9.0),
        ):
            matching = [each.key for each in (await states.find(query)).found]
            assert matching == [
                key
                for key in expected
                if (query.status is None or entries[key].status is query.status)
                and (query.started_after is None or 1.0 < entries[key].started_at < 4.0)
                and (
                    query.overdue_at is None
                    or (entries[key].status is WorkflowStatus.RUNNING and (entries[key].next_wake or 0) < 9.0)
                )
            ]
        assert (await states.find(Query(name=name[:-1]))).found == []
        for bad in (Query(cursor="?"), Query(cursor="[1]")):
            with pytest.raises(ValueError, match="cursor"):
                await states.find(bad)

    async def run() -> None:
        async with shared.storage() as storage:
            await storage.prepare()
            await scenario(storage.states)

    asyncio.run(run())
