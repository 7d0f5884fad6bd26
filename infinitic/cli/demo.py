"""``infinitic demo``: one durable booking, on the embedded broker and the real clock, that outlives its worker.

Nothing is staged but the bad luck: workers, broker and storage are those of any program, `demo_booking` is ordinary
user code, the timeline shows its log, and the first worker is really cut off in the middle of a task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from infinitic.cli import demo_booking
from infinitic.cli.demo_booking import Airline, Approval, Bank, HotelChain, MailServer, Receipt, Trip, TripRequest
from infinitic.cli.exits import exit_codes
from infinitic.cli.timeline import Screen, Timeline
from infinitic.client.client import Client
from infinitic.errors import InfiniticError
from infinitic.worker.worker import Worker
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_transports.memory import Broker, InMemoryTransport

FAST = 0.2
LONGEST = 60.0
STYLES = {"client": "bold green", "worker-1": "cyan", "worker-2": "magenta"}

Fast = Annotated[bool, typer.Option("--fast", help="Shorter delays: about three seconds instead of seven.")]


def command(fast: Fast = False) -> None:
    """Watch a durable booking survive failures and the loss of its worker. Needs no infrastructure."""
    screen = Screen()
    timeline = Timeline(screen, STYLES)
    with exit_codes(), _showing(timeline, demo_booking.log), screen.status("running", spinner="line"):
        receipt = asyncio.run(_play(timeline, FAST if fast else 1.0))
    screen.print(Text(_conclusion(receipt)), soft_wrap=not screen.is_terminal)


async def _play(timeline: Timeline, pace: float) -> Receipt:
    try:
        async with asyncio.timeout(LONGEST):
            return await _Play(timeline, pace).run()
    except TimeoutError:
        raise InfiniticError(f"The demo should take seconds, and did not end within {LONGEST:g}") from None


class _PowerCut(Exception):
    """Leaves a worker without letting it finish anything."""


class _Play:
    """The plot. Each worker and the client have connections of their own, as in three processes."""

    def __init__(self, timeline: Timeline, pace: float) -> None:
        self._show = timeline.show
        self._pace = pace
        self._broker = Broker()
        self._database = Database()
        self._hotel_answering = asyncio.Event()
        self._reminded = asyncio.Event()

    async def run(self) -> Receipt:
        request = TripRequest("Ada", manager="Grace", city="Lisbon", nights=3, remind_after=1.2 * self._pace)
        async with Client(InMemoryTransport(self._broker), name="client") as client:
            handle = await client.dispatch(client.new_workflow(Trip).book, request)
            self._show("client", f"starts the workflow Trip, id {handle.workflow_id}")
            connection = InMemoryTransport(self._broker)
            with suppress(_PowerCut):
                async with self._worker("worker-1", connection).running():
                    self._show("worker-1", "starts")
                    await self._hotel_answering.wait()
                    await asyncio.sleep(0.3 * self._pace)
                    connection.crash()
                    raise _PowerCut
            self._show("worker-1", "CRASHES in the middle of that: cut off, without a chance to finish", "bold red")
            await asyncio.sleep(0.8 * self._pace)
            async with self._worker("worker-2", InMemoryTransport(self._broker)).running():
                self._show("worker-2", "starts, and takes over")
                await self._reminded.wait()
                await asyncio.sleep(0.6 * self._pace)
                self._show("client", "sends the signal: Grace approves")
                await client.get_workflow_by_id(Trip, handle.workflow_id).approvals.send(
                    Approval("Grace", granted=True)
                )
                receipt = await handle.result()
                info = await client.describe(handle)
                self._show("client", f"has the result; the workflow is {info.status}, after {info.steps} steps")
        return receipt

    def _worker(self, name: str, connection: InMemoryTransport) -> Worker:
        worker = Worker(connection, InMemoryStorage(self._database), name=name)
        worker.add_workflow(Trip)
        worker.add_service(Airline(self._pace))
        worker.add_service(HotelChain(self._pace, self._hotel_answering))
        worker.add_service(Bank(self._pace))
        worker.add_service(MailServer(self._pace, self._reminded))
        return worker


def _conclusion(receipt: Receipt) -> str:
    code = Path(demo_booking.__file__)
    here = Path.cwd()
    shown = code.relative_to(here) if code.is_relative_to(here) else code
    return (
        f"\nBooked: {receipt.flight}, {receipt.hotel}, {receipt.euros} euros, approved by {receipt.approved_by}.\n\n"
        "The booking outlived its worker: what was done stayed done (one seat, one payment), the task that was cut off "
        "was begun again elsewhere, and retries, timer and signal were counted and kept all the while.\n"
        f"Read next: {shown}, the code that has just run; then the README and examples/."
    )


@contextmanager
def _showing(timeline: Timeline, log: logging.Logger) -> Generator[None]:
    """Have the timeline show this log, and nobody else; what the library warns of is part of the plot."""
    library, silent = logging.getLogger("infinitic"), logging.NullHandler()
    library.addHandler(silent)
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(timeline)
    try:
        yield
    finally:
        library.removeHandler(silent)
        log.removeHandler(timeline)
        log.setLevel(before[0])
        log.propagate = before[1]
