"""`infinitic simulate` as a person runs it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infinitic.cli.app import app
from infinitic_testing.campaign import SeedFailure, Setting
from infinitic_testing.campaign.replay_file import ReplayFile

COMMAND = [sys.executable, "-m", "infinitic", "simulate"]
LIMIT = 120.0

TRIPS = """
from infinitic import Workflow

class Flights:
    async def book(self, city: str) -> str:
        print("booked", city)
        return city.upper()

class Trip(Workflow):
    flights = Workflow.new_service(Flights)

    async def book(self, city: str) -> str:
        return await self.flights.book(city)

async def test_a_trip_is_booked(sim):
    sim.add_service(Flights)
    sim.add_workflow(Trip)
    assert await sim.client.new_workflow(Trip).book("Paris") == "PARIS"

async def simulate_two_trips(sim):
    sim.add_service(Flights)
    sim.add_workflow(Trip)
    return [await sim.client.new_workflow(Trip).book(city) for city in ("Paris", "Rome")]
"""


@pytest.fixture
def trips(tmp_path: Path) -> Path:
    """A file with two functions, in a folder that is the working directory of the commands."""
    file = tmp_path / "trips.py"
    file.write_text(TRIPS)
    return file


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    ended.stderr = without_progress(ended.stderr)
    return ended


def without_progress(errors: str) -> str:
    """Leave out what is told of the progress: on a slow machine, a campaign takes long enough."""
    return re.sub(r"^[\d,]+ of [\d,]+ seeds, .* seeds/s, .*\n", "", errors, flags=re.MULTILINE)


def run_json(folder: Path, *arguments: str) -> tuple[int, Any]:
    ended = run(folder, *arguments, "--json")
    return ended.returncode, json.loads(ended.stdout)


def add_function(file: Path, code: str) -> None:
    file.write_text(TRIPS + code)


def test_seeds_without_a_failure(trips: Path) -> None:
    ended = run(trips.parent, "trips.py", "--seeds", "30", "--jobs", "2", "--faults", "none")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1].startswith("30 seeds of 2 functions, ")
    assert ended.stdout.rstrip().endswith("repeated in another process: no failure")


def test_the_document_for_programs(trips: Path) -> None:
    code, document = run_json(
        trips.parent, "trips.py", "--seeds", "25", "--first", "7", "--jobs", "1", "--faults", "none"
    )
    assert code == 0
    assert document["passed"] is True
    assert (document["runs"], document["failed"], document["repeated"]) == (25, 0, 2)
    assert document["order"]["first"] == 7
    assert document["order"]["functions"] == ["trips.py:test_a_trip_is_booked", "trips.py:simulate_two_trips"]


def test_one_function(trips: Path) -> None:
    _, document = run_json(
        trips.parent, "trips.py", "--function", "simulate_two_trips", "--seeds", "2", "--faults", "none"
    )
    assert document["order"]["functions"] == ["trips.py:simulate_two_trips"]


def test_a_function_that_fails_without_faults_is_run_no_further(trips: Path) -> None:
    add_function(trips, "\nasync def test_wrong(sim):\n    assert 1 + 1 == 3\n")
    ended = run(trips.parent, "trips.py", "--seeds", "60", "--jobs", "1", "--faults", "none")
    assert ended.returncode == 1
    assert "test_wrong fails under seed 2: AssertionError (fault-free-run)" in ended.stdout
    assert "The function fails without any fault" in ended.stdout
    line = trips.read_text().splitlines().index("    assert 1 + 1 == 3") + 1
    assert f"your line   {trips}:{line}\n" in ended.stdout
    # 20 seeds each of the others, and 10 of this one, which were asked for at once.
    assert "50 seeds of 3 functions" in ended.stdout


def test_a_seed_that_ends_its_process_is_named(trips: Path) -> None:
    add_function(
        trips,
        "\ncalls = 0\nasync def simulate_death(sim):\n    global calls\n    calls += 1\n"
        "    import os, sys\n    print('last words', file=sys.stderr, flush=True)\n"
        "    if calls == 3: os._exit(7)\n",
    )
    place = f"{trips.name}:simulate_death"
    code, document = run_json(trips.parent, place, "--seeds", "4", "--jobs", "1", "--faults", "none")
    assert code == 1
    # The first call is the plain run. After the third one, a new process goes on.
    [failure] = document["failures"]
    assert failure["report"]["seed"] == 1
    assert failure["report"]["failure"]["message"] == "The process that ran it ended with exit code 7"
    assert "last words" in failure["report"]["failure"]["details"]
    assert document["runs"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give the MODULE whose functions are to be run"),
        (("nowhere.py",), "There is no file nowhere.py"),
        (("nowhere",), "there is no module 'nowhere'"),
        (("empty.py",), "There is nothing to run in empty.py"),
        (("trips.py", "--function", "test_it"), "There is no function 'test_it' to run in trips.py"),
        (("trips.py", "--seeds", "0"), "The number of seeds is from 1 to 100,000,000, not 0"),
        (("trips.py", "--seeds", "-1"), "The number of seeds is from 1"),
        (("trips.py", "--first", "-1"), "A seed is from 0 to"),
        (("trips.py", "--faults", "gremlins"), "There is no fault 'gremlins'. The faults are: all, none, "),
        (("trips.py", "--profile", "kafka"), "There is no profile 'kafka'. The profiles are: fifo, seeded, pulsar"),
        (("trips.py", "--cache-size", "-1"), "A cache size is 0 or more, not -1"),
        (("trips.py", "--codec", "trips:Trip"), "trips:Trip is neither a PayloadCodec nor a class of one"),
        (("trips.py", "--jobs", "-1"), "--jobs takes a number from 0 to 256, not -1"),
        (("--replay", "nothing.json"), "nothing.json cannot be read: No such file or directory"),
        (("--replay", "trips.py"), "trips.py is not the file of a failing seed"),
        (("--replay", "old.json"), "old.json was written by infinitic 9.9, in format 99; this is infinitic 0.1.0"),
        (
            ("--replay", "of_pytest.json"),
            "of_pytest.json is of a test of pytest: run pytest 'trips.py::test_it[1]' --inf",
        ),
        (("trips.py", "--replay", "old.json"), "Give either a MODULE or --replay FILE"),
        (("trips.py", "--resume", "trips.py"), "trips.py does not say what a campaign has done"),
    ],
)
def test_bad_input_is_one_sentence(
    trips: Path, arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trips.parent / "empty.py").write_text("")
    (trips.parent / "old.json").write_text('{"format": 99, "infinitic": "9.9"}')
    setting, failure = Setting(faults="none"), SeedFailure("AssertionError")
    ReplayFile.make("trips.py::test_it[1]", 0, setting, failure, "").write(trips.parent, name="of_pytest")
    monkeypatch.chdir(trips.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    ended = CliRunner().invoke(app, ["simulate", *arguments])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Error: ")
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_ctrl_c_ends_it_at_once_with_what_it_has_found(trips: Path) -> None:
    add_function(
        trips,
        "\nasync def simulate_quick(sim):\n    open('ran', 'a').write('x')\n"
        "\nasync def simulate_for_ever(sim):\n    while True: pass\n",
    )
    process = subprocess.Popen(
        [*COMMAND, "trips.py", "--seeds", "80", "--jobs", "2", "--faults", "none"],
        cwd=trips.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + LIMIT
        ran = trips.parent / "ran"
        # One process is held for ever. The other one runs the seeds of the other functions.
        while not (ran.exists() and ran.stat().st_size >= 15):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.02)
        # People press it twice.
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, without_progress(errors)) == (130, "Interrupted.\n")
    last = output.splitlines()[-1]
    assert "seeds of 4 functions" in last
    assert int(last.split()[0]) >= 14


def test_a_campaign_goes_on_where_it_was_interrupted(trips: Path) -> None:
    arguments = ("trips.py", "--seeds", "40", "--jobs", "1", "--faults", "none", "--resume", "notes.json")
    _, whole = run_json(trips.parent, *arguments)
    notes = trips.parent / "notes.json"
    record = json.loads(notes.read_bytes())
    assert sorted(record["state"]["done"]) == [0, 1, 2, 3]
    # As if it had been interrupted before its last chunk.
    record["state"]["done"] = [0, 1, 2]
    record["state"]["coverage"]["runs"] = 30
    notes.write_text(json.dumps(record))
    code, document = run_json(trips.parent, *arguments)
    assert (code, document["runs"]) == (0, whole["runs"])
    assert document["seconds"] > whole["seconds"]
    # With other code, it begins anew, and says so.
    trips.write_text(TRIPS + "\n# another version\n")
    ended = run(trips.parent, *arguments)
    assert ended.stderr == "notes.json is of other code, or of another command: starting anew.\n"
    assert "40 seeds of 2 functions" in ended.stdout


UNLUCKY = """
async def simulate_luck(sim):
    late = [number for number in range(50) if sim.choices.happens("schedule", 0.1)]
    if late:
        raise LookupError(f"{len(late)} were late")
