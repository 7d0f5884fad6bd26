"""The table of commands, and the app of typer that is made of it.

Each command has a module of its own, which is imported when the command is run. So what needs no
command is fast: `--help`, `--version`, and the completion of the name of a command.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from infinitic.cli.terminal import prepare_streams


class CommandEntry(NamedTuple):
    """Where a command is, and the text of its help.

    Args:
        path: the function of the command, or the app of its subcommands: `module:name`.
        summary: its help. It is also the docstring of the function; a test compares both.
    """

    path: str
    summary: str


COMMANDS = {
    "demo": CommandEntry(
        "infinitic.cli.demo.command:command",
        "Watch a booking survive failing tasks and the loss of its worker. Needs no server.",
    ),
    "init": CommandEntry(
        "infinitic.cli.init.command:command",
        "Make a project with a workflow, a service, their tests and a configuration on SQLite.",
    ),
    "worker": CommandEntry(
        "infinitic.cli.worker.command:command",
        "Host services and workflows. SIGTERM and Ctrl-C drain; a second one stops at once.",
    ),
    "dev": CommandEntry(
        "infinitic.cli.dev.command:command",
        "Host services and workflows, and start again when a file changes. Ctrl-C ends it at once.",
    ),
    "start": CommandEntry(
        "infinitic.cli.start.command:command",
        "Start a workflow. Its arguments are checked with its type hints before anything is sent.",
    ),
    "result": CommandEntry(
        "infinitic.cli.commands.result:command",
        "Print the result of a workflow as JSON. It is kept until its retention ends.",
    ),
    "describe": CommandEntry(
        "infinitic.cli.describe.command:command",
        "Show the state of a workflow, its methods, its open tasks, and why it is stalled.",
    ),
    "list": CommandEntry(
        "infinitic.cli.commands.list:command",
        "List workflows, newest first, as the storage has them. Works while the broker is away.",
    ),
    "signal": CommandEntry(
        "infinitic.cli.commands.signal:command",
        "Send a signal. It is checked first if the configuration has the class of the workflow.",
    ),
    "query": CommandEntry(
        "infinitic.cli.commands.query:command",
        "Ask a workflow something, by one of its queries. Prints the answer as JSON.",
    ),
    "cancel": CommandEntry(
        "infinitic.cli.commands.cancel:command",
        "Cancel a workflow. CancelledError is raised in its code, which may clean up.",
    ),
    "terminate": CommandEntry(
        "infinitic.cli.commands.terminate:command",
        "Close a workflow at once, also a stalled or parked one. Its code cannot clean up.",
    ),
    "delete": CommandEntry(
        "infinitic.cli.commands.delete:command",
        "Remove a closed workflow now, with its history and result. One that runs is left alone.",
    ),
    "complete-timers": CommandEntry(
        "infinitic.cli.commands.complete_timers:command",
        "Complete the timers that a workflow waits for, as if their time had come.",
    ),
    "complete-task": CommandEntry(
        "infinitic.cli.commands.delegated:complete",
        "Complete a delegated task: its workflow gets the value, and goes on.",
    ),
    "fail-task": CommandEntry(
        "infinitic.cli.commands.delegated:fail",
        "Have a delegated task fail, for good: its workflow gets TaskFailedError.",
    ),
    "retry": CommandEntry(
        "infinitic.cli.commands.retry:command",
        "Run a stalled or failed workflow, or failed tasks again. Completed tasks do not run again.",
    ),
    "migrate": CommandEntry(
        "infinitic.cli.commands.migrate:command",
        "Create or migrate the tables, under a lock. Workers do the same when they start.",
    ),
    "doctor": CommandEntry(
        "infinitic.cli.doctor.command:command",
        "Check this machine, the broker and the database, and say what to do. Changes nothing.",
    ),
    "simulate": CommandEntry(
        "infinitic.cli.simulate.command:command",
        "Run tests under many seeds, with faults, and explain what fails. Needs no server.",
    ),
    "dead-letters": CommandEntry(
        "infinitic.cli.dead_letters.command:app",
        "List, show, drop or replay messages that were given up.",
    ),
}
"""The commands by their names, in the order of the help."""


class CommandGroup(TyperGroup):
    """Knows the names of all commands, and imports the one that is run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the arguments begin with, and the other arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_command(name), rest


@cache
def load_command(name: str) -> Any:
    """Import a command, and make what typer runs.

    Args:
        name: its name in `COMMANDS`.
    """
    module, attribute = COMMANDS[name].path.split(":")
    found = getattr(import_module(module), attribute)
    group = typer.Typer(add_completion=False)
    group.callback()(_stand_in)
    if isinstance(found, typer.Typer):
        group.add_typer(found, name=name)
    else:
        group.command(name)(found)
    loaded = typer.main.get_command(group)
    assert isinstance(loaded, TyperGroup)
    return loaded.commands[name]


def _stand_in() -> None:
    """Stand for a command until that is imported. It is never called."""


app = typer.Typer(
    cls=CommandGroup,
    help="Durable workflows and services as plain Python classes.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
for _name, _entry in COMMANDS.items():
    app.command(_name, help=_entry.summary)(_stand_in)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"infinitic {version('infinitic')}")
        raise typer.Exit


@app.callback()
def handle_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Durable workflows and services as plain Python classes."""


def run() -> None:
    """Run the command line."""
    prepare_streams()
    app(prog_name="infinitic")
