"""S13: messages that come too late, before their start, more than once, or for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import Raw

from infinitic import Channel, Client, Workflow, WorkflowUnknownError, topics
from infinitic.messages import engine, events
from infinitic.runtime.publisher import CAUSE, ORIGIN
from infinitic.transport import Message
from infinitic_testing.loop import run
from tests.simulation.cases import Case
from tests.simulation.invariants import check_nothing_changed, decode_history, read_instances
from tests.simulation.messages import make_signal, take_dead_letters
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import World, host_all, run_scenario, stop

WINDOW = 1000.0


class Mailbox(Workflow):
    letters = Channel[str]()

    async def read(self, count: int) -> list[str]:
        receiver = self.letters.receive()
        return [await receiver for _ in range(count)]

    async def echo(self, text: str) -> str:
        return text


CASE = Case("late and early", (Mailbox,), lambda client: asyncio.sleep(0))
ENGINE = topics.workflow_engine("Mailbox")


async def send(world: World, workflow_id: str, message: engine.Input, *, deliver_at: float | None = None) -> None:
    """Publish an input, as a client does."""
    await world.transport.declare([ENGINE])
    body = engine.encode(message)
    await world.transport.publish(ENGINE, [Message(workflow_id, workflow_id, body, deliver_at=deliver_at)])


def make_start(world: World, count: int, **fields: Any) -> engine.Start:
    made_at = fields.pop("made_at", world.clock.now())
    return engine.Start(made_at=made_at, method="read", arguments=Raw(b"[%d]" % count), **fields)


def test_a_start_older_than_the_window_is_a_dead_letter_with_that_reason() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(2 * WINDOW)
        await send(world, "old", make_start(world, 0, made_at=world.clock.now() - WINDOW - 1))
        await send(world, "young", make_start(world, 0, made_at=world.clock.now() - WINDOW + 1))
        await world.run_until_idle()
        assert [key.id for key in read_instances(world.database)] == ["young"]
        (letter,) = await take_dead_letters(world, ENGINE)
        assert letter.key == "old"
        assert "deduplication window" in letter.headers[CAUSE]
        assert letter.headers[ORIGIN] == ENGINE.name

    run_scenario(scenario, CASE, database=ObservedDatabase(deduplication_window=WINDOW))


@pytest.mark.parametrize(("later", "received"), [(0.0, True), (3.0, True), (7.5, True), (9.0, False)])
def test_a_signal_that_overtook_its_start_waits_for_it_for_eight_seconds(later: float, received: bool) -> None:
    async def scenario(world: World) -> None:
        stub = world.client.get_workflow_by_id(Mailbox, "box")
        sending = [asyncio.create_task(stub.letters.send(each, confirm=True)) for each in ("a", "b")]
        await asyncio.sleep(later)
        await send(world, "box", make_start(world, 2))
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        if received:
            assert outcomes == [None, None]
            assert await world.client.get_handle(Mailbox.read, "box").result() == ["a", "b"]
        else:
            assert [type(each) for each in outcomes] == [WorkflowUnknownError, WorkflowUnknownError]
            assert (await world.client.describe(stub)).status == "running"
        await asyncio.sleep(20.0)
        assert not world.backlog()

    run_scenario(scenario, CASE)


@pytest.mark.parametrize("count", [1, 100])
def test_what_overtook_its_start_while_the_engine_was_down_is_taken_behind_it(count: int) -> None:
    """The start waits right behind the signals, in the same batch of inputs or in a later one."""

    async def main() -> None:
        world = World()
        async with world.open():
            for number in range(count):
                await send(world, "box", make_signal(world, str(number)))
            await send(world, "box", make_start(world, count))
            await asyncio.sleep(11.0)
            world.host(CASE, host_all)
            received = await world.client.get_handle(Mailbox.read, "box").result()
            assert received == [str(number) for number in range(count)], "none is lost, and their order stays"

    run(main())


def test_what_waits_for_its_start_is_counted_and_an_outage_uses_nothing_up() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            (host,) = world.host(CASE, host_all)
            await send(world, "box", make_signal(world, "early"))
            await asyncio.sleep(1.0)
            await stop([host])
            await asyncio.sleep(600.0)
            world.host(CASE, host_all)
            await asyncio.sleep(1.0)
            await send(world, "box", make_start(world, 1))
            assert await world.client.get_handle(Mailbox.read, "box").result() == ["early"]

    run(main())


UNKNOWN: dict[str, Callable[[Client], Awaitable[object]]] = {
    "wait": lambda client: client.get_handle(Mailbox.read, "nobody").result(),
    "signal": lambda client: client.get_workflow_by_id(Mailbox, "nobody").letters.send("x", confirm=True),
    "call": lambda client: client.get_workflow_by_id(Mailbox, "nobody").echo("x"),
    "describe": lambda client: client.describe(client.get_workflow_by_id(Mailbox, "nobody")),
    "cancel": lambda client: client.cancel(client.get_workflow_by_id(Mailbox, "nobody"), confirm=True),
    "retry": lambda client: client.retry_workflow_task(client.get_workflow_by_id(Mailbox, "nobody"), confirm=True),
}


@pytest.mark.parametrize("verb", UNKNOWN)
def test_who_asks_for_an_unknown_workflow_is_told_so(verb: str) -> None:
    async def scenario(world: World) -> None:
        began = world.clock.now()
        with pytest.raises(WorkflowUnknownError):
            await UNKNOWN[verb](world.client)
        assert world.clock.now() - began <= 11.0
        assert not read_instances(world.database)
        assert not world.backlog()

    run_scenario(scenario, CASE)


@pytest.mark.parametrize("verb", ["signal", "call", "cancel"])
def test_who_commands_a_closed_workflow_is_told_so(verb: str) -> None:
    async def scenario(world: World) -> None:
        await send(world, "nobody", make_start(world, 0))
        await world.run_until_idle()
        before = read_instances(world.database)
        with pytest.raises(WorkflowUnknownError):
            await UNKNOWN[verb](world.client)
        await world.client.describe(world.client.get_workflow_by_id(Mailbox, "nobody"))
        assert await world.client.get_handle(Mailbox.read, "nobody").result() == []
        # The refusal itself is stored: who asked is not obeyed later, if it is re-opened.
        after = read_instances(world.database)
        assert after.keys() == before.keys()
        for key, (_, segments) in after.items():
            assert decode_history(segments) == decode_history(before[key][1])

    run_scenario(scenario, CASE)


def test_a_signal_older_than_the_window_is_never_obeyed() -> None:
    """Its deduplication id is no longer stored. It may be a duplicate, so it is refused."""

    async def scenario(world: World) -> None:
        await send(world, "box", make_start(world, 2))
        first = make_signal(world, "first")
        await send(world, "box", first)
        await asyncio.sleep(WINDOW + 7200.0)  # the deduplication id is purged
        before = read_instances(world.database)
        await send(world, "box", first)
        await world.run_until_idle()
        check_nothing_changed(before, read_instances(world.database))
        (letter,) = await take_dead_letters(world, ENGINE)
        assert "deduplication window" in letter.headers[CAUSE]
        await send(world, "box", make_signal(world, "second"))
        assert await world.client.get_handle(Mailbox.read, "box").result() == ["first", "second"]

    run_scenario(scenario, CASE, database=ObservedDatabase(deduplication_window=WINDOW))


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "later"])
def test_a_signal_or_call_that_comes_again_counts_once(together: bool) -> None:
    async def scenario(world: World) -> None:
        await send(world, "box", make_start(world, 3))
        call = engine.CallMethod(made_at=world.clock.now(), method_id="m", method="echo", arguments=Raw(b'["x"]'))
        for text in ("a", "b"):
            signal = make_signal(world, text, signal_id=f"signal {text}")
            for message in (signal, call) * 3:
                await send(world, "box", message)
                if not together:
                    await world.run_until_idle()
        await world.run_until_idle()
        await send(world, "box", make_signal(world, "c"))
        assert await world.client.get_handle(Mailbox.read, "box").result() == ["a", "b", "c"]
        ((_, segments),) = read_instances(world.database).values()
        called = [each for each in decode_history(segments) if isinstance(each, events.MethodStarted)]
        assert [each.method_id for each in called] == ["box", "m"]

    run_scenario(scenario, CASE)
