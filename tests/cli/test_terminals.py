"""Terminals of all kinds: without Unicode, without colours, narrow, or gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infinitic.cli.terminal import spell_json

CONFIGURATION = "transport: {in_memory: {}}\nstorage: {in_memory: {}}\n"


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    return subprocess.run(
        [sys.executable, "-m", "infinitic", *arguments],
        cwd=cwd,
        env=kept | environ,
        capture_output=True,
        timeout=120,
        check=False,
    )


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
    for command in COMMANDS:
        ended = run(*command.split(), cwd=tmp_path, **environ)
        assert b"Traceback" not in ended.stderr, (command, ended.stderr)
        assert b"UnicodeEncodeError" not in ended.stderr
        assert ended.returncode == (0 if command.endswith("help") or command == "doctor" else 2), (
            command,
            ended.stderr,
        )


def test_json_stays_json_without_unicode(tmp_path: Path) -> None:
    (tmp_path / "é.yml").write_text(CONFIGURATION)
    ended = run("doctor", "--json", "--config", "é.yml", cwd=tmp_path, PYTHONIOENCODING="ascii")
    checks = json.loads(ended.stdout.decode("ascii"))["checks"]
    assert "é.yml" in [each["message"] for each in checks]
    text = '{"a": "é–😀…"}'
    assert spell_json(text).isascii()
    assert json.loads(spell_json(text)) == json.loads(text)


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "infinitic.yml").write_text(CONFIGURATION)
    for command in ("--help", "doctor", "doctor --json"):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "infinitic", *command.split()],
                cwd=tmp_path,
                stdout=writing,
                stderr=subprocess.PIPE,
                timeout=120,
                check=False,
            )
        finally:
            os.close(writing)
        assert b"Traceback" not in ended.stderr, (command, ended.stderr)
        assert b"Exception ignored" not in ended.stderr, (command, ended.stderr)


def test_an_output_that_is_closed_or_full(tmp_path: Path) -> None:
    (tmp_path / "infinitic.yml").write_text(CONFIGURATION)
    for arguments, output, code, message in (
        ("doctor", ">&-", 0, ""),
        ("doctor --json", ">&-", 0, ""),
        ("--help", ">&-", 0, ""),
        ("doctor", ">/dev/full", 1, "Error: The output cannot be written: No space left on device\n"),
        ("doctor --json", ">/dev/full", 1, "Error: The output cannot be written: No space left on device\n"),
    ):
        if output.endswith("/full") and not Path("/dev/full").exists():
            continue
        line = f"exec {sys.executable} -m infinitic {arguments} {output}"
        ended = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
        assert (ended.returncode, ended.stderr) == (code, message), (arguments, output)
