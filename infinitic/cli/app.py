"""The commands, as typer sees them. Each has a module of its own."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from infinitic.cli import dead_letters, demo, doctor, influence, inspect, listing, migrate, result, retry, start, worker
from infinitic.cli.terminal import prepare_streams

app = typer.Typer(
    help="Durable workflows and services as plain Python classes.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command("demo")(demo.command)
app.command("worker")(worker.command)
app.command("start")(start.command)
app.command("result")(result.command)
app.command("describe")(inspect.command)
app.command("list")(listing.command)
app.command("signal")(influence.signal_command)
app.command("cancel")(influence.cancel_command)
app.command("retry")(retry.command)
app.add_typer(dead_letters.app, name="dead-letters")
app.command("migrate")(migrate.command)
app.command("doctor")(doctor.command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"infinitic {version('infinitic')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Durable workflows and services as plain Python classes."""


def main() -> None:
    """Run the command line."""
    prepare_streams()
    app(prog_name="infinitic")
