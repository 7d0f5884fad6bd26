"""What `result` and `describe` say of an instance whose stored state is damaged."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Client, Worker
from infinitic.cli.commands.result import fetch_result
from infinitic.cli.connection import Connection
from infinitic.cli.describe.command import describe
from infinitic.cli.project import Project
from infinitic.errors import InfiniticError
from infinitic.storage import StateKey
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_transports.memory import Broker, InMemoryTransport
from tests.cli.test_describe_and_retry import Deal
from tests.simulation.damages import DamagedInstance


@pytest.mark.parametrize("head", [True, False])
def test_result_and_describe_say_what_is_damaged(head: bool) -> None:
    async def main() -> None:
        broker, database = Broker(), Database()
        async with (
            InMemoryTransport(broker) as transport,
            InMemoryStorage(database) as storage,
            Client(transport, storage=storage) as client,
        ):
            worker = Worker(transport, storage)
            worker.add_workflow(Deal)
            async with worker.running():
                handle = await client.dispatch(client.new_workflow(Deal).hear)
                await client.describe(handle)
            key = StateKey("Deal", handle.workflow_id)
            bench = DamagedInstance(database, key, key)
            bench.damage_head("a bit is flipped") if head else bench.damage_segments("a bit is flipped in the first")
            other = Worker(transport, storage)
            other.add_workflow(Deal)
            async with other.running():
                at = Connection(client, transport, storage, Project((), {"Deal": (Deal,)}))
                if head:
                    with pytest.raises(InfiniticError, match=r"it is stalled: What is stored of .* The head"):
                        await fetch_result(at, "Deal", handle.workflow_id)
                else:
                    stub = client.get_workflow_by_id(Deal, handle.workflow_id)
                    await stub.words.send("yes", confirm=True)
                    ended = await fetch_result(at, "Deal", handle.workflow_id, wait=True, timeout=0.01)
                    assert ended.status == "running"
                    assert "within 0.01 s; it is stalled: What is stored of" in ended.error
                info = await describe(at, "Deal", handle.workflow_id)
                assert info.notes[0].startswith("stalled: restore the damaged data, then ")

    asyncio.run(main())