"""


def test_a_failing_run_is_run_again_from_its_file(trips: Path) -> None:
    add_function(trips, UNLUCKY)
    place = "trips.py:simulate_luck"
    ended = run(trips.parent, place, "--seeds", "1", "--jobs", "1", "--faults", "none", "--output", "found")
    assert ended.returncode == 1
    assert "small run   infinitic simulate --replay found/simulate_luck-0.json" in ended.stdout
    assert "needs       schedule 1 (found in " in ended.stdout
    file = trips.parent / "found" / "simulate_luck-0.json"
    replay = ("--replay", "found/simulate_luck-0.json")

    ended = run(trips.parent, *replay)
    assert (ended.returncode, ended.stderr) == (1, "")
    first, second, *_ = ended.stdout.splitlines()
    assert first == "The run fails as the file says, step by step"
    assert second == "simulate_luck fails under seed 0: LookupError"
    assert "why         1 were late" in ended.stdout

    # Of another release, which did the same.
    document = json.loads(file.read_bytes())
    file.write_text(json.dumps({**document, "infinitic": "0.0.1"}))
    code, outcome = run_json(trips.parent, *replay)
    assert code == 1
    assert outcome["notes"] == [
        f"The file is of infinitic 0.0.1, and this is {document['infinitic']}: the run may be another one",
        "The run fails as the file says, step by step",
    ]
    assert outcome["report"]["failure"]["error"] == "LookupError"

    file.write_text(json.dumps(document))
    add_function(trips, UNLUCKY.replace("LookupError(", "OSError("))
    ended = run(trips.parent, *replay)
    assert ended.returncode == 1
    assert ended.stdout.startswith("The run fails, but in another way. It failed with LookupError\n")

    add_function(trips, UNLUCKY.replace("if late", "if len(late) > 50"))
    ended = run(trips.parent, *replay)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "The run does not fail any more. It failed with LookupError\n"


def test_a_codec_by_its_path(trips: Path) -> None:
    add_function(
        trips,
        "\nfrom infinitic import PayloadCodec\n"
        "class Upside(PayloadCodec):\n"
        "    def encode(self, data, headers): headers['up'] = '1'; return bytes(data)[::-1]\n"
        "    def decode(self, data, headers): return bytes(data)[::-1]\n",
    )
    ended = run(trips.parent, "trips.py", "--seeds", "2", "--faults", "none", "--codec", "trips:Upside")
    assert (ended.returncode, ended.stderr) == (0, "")
