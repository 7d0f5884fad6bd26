"""Large values: arguments, results and signals near the limits of broker and storage."""

from __future__ import annotations

import asyncio
import zlib

from infinitic import Channel, PayloadTooLargeError, TaskFailedError, Workflow
from infinitic.limits import compute_body_limit, compute_value_limit
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office

STEP = 20_000
"""How many more characters each value has than the one before."""


class Library(Workflow):
    office = Workflow.new_service(Office)
    books = Channel[str]()

    async def read(self, number: int) -> list[int]:
        sums = list[int]()
        for _ in range(number):
            book = await self.books.receive()
            echoes = await asyncio.gather(self.office.echo(book), self.office.echo(book[::-1]))
            sums += [zlib.crc32(each.encode()) for each in echoes]
        return sums


def make_book(size: int) -> str:
    """Make a text that compresses badly enough, and differs for each size."""
    line = "".join(chr(97 + (each * each * 7 + size) % 26) for each in range(997))
    return (line * (size // len(line) + 1))[:size]


async def simulate_large_values(sim: Simulation) -> object:
    """Signals, arguments and results of up to 160,000 bytes, several of them in one step."""
    sim.add_service(Office)
    sim.add_workflow(Library, retention=KEPT)
    sizes = [STEP * each for each in (0, 1, 2, 4, 8)]
    handle = await sim.client.dispatch(sim.client.new_workflow(Library).read, len(sizes))
    books = sim.client.get_workflow_by_id(Library, handle.workflow_id).books
    for size in sizes:
        await books.send(make_book(size), confirm=True)
    return await handle.result()


class Archive(Workflow):
    """Asks for one task after the other: two such values do not fit into one message."""

    office = Workflow.new_service(Office)
    books = Channel[str]()

    async def read(self) -> list[int]:
        book = await self.books.receive()
        return [zlib.crc32((await self.office.echo(each)).encode()) for each in (book, book[::-1])]


class Copier(Workflow):
    office = Workflow.new_service(Office)
    books = Channel[str]()

    async def copy(self, number: int) -> list[int]:
        copies = [self.dispatch(self.office.echo, await self.books.receive()) for _ in range(number)]
        return sorted([zlib.crc32((await each).encode()) for each in copies])


async def simulate_flood_of_large_values(sim: Simulation) -> object:
    """So many large signals at once that what the code asks for does not fit into one step."""
    sim.add_service(Office)
    sim.add_workflow(Copier, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Copier).copy, 9)
    books = sim.client.get_workflow_by_id(Copier, handle.workflow_id).books
    await asyncio.gather(*(books.send(make_book(8 * STEP + each)) for each in range(9)))
    return await handle.result()


async def simulate_value_at_the_limit(sim: Simulation) -> object:
    """A signal, an argument and a result that are as large as a message may be."""
    sim.add_service(Office)
    sim.add_workflow(Archive, retention=KEPT)
    # Code on another worker may ask for less. Quotes and brackets of arguments are 6 bytes.
    size = compute_value_limit(compute_body_limit(sim.transport.capabilities.max_payload)) - 6
    handle = await sim.client.dispatch(sim.client.new_workflow(Archive).read)
    await sim.client.get_workflow_by_id(Archive, handle.workflow_id).books.send("x" * size)
    return await handle.result() == [zlib.crc32(b"x" * size)] * 2


class Greedy(Workflow):
    office = Workflow.new_service(Office)

    async def run(self, length: int) -> list[str]:
        log = list[str]()
        try:
            await self.office.echo("x" * length)
        except PayloadTooLargeError:
            log.append("argument refused")
        try:
            await self.office.repeat("x", length)
        except TaskFailedError:
            log.append("result refused")
        return [*log, await self.office.echo("still here")]


async def simulate_values_too_large(sim: Simulation) -> object:
    """What is above the limit is refused where it was made, and the workflow goes on."""
    sim.add_service(Office)
    sim.add_workflow(Greedy)
    return await sim.client.new_workflow(Greedy).run(6 * 1024 * 1024)
