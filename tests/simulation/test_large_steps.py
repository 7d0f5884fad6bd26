"""When many instances ask for much at once, it is committed and sent in several pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infinitic import Workflow, topics
from infinitic.storage import Change, Outcome, Published
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.cases import Case
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import Hosting, World, host_all, host_engines, host_executors

CROWD = 100
SIZE = 200_000
MOST_BYTES = 5 * 1024 * 1024


class Sink:
    async def swallow(self, text: str) -> int:
        return len(text)


class Verbose(Workflow):
    """Asks for much when it is told little."""

    sink = Workflow.new_service(Sink)

    async def run(self) -> int:
        return await self.sink.swallow("x" * SIZE)


CASE = Case("verbose", (Verbose,), lambda client: asyncio.sleep(0), (Sink,))


class Scales(ObservedDatabase):
    """Weighs what is committed at once."""

    heaviest = 0

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        segments = [each.segment for each in changes if isinstance(each, Change) and each.segment is not None]
        self.heaviest = max(self.heaviest, sum(len(each.events) for each in segments))
        return super().commit(changes)


@pytest.mark.parametrize("roles", [(host_all,), (host_engines, host_executors)], ids=["fused", "split"])
def test_the_bytes_that_are_committed_or_sent_at_once_are_bounded(
    roles: tuple[Hosting, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Scales()
    publish = InMemoryTransport.publish
    sent: list[int] = []

    async def weigh(self: InMemoryTransport, topic: Topic, messages: Sequence[Message]) -> None:
        if topic.name == topics.workflow_engine("Verbose").name:
            sent.append(sum(len(each.body) for each in messages))
        await publish(self, topic, messages)

    monkeypatch.setattr(InMemoryTransport, "publish", weigh)

    async def main() -> None:
        world = World(database=database)
        async with world.open():
            world.host(CASE, *roles)
            await world.run_until_idle()
            stub = world.client.new_workflow(Verbose)
            handles = await asyncio.gather(*(world.client.dispatch(stub.run) for _ in range(CROWD)))
            assert [await handle.result() for handle in handles] == [SIZE] * CROWD
            assert SIZE < database.heaviest <= MOST_BYTES
            assert max(sent) <= MOST_BYTES

    run(main())
