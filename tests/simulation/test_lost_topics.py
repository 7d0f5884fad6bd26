"""A topic that was removed is created again, and its consumers subscribe again."""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Channel, Workflow, topics
from infinitic.topics import Topic
from infinitic.transport import TransportUnavailable
from infinitic_testing.loop import run
from tests.simulation.cases import Case
from tests.simulation.world import World, host_all


class Echo:
    async def say(self, text: str) -> str:
        return text


class Talk(Workflow):
    echo = Workflow.new_service(Echo)
    letters = Channel[str]()

    async def run(self, text: str) -> str:
        return await self.echo.say(text)

    async def listen(self) -> str:
        return await self.letters.receive()


CASE = Case("talk", (Talk,), lambda client: asyncio.sleep(0), (Echo,))
ENGINE, SERVICE = topics.workflow_engine("Talk"), topics.service_executor("Echo")
EXECUTOR, VERSION = topics.workflow_executor("Talk"), topics.workflow_version("Talk", 0)


@pytest.mark.parametrize("lost", [(ENGINE,), (SERVICE,), (EXECUTOR,), (VERSION,), (ENGINE, SERVICE)])
def test_a_worker_joins_again_what_was_removed(lost: tuple[Topic, ...]) -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker()
            host_all(worker, CASE)
            host = world.start(worker)
            await world.run_until_idle()
            for _ in range(3):
                for topic in lost:
                    world.broker.remove(topic)
                await asyncio.sleep(1.0)
                assert worker.ready
                assert await world.client.new_workflow(Talk).run("hello") == "hello"
            assert not host.done()

    run(main())


def test_a_worker_whose_connection_is_closed_is_not_ready() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker()
            host_all(worker, CASE)
            world.start(worker)
            await world.run_until_idle()
            assert worker.ready
            await world.transport_of(0).close()
            await asyncio.sleep(1.0)
            assert not worker.ready

    run(main())


def test_a_client_whose_topic_was_removed_listens_again() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            world.host(CASE, host_all)
            await world.run_until_idle()
            handle = await world.client.dispatch(world.client.new_workflow(Talk).listen)
            waiting = asyncio.ensure_future(handle.result())
            await world.run_until_idle()
            world.broker.remove(topics.client("client"))
            with pytest.raises(TransportUnavailable, match="ask again"):
                await waiting
            again = asyncio.ensure_future(world.client.get_handle(Talk.listen, handle.workflow_id).result())
            same = asyncio.ensure_future(handle.result())
            await world.run_until_idle()
            await world.client.get_workflow_by_id(Talk, handle.workflow_id).letters.send("hello")
            assert await again == "hello"
            assert await same == "hello", "the handle that was told to ask again may do so"

    run(main())
