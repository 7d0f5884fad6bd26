"""docs/command-line.md names the commands and options that exist."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from infinitic.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")


def read_help(*command: str) -> str:
    """Return the help of a command, or of `infinitic` itself."""
    shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "300", "TERM": "dumb", "NO_COLOR": "1"})
    assert shown.exit_code == 0, shown.output
    return shown.output


def list_commands(help_text: str) -> set[str]:
    return set(re.findall(r"^│ ([a-z][a-z-]+) ", help_text, re.MULTILINE))


def test_every_command_has_a_row() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE[: PAGE.index("**Configuration.**")], re.MULTILINE)
    named = {re.split(r"[ `]", cell.strip("`"))[0] for cell in rows}
    assert named == list_commands(read_help())


def test_every_option_that_is_named_exists() -> None:
    commands = list_commands(read_help())
    letters = list_commands(read_help("dead-letters"))
    texts = [read_help(), *map(read_help, commands), *(read_help("dead-letters", each) for each in letters)]
    options = set(re.findall(r"--[a-z][a-z-]+", "\n".join(texts)))
    assert len(options) > 20
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= options
