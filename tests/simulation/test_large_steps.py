"""What many instances ask for at once is committed and sent in pieces: small inputs may cause much."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from infinitic import Workflow
from infinitic.storage import Change, Outcome, Published
from infinitic_storages.memory import Database
from tests.simulation.cases import Case
from tests.simulation.world import World, played

CROWD = 100
SIZE = 500_000
MOST_BYTES = 6 * 1024 * 1024


class Sink:
    async def swallow(self, text: str) -> int:
        return len(text)


class Verbose(Workflow):
    """Asks for much when it is told little."""

    sink = Workflow.new_service(Sink)

    async def run(self) -> int:
        return await self.sink.swallow("x" * SIZE)


class Scales(Database):
    """Weighs what is committed at once."""

    heaviest = 0

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        segments = [each.segment for each in changes if isinstance(each, Change) and each.segment is not None]
        self.heaviest = max(self.heaviest, sum(len(each.events) for each in segments))
        return super().commit(changes)


def test_the_bytes_of_one_commit_are_bounded() -> None:
    database = Scales()

    async def scenario(world: World) -> None:
        stub = world.client.new_workflow(Verbose)
        handles = await asyncio.gather(*(world.client.dispatch(stub.run) for _ in range(CROWD)))
        assert [await handle.result() for handle in handles] == [SIZE] * CROWD
        assert SIZE < database.heaviest <= MOST_BYTES

    played(Case("verbose", (Verbose,), lambda client: asyncio.sleep(0), (Sink,)), scenario, database)
