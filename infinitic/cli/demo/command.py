"""``infinitic demo``: one booking on the embedded broker, in real time, that outlives its worker.

Only the bad luck is planned. Workers, broker and storage are those of any program, `booking` is
ordinary user code, and the timeline shows its log. The first worker is really cut off in the middle
of a task.
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

from infinitic.cli.demo import booking
from infinitic.cli.demo.booking import Airline, Approval, Bank, HotelChain, MailServer, Receipt, Trip, TripRequest
from infinitic.cli.demo.timeline import Timeline
from infinitic.cli.error_handling import exit_on_error
from infinitic.cli.output import Screen
from infinitic.client.client import Client
from infinitic.errors import InfiniticError
from infinitic.worker.worker import Worker
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_transports.memory import Broker, InMemoryTransport

FAST_PACE = 0.2
"""The factor by which `--fast` shortens all delays."""

MAX_SECONDS = 60.0
STYLES = {"client": "bold green", "worker-1": "cyan", "worker-2": "magenta"}

FastOption = Annotated[bool, typer.Option("--fast", help="Take about three seconds instead of seven.")]


def command(fast: FastOption = False) -> None:
    """Watch a booking survive failing tasks and the loss of its worker. Needs no server."""
    screen = Screen()
    timeline = Timeline(screen, STYLES)
    with exit_on_error(), _show_log(timeline, booking.log), screen.status("running", spinner="line"):
        receipt = asyncio.run(_play(timeline, FAST_PACE if fast else 1.0))
    screen.print(Text(_conclude(receipt)), soft_wrap=not screen.is_terminal)


async def _play(timeline: Timeline, pace: float) -> Receipt:
    try:
        async with asyncio.timeout(MAX_SECONDS):
            return await _Demo(timeline, pace).run()
    except TimeoutError:
        raise InfiniticError(f"The demo has not ended within {MAX_SECONDS:g} s; it should take a few seconds") from None


class _PowerCut(Exception):
    """Leaves the block of a worker at once, so that it cannot finish anything."""


class _Demo:
    """What happens in the demo.

    Each worker and the client have connections of their own, as if they were three processes.

    Args:
        timeline: shows what happens.
        pace: the factor for all delays.
    """

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
                async with self._make_worker("worker-1", connection).running():
                    self._show("worker-1", "starts")
                    await self._hotel_answering.wait()
                    await asyncio.sleep(0.3 * self._pace)
                    connection.crash()
                    raise _PowerCut
            self._show("worker-1", "CRASHES in the middle of a task: it is cut off, and can finish nothing", "bold red")
            await asyncio.sleep(0.8 * self._pace)
            async with self._make_worker("worker-2", InMemoryTransport(self._broker)).running():
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

    def _make_worker(self, name: str, connection: InMemoryTransport) -> Worker:
        worker = Worker(connection, InMemoryStorage(self._database), name=name)
        worker.add_workflow(Trip)
        worker.add_service(Airline(self._pace))
        worker.add_service(HotelChain(self._pace, self._hotel_answering))
        worker.add_service(Bank(self._pace))
        worker.add_service(MailServer(self._pace, self._reminded))
        return worker


def _conclude(receipt: Receipt) -> str:
    code = Path(booking.__file__)
    here = Path.cwd()
    shown = code.relative_to(here) if code.is_relative_to(here) else code
    return (
        f"\nBooked: {receipt.flight}, {receipt.hotel}, {receipt.euros} euros, approved by {receipt.approved_by}.\n\n"
        "The booking outlived its worker. Completed tasks were not run again: there is one seat and one payment. The "
        "second worker ran the interrupted task again. No retry, timer or signal was lost.\n"
        f"Read next: {shown}, the code that has just run; then the README and examples/."
    )


@contextmanager
def _show_log(timeline: Timeline, log: logging.Logger) -> Generator[None]:
    """Show this log in the timeline only, and no warning of the library: the demo causes them."""
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
