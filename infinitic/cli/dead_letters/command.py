"""``infinitic dead-letters``: its subcommands `list`, `show`, `drop` and `replay`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.connection import run_connected
from infinitic.cli.dead_letters.actions import (
    LetterList,
    LetterReport,
    describe_missing,
    drop_letters,
    list_letters,
    replay_letters,
    show_letters,
)
from infinitic.cli.dead_letters.letter_box import MAX_SEARCHED, DeadLetter
from infinitic.cli.error_handling import exit_on_error, print_error
from infinitic.cli.exit_codes import FAILED
from infinitic.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from infinitic.cli.output import make_cell, make_line, make_table, show
from infinitic.errors import UsageError

app = typer.Typer(help="List, show, drop or replay messages that were given up.", no_args_is_help=True)

MAX_CAUSE = 100
"""How many characters of a cause a list shows."""

ServicesOption = Annotated[
    list[str], typer.Option("--service", metavar="NAME", help="Letters of the tasks of this service.")
]
WorkflowsOption = Annotated[
    list[str], typer.Option("--workflow", metavar="NAME", help="Letters of the engine and the code of this workflow.")
]
IdsArgument = Annotated[list[str], typer.Argument(metavar="ID…", help="Ids from the list.")]
OptionalIdsArgument = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Ids from the list.")]
AllOption = Annotated[bool, typer.Option("--all", help="All letters that are there now.")]


@app.command("list")
def list_command(
    service: ServicesOption = [],  # noqa: B006 (typer copies it)
    workflow: WorkflowsOption = [],  # noqa: B006 (typer copies it)
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_SEARCHED, help="How many to show.")] = 100,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, oldest first; by default those of the whole configuration."""
    found = run_connected(config, lambda connection: list_letters(connection, service, workflow, limit))
    show(found, as_json, _render_list)


@app.command("show")
def show_command(
    ids: IdsArgument,
    service: ServicesOption = [],  # noqa: B006 (typer copies it)
    workflow: WorkflowsOption = [],  # noqa: B006 (typer copies it)
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show dead letters with their headers and bodies."""
    found = run_connected(config, lambda connection: show_letters(connection, service, workflow, ids))
    show(found, as_json, _render_letters)


@app.command("drop")
def drop_command(
    ids: OptionalIdsArgument = None,
    service: ServicesOption = [],  # noqa: B006 (typer copies it)
    workflow: WorkflowsOption = [],  # noqa: B006 (typer copies it)
    everything: AllOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Remove dead letters for good."""
    with exit_on_error():
        wanted = _choose(ids, everything)
    report = run_connected(config, lambda connection: drop_letters(connection, service, workflow, wanted))
    _show_report(report, as_json)


@app.command("replay")
def replay_command(
    ids: OptionalIdsArgument = None,
    service: ServicesOption = [],  # noqa: B006 (typer copies it)
    workflow: WorkflowsOption = [],  # noqa: B006 (typer copies it)
    everything: AllOption = False,
    page: Annotated[int, typer.Option("--page", min=1, max=MAX_SEARCHED, help="How many to publish at once.")] = 100,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Publish dead letters again to where they came from."""
    with exit_on_error():
        wanted = _choose(ids, everything)
    report = run_connected(config, lambda connection: replay_letters(connection, service, workflow, wanted, page=page))
    _show_report(report, as_json)


def _choose(ids: Sequence[str] | None, everything: bool) -> Sequence[str] | None:
    """Return the ids that were given, or None for all letters."""
    if bool(ids) is everything:
        raise UsageError("Say which dead letters are meant: their ids, or --all")
    return ids or None


def _show_report(report: LetterReport, as_json: bool) -> None:
    show(report, as_json, _render_report)
    if report.missing:
        print_error(describe_missing(report.missing))
        raise typer.Exit(FAILED)


def _render_list(found: LetterList) -> list[RenderableType]:
    if not found.total:
        return [make_line("No dead letters.")]
    rows = make_table("ID", "KEY", "TOPIC", "ATTEMPTS", "PUBLISHED", "BYTES", "CAUSE")
    for each in found.letters:
        cause = textwrap.shorten(each.cause, MAX_CAUSE, placeholder="…")
        facts = (each.id, each.key, each.topic, each.attempts, each.published_at, f"{each.size:,}", cause)
        rows.add_row(*map(make_cell, facts))
    shown = len(found.letters)
    if shown == found.total:
        return [rows]
    return [rows, make_line(f"{shown:,} of {found.total:,}; another consumer may have some of the others", "dim")]


def _render_letters(found: Sequence[DeadLetter]) -> list[RenderableType]:
    shown: list[RenderableType] = []
    for each in found:
        body = each.body if isinstance(each.body, str) else msgspec.json.format(msgspec.json.encode(each.body)).decode()
        headers = each.headers if isinstance(each.headers, dict) else {}
        shown.append(make_line(f"{each.id}   key {each.key}   published {each.published_at}", "bold"))
        shown += [make_line(f"{name}: {value}") for name, value in headers.items()]
        shown.append(make_line(body))
    return shown


def _render_report(report: LetterReport) -> list[RenderableType]:
    parts = ", ".join(f"{count:,} of {topic}" for topic, count in report.topics.items())
    lines = [make_line(f"{report.count:,} {report.what}{': ' if parts else ''}{parts}.")]
    return [*lines, *([make_line(report.note, "yellow")] if report.note else [])]
