"""Thousands of odd command lines: each ends in time, with an exit code and without a traceback."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner, Result

from infinitic.cli.app import app
from tests.cli.in_memory_file import write_in_memory_file

HUGE = "1" + "0" * 23
ODD = (
    *(
        "",
        " ",
        "x",
        "\udcff",
        "é",
        "😀",
        "\x1b[31m",
        "a" * 300,
        "0",
        "-1",
        HUGE,
        "9" * 5000,
        "nan",
        "inf",
        "-inf",
        "1e400",
    ),
    *(
        "0x10",
        "1_000",
        "²",
        "0.0005",
        "1e-9",
        "null",
        "[]",
        "{}",
        "[" * 5000,
        '"\\ud800"',
        "[1e999]",
        "{}{}",
        "é=\udcff",
    ),
    *(
        "Trip",
        "Trip.book",
        "Trip.nothing",
        "Trap.book",
        ".",
        "..",
        ".a",
        "a.",
        "a:b.c",
        ":",
        "::",
        "os:path.join",
        "x=y",
    ),
    *(
        "=",
        "0s",
        "1e9s",
        "9999999999w",
        "0001-01-01",
        "9999-12-31T23:59:59-23:59",
        "2026-01-31",
        "99999-01-01",
        "--",
        "-",
    ),
    *("running", "stalled", "asleep", "/", "/dev/null", "none.yml"),
)
OPTIONS = {
    "start": ("--input", "--meta", "--timeout", "--wait", "--json"),
    "result": ("--workflow", "--wait", "--json"),
    "describe": ("--workflow", "--timeline", "--json"),
    "list": (
        "--workflow",
        "--status",
        "--since",
        "--until",
        "--closed-since",
        "--closed-until",
        "--id-prefix",
        "--count",
        "--limit",
        "--cursor",
        "--all",
        "--json",
    ),
    "signal": ("--workflow", "--input", "--raw", "--meta", "--confirm", "--json"),
    "query": ("--workflow", "--input", "--json"),
    "cancel": ("--workflow", "--method", "--confirm", "--json"),
    "complete-timers": ("--workflow", "--method", "--confirm", "--json"),
    "terminate": ("--workflow", "--reason", "--confirm", "--json"),
    "delete": ("--workflow", "--json"),
    "retry": ("--workflow", "--stalled", "--json"),
    "dead-letters list": ("--service", "--workflow", "--limit", "--json"),
    "dead-letters show": ("--service", "--workflow", "--json"),
    "dead-letters drop": ("--service", "--workflow", "--all", "--json"),
    "dead-letters replay": ("--service", "--workflow", "--all", "--page", "--json"),
    "migrate": ("--json",),
    "doctor": ("--json",),
}
FLAGS = {"--wait", "--json", "--all", "--raw", "--confirm", "--stalled", "--timeline", "--count"}
PATIENT = {
    "result",
    "describe",
    "signal",
    "query",
    "cancel",
    "terminate",
    "delete",
    "complete-timers",
    "retry",
    "start",
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    return write_in_memory_file(tmp_path)


def invoke(*arguments: str) -> Result:
    ended = CliRunner().invoke(app, arguments, prog_name="infinitic")
    assert ended.exception is None or isinstance(ended.exception, SystemExit), (arguments, ended.exception)
    assert "Traceback" not in ended.output
    return ended


@pytest.mark.parametrize("seed", range(4))
def test_odd_arguments_end_with_a_message(file: str, seed: int) -> None:
    random = Random(seed)
    for _ in range(100):
        command = random.choice(list(OPTIONS))
        arguments = [*command.split(), *random.choices(ODD, k=random.randint(0, 2))]
        for option in random.sample(OPTIONS[command], k=random.randint(0, min(3, len(OPTIONS[command])))):
            arguments += [option] if option in FLAGS else [option, random.choice(ODD)]
        if command in PATIENT:
            arguments += ["--timeout", random.choice(("0.001", "0.01"))]
        ended = invoke(*arguments, "--config", file)
        assert ended.exit_code in (0, 1, 2), arguments
        assert ended.exit_code == 0 or ended.stderr or "Usage" in ended.output or command == "doctor", arguments


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "1e400", "x", "", HUGE])
@pytest.mark.parametrize(
    "command",
    [
        ["describe", "x"],
        ["cancel", "x"],
        ["terminate", "x"],
        ["delete", "x"],
        ["complete-timers", "x"],
        ["signal", "x", "c", "--input", "1"],
        ["result", "x", "--wait"],
        ["retry", "x"],
        ["start", "Trip.book", "--wait"],
    ],
)
def test_a_timeout_is_a_number_of_seconds(file: str, command: list[str], value: str) -> None:
    ended = invoke(*command, "--timeout", value, "--config", file)
    assert ended.exit_code == 2
    assert "1,000,000,000" in ended.stderr


def test_a_limit_is_bounded(file: str) -> None:
    assert invoke("list", "--limit", HUGE, "--config", file).exit_code == 2
    assert invoke("list", "--limit", "100000", "--config", file).exit_code == 0
