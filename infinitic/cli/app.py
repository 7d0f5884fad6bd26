"""The commands, as typer sees them. Each has a module of its own, imported when the command is run.

So what needs no command is quick: `--help`, `--version`, the completion of names.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from infinitic.cli.terminal import prepare_streams

COMMANDS = {
    "demo": (
        "infinitic.cli.demo:command",
        "Watch a durable booking survive failures and the loss of its worker. Needs no infrastructure.",
    ),
    "worker": (
        "infinitic.cli.worker:command",
        "Host the services and workflows of a configuration. SIGTERM and Ctrl-C drain; a second one stops at once.",
    ),
    "start": (
        "infinitic.cli.start:command",
        "Start a workflow. Arguments are checked by its type hints before anything is sent.",
    ),
    "result": (
        "infinitic.cli.result:command",
        "Print the result of a workflow as JSON. It can be fetched until the retention of the workflow ends.",
    ),
    "describe": (
        "infinitic.cli.inspect:command",
        "Show what is known of a workflow: its state, methods, open tasks with their last failure, and why it stalls.",
    ),
    "list": (
        "infinitic.cli.listing:command",
        "List workflows, newest first, as the storage has them. Works while the broker is away.",
    ),
    "signal": (
        "infinitic.cli.influence:signal_command",
        "Send a signal. If the configuration has the class of the workflow, channel and value are checked with it.",
    ),
    "cancel": (
        "infinitic.cli.influence:cancel_command",
        "Cancel a workflow: its code sees CancelledError, and may clean up.",
    ),
    "retry": (
        "infinitic.cli.retry:command",
        "Have a stalled workflow run again, with the code that workers have now. Tasks do not run again.",
    ),
    "migrate": (
        "infinitic.cli.migrate:command",
        "Create or migrate what the storage needs, under a lock. Workers do it as well: this is for those who may not.",
    ),
    "doctor": (
        "infinitic.cli.doctor:command",
        "Check this machine, the broker and the database, and say what to do. Changes nothing.",
    ),
    "dead-letters": (
        "infinitic.cli.dead_letters:app",
        "Look at messages that could not be handled, drop or replay them.",
    ),
}
"""By name: where the command is, and the first paragraph of its help."""


class Commands(TyperGroup):
    """Knows the names of the commands, and imports the one that is wanted."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments begin with, and the rest of them."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load(name), rest


def load(name: str) -> Any:
    """The command of this name, as typer runs it."""
    module, attribute = COMMANDS[name][0].split(":")
    found = getattr(import_module(module), attribute)
    group = typer.Typer(add_completion=False)
    group.callback()(_stand_in)
    if isinstance(found, typer.Typer):
        group.add_typer(found, name=name)
    else:
        group.command(name)(found)
    made = typer.main.get_command(group)
    assert isinstance(made, TyperGroup)
    return made.commands[name]


def _stand_in() -> None:
    """Stands for a command until that is loaded. Never called."""


app = typer.Typer(
    cls=Commands,
    help="Durable workflows and services as plain Python classes.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
for _name, (_, _summary) in COMMANDS.items():
    app.command(_name, help=_summary)(_stand_in)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"infinitic {version('infinitic')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Durable workflows and services as plain Python classes."""


def run() -> None:
    """Run the command line."""
    prepare_streams()
    app(prog_name="infinitic")
