"""The commands, as typer sees them."""

from __future__ import annotations

import typer

app = typer.Typer(help="Durable workflows and services as plain Python classes.", no_args_is_help=True)


def main() -> None:
    """Run the command line."""
    app()
