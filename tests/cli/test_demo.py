"""`infinitic demo` as a person runs it, and how commands end."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from rich.console import Console

from infinitic import WorkflowFailedError
from infinitic.cli.demo.booking import (
    Airline,
    Approval,
    Bank,
    HotelChain,
    MailServer,
    Receipt,
    Trip,
    TripRequest,
)
from infinitic.cli.demo.timeline import Timeline
from infinitic.cli.error_handling import exit_on_error
from infinitic.errors import TransportError
from infinitic_testing.simulation import Simulation

COMMAND = [sys.executable, "-m", "infinitic"]
LIMIT = 60.0

STORY = [
    r"client +starts the workflow Trip, id \w+",
    r"worker-1 +starts",
    r"Trip +books a trip to Lisbon for Ada",
    r"Flights.book worker-1 +seat 12A to Lisbon is booked",
    r"Hotels.book worker-1 +attempt 1 fails",
    r"Hotels.book worker-1 +attempt 2 fails",
    r"Hotels.book worker-1 +attempt 3: the hotel answers",
    r"worker-1 +CRASHES",
    r"worker-2 +starts, and takes over",
    r"Hotels.book worker-2 +attempt 3: the hotel answers",
    r"Hotels.book worker-2 +attempt 3: room 7 in Lisbon is booked",
    r"Mail.ask worker-2 +asks Grace",
    r"Trip +the timer has ended",
    r"Mail.remind worker-2 +reminds Grace",
    r"client +sends the signal",
    r"Trip +got the signal: approved by Grace",
    r"Payments.charge worker-2 +Ada pays 730 euros",
    r"client +has the result; the workflow is completed",
    r"Booked: seat 12A to Lisbon, room 7 in Lisbon, 3 nights, 730 euros, approved by Grace\.",
    r"Read next: \S*demo/booking\.py",
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=LIMIT)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """In the background of a shell, the tests and the processes they start ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_demo_shows_what_happens() -> None:
    ended = run("demo", "--fast")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(".*".join(STORY), ended.stdout, re.DOTALL), ended.stdout
    assert "\x1b" not in ended.stdout
    once = ["seat 12A to Lisbon is booked", "attempt 1 fails", "attempt 2 fails", "pays", "got the signal"]
    assert {line: ended.stdout.count(line) for line in once} == dict.fromkeys(once, 1)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("moment", ["worker-1 +starts", "attempt 1 fails", "CRASHES"])
def test_ctrl_c_is_one_line(moment: str) -> None:
    with subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(re.search(moment, line) for line in process.stdout)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, errors) == (130, "Interrupted.\n")
    assert "Booked" not in output


def test_a_reader_that_goes_away_is_not_a_failure() -> None:
    with subprocess.Popen(
        [*COMMAND, "demo", "--fast"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(LIMIT)
    assert (process.returncode, errors) == (0, "")


def test_version() -> None:
    ended = run("--version")
    assert ended.returncode == 0
    assert re.fullmatch(r"infinitic \d+\.\d+\.\d+\S*\n", ended.stdout)


def test_wrong_usage_has_no_traceback() -> None:
    ended = run("demo", "--slow")
    assert ended.returncode == 2
    assert "--slow" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_infinitic_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, exit_on_error():
        raise TransportError("No broker:\n  nowhere to be found")
    assert caught.value.exit_code == 1
    assert capsys.readouterr() == ("", "Error: No broker: nowhere to be found\n")


def test_rows_on_a_terminal_are_coloured_and_wrap_in_their_column() -> None:
    written = io.StringIO()
    screen = Console(file=written, force_terminal=True, width=60, color_system="standard", legacy_windows=False)
    timeline = Timeline(screen, {"worker-1": "cyan"})
    timeline.show("worker-1", "tells a story of [more] than one line")
    first, second = written.getvalue().splitlines()
    assert "\x1b[36mworker-1" in first
    assert "a story of [more]" in first
    assert re.fullmatch(r" {34}\w.*", re.sub(r"\x1b\[[\d;]*m", "", second))


def test_the_timeline_names_the_logger_of_a_row() -> None:
    written = io.StringIO()
    timeline = Timeline(Console(file=written, force_terminal=False), {})
    timeline.handle(logging.LogRecord("shop.Trip", logging.INFO, __file__, 1, "%d%% done", (50,), None))
    assert re.fullmatch(r" +\d+\.\d\ds  Trip +50% done\n", written.getvalue())


def _host(sim: Simulation) -> TripRequest:
    sim.add_workflow(Trip)
    for service in (Airline(1), HotelChain(1, asyncio.Event()), Bank(1), MailServer(1, asyncio.Event())):
        sim.add_service(service)
    return TripRequest("Ada", "Grace", "Lisbon", 3, remind_after=3600)


async def test_the_booking_can_be_approved_days_later(sim: Simulation) -> None:
    request = _host(sim)
    handle = await sim.client.dispatch(sim.client.new_workflow(Trip).book, request)
    await sim.sleep(7 * 86_400)
    await sim.client.get_workflow_by_id(Trip, handle.workflow_id).approvals.send(Approval("Grace", granted=True))
    assert await handle.result() == Receipt("seat 12A to Lisbon", "room 7 in Lisbon, 3 nights", 730, "Grace")


async def test_a_refused_booking_is_undone(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "infinitic.cli.demo.booking")
    handle = await sim.client.dispatch(sim.client.new_workflow(Trip).book, _host(sim))
    await sim.client.get_workflow_by_id(Trip, handle.workflow_id).approvals.send(Approval("Grace", granted=False))
    with pytest.raises(WorkflowFailedError, match="NotApproved: Grace said no"):
        await handle.result()
    assert [message for message in caplog.messages if message.endswith("free again")] == [
        "seat 12A to Lisbon is free again",
        "room 7 in Lisbon, 3 nights is free again",
    ]
