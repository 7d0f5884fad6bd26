"""Terminals of all kinds: without Unicode, without colours, narrow, or gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infinitic.cli.terminal import spell_json
from tests.cli.forked import run_each

CONFIGURATION = "transport: {in_memory: {}}\nstorage: {in_memory: {}}\n"


OUTPUTS = [["--help"], ["doctor"], ["doctor", "--json"]]
COMMANDS = ["--help", "dead-letters show --help", "list --help", "doctor", "start é.x", "list --nope", "describe 😀"]


@pytest.mark.parametrize(
    "environ",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1", "NO_COLOR": "1"},
        {"TERM": "dumb", "COLUMNS": "5"},
    ],
    ids=["ascii", "LANG=C", "latin-1", "narrow"],
)
def test_every_terminal_gets_its_answer(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "infinitic.yml").write_text(CONFIGURATION)
    for command, ended in zip(
        COMMANDS, run_each([each.split() for each in COMMANDS], tmp_path, **environ), strict=True
    ):
        assert b"Traceback" not in ended.stderr, (command, ended.stderr)
        assert b"UnicodeEncodeError" not in ended.stderr
        assert ended.returncode == (0 if command.endswith("help") or command == "doctor" else 2), (
            command,
            ended.stderr,
        )


def test_json_stays_json_without_unicode(tmp_path: Path) -> None:
    (tmp_path / "é.yml").write_text(CONFIGURATION)
    (ended,) = run_each([["doctor", "--json", "--config", "é.yml"]], tmp_path, PYTHONIOENCODING="ascii")
    checks = json.loads(ended.stdout.decode("ascii"))["checks"]
    assert "é.yml" in [each["message"] for each in checks]
    text = '{"a": "é–😀…"}'
    assert spell_json(text).isascii()
    assert json.loads(spell_json(text)) == json.loads(text)


def test_a_reader_that_goes_away_causes_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "infinitic.yml").write_text(CONFIGURATION)
    for ended in run_each(OUTPUTS, tmp_path, stdout="gone"):
        assert b"Traceback" not in ended.stderr, ended
        assert b"Exception ignored" not in ended.stderr, ended


@pytest.mark.parametrize("arguments", OUTPUTS, ids=" ".join)
def test_an_output_that_is_closed(arguments: list[str], tmp_path: Path) -> None:
    """Python itself looks at it when it starts."""
    (tmp_path / "infinitic.yml").write_text(CONFIGURATION)
    line = f"exec {sys.executable} -m infinitic {' '.join(arguments)} >&-"
    ended = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_an_output_that_is_full(tmp_path: Path) -> None:
    (tmp_path / "infinitic.yml").write_text(CONFIGURATION)
    message = b"Error: The output cannot be written: No space left on device\n"
    for ended in run_each([["doctor"], ["doctor", "--json"]], tmp_path, stdout="/dev/full"):
        assert (ended.returncode, ended.stderr) == (1, message)
