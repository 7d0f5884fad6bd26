"""Who waits for a method is in the head once, and only while somebody waits (S37)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from infinitic import Channel, Client, UsageError, Workflow
from infinitic.engines import state
from infinitic.engines.state import WorkflowHead
from infinitic.limits import MAX_WAITERS
from infinitic.messages import client, engine
from infinitic.messages.client import ReplyTo
from infinitic.topics import workflow_engine
from infinitic.transport import Message
from infinitic_testing.loop import run
from tests.simulation.cases import Case
from tests.simulation.invariants import read_instances
from tests.simulation.world import World, host_all


class Patient(Workflow):
    go = Channel[str]()

    async def wait(self) -> str:
        return await self.go.receive()

    async def beside(self) -> str:
        return await self.go.receive()


CASE = Case("waiters", (Patient,), lambda client: asyncio.sleep(0))


def read_head(world: World) -> WorkflowHead:
    (stored,) = read_instances(world.database).values()
    return state.decode(stored[0])


def list_waiters(world: World) -> list[str]:
    return [each.client for method in read_head(world).methods for each in method.waiters]


async def start(world: World) -> str:
    world.host(CASE, host_all)
    handle = await world.client.dispatch(world.client.new_workflow(Patient).wait)
    await world.run_until_idle()
    return handle.workflow_id


def test_three_thousand_polls_are_one_waiter_and_it_goes_when_they_end() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            workflow_id = await start(world)
            alone, sequence = read_head(world), read_head(world).sequence
            for _ in range(3000):
                with pytest.raises(TimeoutError):
                    await world.client.get_handle(Patient.wait, workflow_id).result(timeout=1)
            assert list_waiters(world) == ["client"]
            published = sum(topic.name == "workflow-engine:Patient" for topic, _ in world.published)
            assert published == 2, "the start, and one request"
            await asyncio.sleep(30.0)
            assert read_head(world) == alone
            assert read_head(world).sequence == sequence, "none of this is history"
            await world.client.get_workflow_by_id(Patient, workflow_id).go.send("done")
            assert await world.client.get_handle(Patient.wait, workflow_id).result() == "done"

    run(main())


def test_many_who_wait_at_once_are_answered_by_one_answer() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            workflow_id = await start(world)
            handles = [world.client.get_handle(Patient.wait, workflow_id) for _ in range(50)]
            waiting = [asyncio.create_task(handle.result()) for handle in handles]
            gives_up = asyncio.create_task(handles[0].result())
            await asyncio.sleep(60.0)
            assert list_waiters(world) == ["client"]
            gives_up.cancel()
            with suppress(asyncio.CancelledError):
                await gives_up
            await asyncio.sleep(60.0)
            await world.client.get_workflow_by_id(Patient, workflow_id).go.send("done")
            assert await asyncio.gather(*waiting) == ["done"] * 50
            assert sum(topic.name == "client:client" for topic, _ in world.published) == 1

    run(main())


def test_a_client_that_closes_waits_no_more() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            workflow_id = await start(world)
            for _ in range(20):
                async with Client(world.transport, name="short", clock=world.clock) as client:
                    with pytest.raises(TimeoutError):
                        await client.get_handle(Patient.wait, workflow_id).result(timeout=1)
                    stub = client.get_workflow_by_id(Patient, workflow_id)
                    await client.dispatch(stub.beside)
                    await world.run_until_idle()
                    assert list_waiters(world).count("short") == 2
            await world.run_until_idle()
            assert list_waiters(world) == []
            stub = world.client.get_workflow_by_id(Patient, workflow_id)
            for _ in range(21):
                await stub.go.send("done")
            main_one = world.client.get_handle(Patient.wait, workflow_id)
            assert await main_one.result() == "done", "the methods run on though nobody waits"

    run(main())


def test_what_a_parallel_method_returned_reaches_a_handle_that_looks_late() -> None:
    """The answer comes when the method returns, also if nobody awaits the request for long."""

    async def main() -> None:
        world = World()
        async with world.open():
            workflow_id = await start(world)
            stub = world.client.get_workflow_by_id(Patient, workflow_id)
            beside = await world.client.dispatch(stub.beside)
            with pytest.raises(TimeoutError):
                await beside.result(timeout=1)
            await asyncio.sleep(100.0)
            await stub.go.send("main")
            await stub.go.send("beside")
            await asyncio.sleep(100.0)
            assert await beside.result() == "beside"
            assert await beside.result() == "beside"

    run(main())


def test_a_call_that_is_given_up_leaves_no_waiter() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            workflow_id = await start(world)
            stub = world.client.get_workflow_by_id(Patient, workflow_id)
            call = asyncio.create_task(stub.beside())
            await asyncio.sleep(1.0)
            assert list_waiters(world) == ["client"]
            call.cancel()
            await asyncio.sleep(30.0)
            assert list_waiters(world) == []

    run(main())


def test_an_answer_beside_somebody_who_begins_to_wait_is_given_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """One client asks for a method that has ended, the other for one that runs.

    This changes the head, but not the history.
    """

    async def main() -> None:
        world = World()
        async with world.open():
            workflow_id = await start(world)
            stub = world.client.get_workflow_by_id(Patient, workflow_id)
            beside = await world.client.dispatch(stub.beside)
            await stub.go.send("main")
            await world.run_until_idle()
            asks = [
                engine.Wait(made_at=world.clock.now(), reply_to=ReplyTo("client", "1")),
                engine.Wait(made_at=world.clock.now(), reply_to=ReplyTo("client", "2"), method_id=beside.method_id),
            ]
            topic = workflow_engine("Patient")
            await world.transport.publish(topic, [Message("w", workflow_id, engine.encode(each)) for each in asks])
            await world.run_until_idle()
            answers = [client.decode(each.body) for to, each in world.published if to.name == "client:client"]
            assert [each.request for each in answers] == ["1"]
            assert not caplog.records

    run(main())


def test_above_a_hundred_clients_others_ask_again_and_all_are_answered() -> None:
    """The head holds a hundred of them at most. A client that closes makes room for another one."""

    async def main() -> None:
        world = World()
        async with world.open(), AsyncExitStack() as stack:
            workflow_id = await start(world)
            clients = [Client(world.transport, name=f"c{each}", clock=world.clock) for each in range(110)]
            for each in clients[1:]:
                await stack.enter_async_context(each)
            leaver = await clients[0].__aenter__()
            waiting = [asyncio.create_task(each.get_handle(Patient.wait, workflow_id).result()) for each in clients]
            await asyncio.sleep(12.0)
            assert len(list_waiters(world)) == MAX_WAITERS
            assert read_head(world).sequence == 1, "none of this is history"
            assert leaver.name in list_waiters(world)
            await leaver.__aexit__(None, None, None)
            with pytest.raises(UsageError, match="closed"):
                await waiting[0]
            await asyncio.sleep(6.0)
            assert leaver.name not in list_waiters(world)
            assert len(list_waiters(world)) == MAX_WAITERS
            await world.client.get_workflow_by_id(Patient, workflow_id).go.send("done")
            assert await asyncio.gather(*waiting[1:]) == ["done"] * 109

    run(main())


def test_a_client_that_was_sent_away_and_closes_leaves_nobody_waiting() -> None:
    async def main() -> None:
        world = World()
        async with world.open(), AsyncExitStack() as stack:
            workflow_id = await start(world)
            for each in range(MAX_WAITERS):
                client = await stack.enter_async_context(Client(world.transport, name=f"c{each}", clock=world.clock))
                stack.push_async_callback(
                    give_up, asyncio.create_task(client.get_handle(Patient.wait, workflow_id).result())
                )
            await asyncio.sleep(1.0)
            async with Client(world.transport, name="late", clock=world.clock) as late:
                waiting = asyncio.create_task(late.get_handle(Patient.wait, workflow_id).result())
                await asyncio.sleep(1.0)
                assert "late" not in list_waiters(world)
            with pytest.raises(UsageError, match="closed"):
                await waiting
            await asyncio.sleep(10.0)
            assert len(list_waiters(world)) == MAX_WAITERS

    run(main())


async def give_up(waiting: asyncio.Task[str]) -> None:
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
