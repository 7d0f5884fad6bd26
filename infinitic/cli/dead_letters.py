"""``infinitic dead-letters``: what could not be handled, and what to do with it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli import letters
from infinitic.cli.dead_letter_verbs import Done, Letters, drop, list_letters, not_found, replay, show_letters
from infinitic.cli.exits import FAILED
from infinitic.cli.letters import Letter
from infinitic.cli.link import exits, run
from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.cli.output import Json, cell, line, show, table
from infinitic.errors import UsageError

app = typer.Typer(help="Look at messages that could not be handled, drop or replay them.", no_args_is_help=True)

Services = Annotated[list[str], typer.Option("--service", help="Of the tasks of this service.")]
Workflows = Annotated[list[str], typer.Option("--workflow", help="Of this workflow, its engine and its code.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Ids as the list has them.")]
All = Annotated[bool, typer.Option("--all", help="All that are there now.")]


@app.command("list")
def list_command(
    service: Services = [],  # noqa: B006 (typer copies it)
    workflow: Workflows = [],  # noqa: B006
    limit: Annotated[int, typer.Option("--limit", min=1, max=letters.DEEPEST, help="How many to show.")] = 100,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """List dead letters, oldest first: by default those of all services and workflows of the configuration."""
    show(run(config, lambda link: list_letters(link, service, workflow, limit)), as_json, _render_list)


@app.command("show")
def show_command(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids as the list has them.")],
    service: Services = [],  # noqa: B006
    workflow: Workflows = [],  # noqa: B006
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Show headers and body of dead letters."""
    show(run(config, lambda link: show_letters(link, service, workflow, ids)), as_json, _render_whole)


@app.command("drop")
def drop_command(
    ids: Ids = None,
    service: Services = [],  # noqa: B006
    workflow: Workflows = [],  # noqa: B006
    everything: All = False,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Remove dead letters for good."""
    with exits():
        wanted = _wanted(ids, everything)
    _end(run(config, lambda link: drop(link, service, workflow, wanted)), as_json)


@app.command("replay")
def replay_command(
    ids: Ids = None,
    service: Services = [],  # noqa: B006
    workflow: Workflows = [],  # noqa: B006
    everything: All = False,
    page: Annotated[int, typer.Option("--page", min=1, max=letters.DEEPEST, help="How many at once.")] = 100,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Publish dead letters once more to where they came from."""
    with exits():
        wanted = _wanted(ids, everything)
    _end(run(config, lambda link: replay(link, service, workflow, wanted, page=page)), as_json)


def _wanted(ids: Sequence[str] | None, everything: bool) -> Sequence[str] | None:
    if bool(ids) is everything:
        raise UsageError("Say which dead letters: their ids, or --all")
    return ids or None


def _end(done: Done, as_json: bool) -> None:
    show(done, as_json, _render_done)
    if done.missing:
        typer.echo(f"Error: {not_found(done.missing)}", err=True)
        raise typer.Exit(FAILED)


def _render_list(found: Letters) -> list[RenderableType]:
    if not found.total:
        return [line("No dead letters.")]
    rows = table("ID", "KEY", "TOPIC", "ATTEMPTS", "PUBLISHED", "BYTES", "CAUSE")
    for each in found.letters:
        cause = textwrap.shorten(each.cause, 100, placeholder="…")
        facts = (each.id, each.key, each.topic, each.attempts, each.published_at, f"{each.size:,}", cause)
        rows.add_row(*map(cell, facts))
    shown = len(found.letters)
    rest = (
        [] if shown == found.total else [line(f"{shown:,} of {found.total:,}; others may be in another's hand", "dim")]
    )
    return [rows, *rest]


def _render_whole(found: Sequence[Letter]) -> list[RenderableType]:
    shown: list[RenderableType] = []
    for each in found:
        body = each.body if isinstance(each.body, str) else msgspec.json.format(msgspec.json.encode(each.body)).decode()
        headers = each.headers if isinstance(each.headers, dict) else {}
        shown.append(line(f"{each.id}   key {each.key}   published {each.published_at}", "bold"))
        shown += [line(f"{name}: {value}") for name, value in headers.items()]
        shown.append(line(body))
    return shown


def _render_done(done: Done) -> list[RenderableType]:
    parts = ", ".join(f"{count:,} of {topic}" for topic, count in done.topics.items())
    return [
        line(f"{done.count:,} {done.what}{': ' if parts else ''}{parts}."),
        *([line(done.note, "yellow")] if done.note else []),
    ]
