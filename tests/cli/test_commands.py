"""The list of commands: what stands in it is what the commands say of themselves."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from infinitic.cli.app import COMMANDS, app, load_command


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_is_its_docstring(name: str) -> None:
    command = load_command(name)
    assert command.name == name
    assert command.help == COMMANDS[name].summary


def test_help_lists_all_commands() -> None:
    shown = CliRunner().invoke(app, ["--help"], prog_name="infinitic", env={"COLUMNS": "200"}).output
    assert [name for name, entry in COMMANDS.items() if entry.summary not in shown] == []


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["wo"], "worker"),
        (["worker", "--log-l"], "--log-level"),
        (["dead-letters", "rep"], "replay"),
        (["--ver"], "--version"),
    ],
    ids=" ".join,
)
def test_a_shell_completes_names_and_options(words: list[str], completed: str) -> None:
    environ = {
        "_INFINITIC_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["infinitic", *words]),
        "COMP_CWORD": str(len(words)),
    }
    assert CliRunner().invoke(app, [], prog_name="infinitic", env=environ).output.split() == [completed]


def test_a_command_that_does_not_exist() -> None:
    ended = CliRunner().invoke(app, ["wroker"], prog_name="infinitic", env={"COLUMNS": "200"})
    assert ended.exit_code == 2
    assert "Did you mean 'worker'?" in ended.output
