"""Two versions of one workflow, of which a worker may lack one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from infinitic import Channel, Worker, Workflow, topics, workflow
from infinitic.engines import state
from infinitic.storage import StateKey, Stored
from infinitic.storage.integrity import check_head
from infinitic.transport import Message
from tests.simulation.messages import encode_signal
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import RETENTION, World

ENGINE = topics.workflow_engine("Inbox")


@workflow(name="Inbox")
class InboxOne(Workflow):
    letters = Channel[str]()

    async def read(self, count: int) -> list[str]:
        return [await self.letters.receive() for _ in range(count)]


@workflow(name="Inbox", version=1)
class InboxTwo(InboxOne):
    pass


def make_message(world: World, key: str, text: str) -> Message:
    """Make a message with a signal to one instance."""
    return Message(key, key, encode_signal(world, text))


def make_worker(world: World, *versions: type[Workflow], split: bool = False) -> Worker:
    """Make a worker that hosts these versions. If `split`, it hosts only their code."""
    worker = world.worker()
    if split:
        worker.add_workflow_executor(*versions, retention=RETENTION)
    else:
        worker.add_workflow(*versions, retention=RETENTION)
    return worker


async def start(world: World, count: int) -> list[str]:
    """Start so many instances of the newest version, each of which reads two signals."""
    stub = world.client.new_workflow(InboxOne)
    handles = [await world.client.dispatch(stub.read, 2) for _ in range(count)]
    await world.run_until_idle()
    return [handle.workflow_id for handle in handles]


async def check_canary(world: World) -> None:
    """Check that a new instance runs at once, whatever waits beside it."""
    (canary,) = await start(world, 1)
    await world.transport.publish(ENGINE, [make_message(world, canary, each) for each in ("x", "y")])
    async with asyncio.timeout(5.0):
        assert await world.client.get_handle(InboxTwo.read, canary).result() == ["x", "y"]


class Ahead(ObservedDatabase):
    """The heads of the instances in `newer` look as if a newer release had written them."""

    newer = frozenset[str]()

    def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        found = super().load(keys)
        for key, stored in found.items():
            if key.id in self.newer:
                head = replace(state.decode(check_head(key, stored).head), schema=99)
                found[key] = replace(stored, head=state.encode(head))
        return found
