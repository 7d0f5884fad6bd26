"""Signals: more than are received, all received, filtered, and racing with timers."""

from __future__ import annotations

import asyncio

from msgspec import Raw

from infinitic import Channel, Workflow, topics, workflow
from infinitic.messages import engine
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office, begin_draws, draw


class Reader(Workflow):
    office = Workflow.new_service(Office)
    letters = Channel[int]()

    async def read(self, number: int) -> list[int]:
        return [await self.letters.receive() for _ in range(number)]

    async def answer(self, number: int) -> int:
        """Run a task for each signal, while further signals come."""
        total = 0
        for _ in range(number):
            letter, drawn = await self.letters.receive(), self.inline(draw)
            total += await self.office.add(letter, drawn) - drawn
        return total


@workflow(name="Reader", version=1)
class NewReader(Reader):
    """A version with the same code, which some workers may lack."""


async def simulate_more_signals_than_receives(sim: Simulation) -> object:
    """30 signals to an instance that reads 10. Each is confirmed, so their order is fixed."""
    sim.add_workflow(Reader, NewReader, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Reader).read, 10)
    letters = sim.client.get_workflow_by_id(Reader, handle.workflow_id).letters
    for number in range(10):
        await letters.send(number, confirm=True)
    heard = await handle.result()
    # To a closed instance: nobody reads these.
    for number in range(10, 30):
        await letters.send(number)
    return heard


async def simulate_flood_of_signals(sim: Simulation) -> object:
    """Signals that nobody waits for while they come. They may overtake one another."""
    sim.add_workflow(Reader, NewReader, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Reader).read, 60)
    letters = sim.client.get_workflow_by_id(Reader, handle.workflow_id).letters
    for first in range(0, 60, 12):
        await asyncio.gather(*(letters.send(number) for number in range(first, first + 12)))
        await sim.sleep(0.3)
    return sorted(await handle.result())


async def simulate_signals_and_tasks(sim: Simulation) -> object:
    """A loop of 100 signals, with a task for each of them."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Reader, NewReader, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Reader).answer, 100)
    letters = sim.client.get_workflow_by_id(Reader, handle.workflow_id).letters
    for number in range(100):
        await letters.send(number)
    return await handle.result()


async def simulate_signals_before_start(sim: Simulation) -> object:
    """Signals come to an instance that does not exist yet. They wait for its start."""
    sim.add_workflow(Reader, NewReader, retention=KEPT)
    topic = topics.workflow_engine("Reader")
    await sim.transport.declare([topic])
    for number, seconds in enumerate((0.0, 0.01, 0.2, 1.0)):
        handle = sim.client.get_handle(Reader.read, f"reader-{number}")
        letters = sim.client.get_workflow_by_id(Reader, handle.workflow_id).letters
        sending = asyncio.gather(*(letters.send(each) for each in range(3)))
        # Signals wait eight seconds for a start. One of them may take longer on its way.
        await asyncio.wait([sending], timeout=3.0)
        await sim.sleep(seconds)
        start = engine.Start(made_at=sim.clock.now(), method="read", arguments=Raw(b"[3]"))
        await sim.transport.publish(topic, [Message(handle.workflow_id, handle.workflow_id, engine.encode(start))])
        await sending
    readers = [sim.client.get_handle(Reader.read, f"reader-{number}") for number in range(4)]
    return [sorted(await each.result()) for each in readers]


class Impatient(Workflow):
    letters = Channel[int]()

    async def read(self, number: int) -> list[int]:
        heard = list[int]()
        while len(heard) < number:
            # A receiver that loses its race gives its signal back.
            got = await (self.letters.receive() | self.timer(0.05 * (1 + len(heard) % 4)))
            if isinstance(got, int):
                heard.append(got)
        return heard


async def simulate_signals_and_timers(sim: Simulation) -> object:
    """Each signal races with a timer. Whoever wins, each signal is heard once."""
    sim.add_workflow(Impatient, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Impatient).read, 25)
    letters = sim.client.get_workflow_by_id(Impatient, handle.workflow_id).letters
    for number in range(25):
        await letters.send(number)
        await sim.sleep(0.07)
    return sorted(await handle.result())


class Sorting(Workflow):
    letters = Channel[int]()
    words = Channel[str](keep=0)

    async def read(self, number: int) -> list[list[int]]:
        even = list[int]()
        large = list[int]()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._collect(even, "?@ < 100", number))
            group.create_task(self._collect(large, "?@ >= 100", number))
        return [sorted(even), sorted(large)]

    async def _collect(self, found: list[int], where: str, number: int) -> None:
        async for letter in self.letters.receive(where=where, limit=number):
            found.append(letter)


async def simulate_filtered_signals(sim: Simulation) -> object:
    """Two readers of one channel, each with a filter, and a channel that keeps nothing."""
    sim.add_workflow(Sorting, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Sorting).read, 8)
    stub = sim.client.get_workflow_by_id(Sorting, handle.workflow_id)
    for number in range(8):
        await stub.words.send("nobody listens")
        await asyncio.gather(stub.letters.send(number + 100), stub.letters.send(number))
    return await handle.result()
