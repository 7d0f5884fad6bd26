"""The commands as a person types them: what they print, on which stream, and their exit codes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from infinitic import topics
from infinitic.cli.app import app
from infinitic.runtime.publisher import Publisher
from infinitic.transport import Delivery, Message
from infinitic_transports.memory import InMemoryTransport
from tests.cli.in_memory_file import write_in_memory_file

REQUEST = '[{"traveller": "Ada", "manager": "Grace", "city": "Lisbon", "nights": 3, "remind_after": 60}]'


@pytest.fixture
def broker(tmp_path: Path) -> str:
    """The name of a broker of this test alone."""
    return str(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return write_in_memory_file(tmp_path)


def invoke(*arguments: str) -> Result:
    ended = CliRunner().invoke(app, arguments, prog_name="infinitic")
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert "Traceback" not in ended.output
    return ended


def document(*arguments: str, code: int = 0) -> Any:
    ended = invoke(*arguments, "--json")
    assert ended.exit_code == code, ended.output
    return msgspec.json.decode(ended.stdout)


def dead_letter(broker: str, *ids: str) -> None:
    async def main() -> None:
        async with InMemoryTransport.named(broker) as transport:
            deliveries = [Delivery(Message(each, None, b'{"t": "\\u001b[31m"}'), 3, 0.0) for each in ids]
            await Publisher(transport).dead_letter(
                topics.service_executor("Flights"), deliveries, "no [bold]seat\x1b[31m"
            )

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["start", "Trip"], 2, "'Trip' names no method: write module:Class.method, or Name.method"),
        (["start", "Train.book"], 2, "The configuration has no code of a workflow 'Train': write module:Class.method"),
        (["start", "Trip.book", "--input", "{"], 2, "--input takes JSON, got '{': Input data was truncated"),
        (["start", "Trip.book"], 2, "Trip.book() misses argument 'request'"),
        (["start", "Trip.book", "--timeout", "5"], 2, "--timeout has a meaning only together with --wait"),
        (["describe", "x", "--workflow", "Train"], 1, "There is no workflow 'Train' at this broker; the configuration"),
        (["describe", "x", "--workflow", "Trip"], 1, "The workflow 'Trip' has never run at this broker"),
        (["cancel", "x", "--workflow", "Trip"], 1, "The workflow 'Trip' has never run at this broker"),
        (["signal", "x", "approval", "--workflow", "Trip", "--input", "1"], 2, "The workflow Trip has no channel 'app"),
        (["query", "x", "total", "--workflow", "Trip"], 2, "The workflow Trip has no query 'total'; its queries are: "),
        (["list", "--since", "soon"], 2, "--since takes a date and time"),
        (["list", "--cursor", "x"], 2, "--cursor: "),
        (["dead-letters", "drop"], 2, "Say which dead letters are meant: their ids, or --all"),
        (["dead-letters", "replay", "x", "--all"], 2, "Say which dead letters are meant: their ids, or --all"),
        (["dead-letters", "drop", "x"], 2, "Say whose dead letters are meant: --service NAME or --workflow NAME"),
        (
            ["dead-letters", "show", "x"],
            1,
            "There are no dead letters with these ids (among the first 10,000 of each topic): x",
        ),
    ],
)
def test_errors_are_one_line_on_stderr(file: str, arguments: list[str], code: int, message: str) -> None:
    ended = invoke(*arguments, "--config", file)
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert ended.stderr.startswith(f"Error: {message}"), ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["start", "Trip.book"],
        ["describe", "x", "--workflow", "Trip"],
        ["list"],
        ["signal", "x", "c", "--workflow", "Trip", "--input", "1"],
        ["cancel", "x", "--workflow", "Trip"],
        ["dead-letters", "list"],
        ["dead-letters", "show", "x"],
        ["dead-letters", "drop", "--all", "--service", "x"],
        ["dead-letters", "replay", "--all", "--service", "x"],
        ["doctor"],
    ],
)
def test_a_configuration_that_is_missing(arguments: list[str]) -> None:
    ended = invoke(*arguments, "--config", "missing.yml", "--json")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == (
        "Error: There is no configuration file missing.yml: give one with --config FILE, or set INFINITIC_CONFIG\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [["list", "--status", "asleep"], ["list", "--limit", "0"], ["describe"], ["dead-letters", "lose"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == 2


def test_start_prints_the_id(file: str) -> None:
    ended = invoke("start", "Trip.book", "--input", REQUEST, "--config", file)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert len(ended.stdout) == 33
    started = document("start", "Trip.book", "--input", REQUEST, "--config", file)
    assert started == {"workflow_id": started["workflow_id"], "workflow_name": "Trip", "method_name": "book"}


def test_start_waits_without_a_result(file: str) -> None:
    arguments = ("start", "Trip.book", "--input", REQUEST, "--wait", "--timeout", "0.01", "--config", file)
    ended = invoke(*arguments)
    workflow_id = ended.stdout.strip()
    assert (ended.exit_code, len(workflow_id)) == (1, 32)
    assert ended.stderr == f"Error: No result of Trip.book (workflow_id {workflow_id}) within 0.01 s; it runs on\n"
    assert document(*arguments, code=1)["status"] == "running"


def test_a_signal_and_a_cancellation_are_sent(file: str) -> None:
    started = document("start", "Trip.book", "--input", REQUEST, "--config", file)["workflow_id"]
    value = '{"by": "Grace", "granted": true}'
    ended = invoke("signal", started, "approvals", "--workflow", "Trip", "--input", value, "--config", file)
    assert (ended.exit_code, ended.stdout) == (0, "signal: sent (--confirm waits until it is applied)\n")
    sent = document("cancel", started, "--workflow", "Trip", "--config", file)
    assert sent == {"what": "cancel", "workflow_id": started, "workflow_name": "Trip", "applied": False}
    ended = invoke("cancel", started, "--workflow", "Trip", "--confirm", "--timeout", "0.01", "--config", file)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: No answer within 0.01 s: no worker has the state engine of 'Trip'")


def test_an_empty_list(file: str) -> None:
    assert invoke("list", "--config", file).stdout == "No workflows.\n"
    assert document("list", "--all", "--config", file) == {"workflows": [], "cursor": None}


def test_dead_letters(file: str, broker: str) -> None:
    assert invoke("dead-letters", "list", "--config", file).stdout == "No dead letters.\n"
    dead_letter(broker, *"abcd")
    ended = invoke("dead-letters", "list", "--limit", "2", "--config", file)
    rows = ended.stdout.splitlines()
    assert rows[0].split() == ["ID", "KEY", "TOPIC", "ATTEMPTS", "PUBLISHED", "BYTES", "CAUSE"]
    assert rows[1].split()[:4] == ["a", "–", "service-executor:Flights", "3"]
    assert rows[1].rstrip().endswith("no [bold]seat\\x1b[31m")
    assert rows[3] == "2 of 4; another consumer may have some of the others"
    listed = document("dead-letters", "list", "--config", file)
    assert ([each["id"] for each in listed["letters"]], listed["total"]) == (["a", "b", "c", "d"], 4)
    shown = invoke("dead-letters", "show", "b", "--config", file)
    assert "infinitic-topic: service-executor:Flights" in shown.stdout
    assert "\x1b" not in shown.stdout
    (whole,) = document("dead-letters", "show", "b", "--config", file)
    assert whole["body"] == {"t": "\x1b[31m"}
    ended = invoke("dead-letters", "drop", "b", "x", "--service", "Flights", "--config", file)
    assert (ended.exit_code, ended.stdout) == (1, "1 dropped: 1 of service-executor:Flights.\n")
    assert ended.stderr == "Error: There are no dead letters with these ids (among the first 10,000 of each topic): x\n"
    done = document("dead-letters", "replay", "--all", "--page", "2", "--service", "Flights", "--config", file)
    assert done["count"] == 3
    assert invoke("dead-letters", "list", "--config", file).stdout == "No dead letters.\n"


def test_doctor(file: str, broker: str) -> None:
    dead_letter(broker, "a")
    examined = document("doctor", "--config", file)
    assert examined["healthy"] is True
    assert {each["subject"]: each["level"] for each in examined["checks"]} == {
        "infinitic": "ok",
        "hash seed": "ok",
        "drivers": "ok",
        "configuration": "ok",
        "broker": "ok",
        "service Flights": "warning",
        "workflow Trip": "warning",
        "database": "warning",
    }
    assert invoke("doctor", "--config", file).stdout.endswith("Healthy.\n")


def test_the_environment_names_the_configuration(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITIC_CONFIG", file)
    assert invoke("list").stdout == "No workflows.\n"


def test_completion() -> None:
    asked = {"_INFINITIC_COMPLETE": "complete_bash", "COMP_WORDS": "infinitic dead", "COMP_CWORD": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "infinitic"], env=os.environ | asked, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.split() == ["dead-letters"]


def test_a_warning_about_the_file_is_printed_and_is_not_the_reason_of_an_error(tmp_path: Path) -> None:
    file = tmp_path / "infinitic.yml"
    file.write_text(
        f"transport: {{in_memory: {{name: {tmp_path.name}}}}}\nstorage: {{in_memory: {{}}}}\nhorizon_seconds: 60\n"
    )
    reported = f"Warning: {file}:3: horizon_seconds: this key is called 'deduplication_window_seconds' now"
    listed = invoke("list", "--config", str(file), "--json")
    assert (listed.exit_code, msgspec.json.decode(listed.stdout)) == (0, {"workflows": [], "cursor": None})
    assert listed.stderr.startswith(reported)
    described = invoke("describe", "some-id", "--config", str(file), "--workflow", "Trip")
    assert described.exit_code == 1
    [warning, error] = described.stderr.splitlines()
    assert warning.startswith(reported)
    assert "horizon_seconds" not in error
