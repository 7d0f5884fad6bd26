"""``infinitic list``: instances, as the storage has them. It needs no broker."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.link import run_on_storage
from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.cli.output import Json, cell, instant, line, show, status as coloured, table
from infinitic.cli.values import since as instant_of, text
from infinitic.clock import to_instant
from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import Flag, Found, InvalidArgument, Query, Storage

PAGE = 1000
MOST = 100_000
"""How many one list shows without `--all`."""


class State(StrEnum):
    """How an instance is: its status, or why somebody should look at it."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    STALLED = "stalled"
    PARKED = "parked"


class Listed(msgspec.Struct):
    """One row of a list. `flag` is "stalled", "parked" or None."""

    workflow_id: str
    workflow_name: str
    version: int | None
    status: str
    flag: str | None
    started_at: str | None
    closed_at: str | None
    next_wake: str | None


class Listing(msgspec.Struct):
    """A page. `cursor` continues it; None: there is no more."""

    workflows: list[Listed]
    cursor: str | None


def command(
    workflow: Annotated[
        str | None, typer.Option("--workflow", help="Only workflows of this name.", parser=text, metavar="NAME")
    ] = None,
    status: Annotated[State | None, typer.Option("--status", help="Only those in this state.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Started after: 2026-01-31T12:00Z, or how long ago: 90s, 15m, 2h, 7d.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST, help="How many to show.")] = 100,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="Continue where a list ended.", parser=text, metavar="CURSOR")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """List workflows, newest first, as the storage has them. Works while the broker is away."""

    async def verb(storage: Storage) -> Listing:
        started_after = None if since is None else instant_of(since)
        return await list_workflows(
            storage, workflow, status, started_after, limit=limit, cursor=cursor, everything=everything
        )

    show(run_on_storage(config, verb), as_json, _render)


async def list_workflows(
    storage: Storage,
    name: str | None = None,
    status: State | None = None,
    since: datetime | None = None,
    *,
    limit: int = 100,
    cursor: str | None = None,
    everything: bool = False,
) -> Listing:
    """Read the storage: up to `limit` instances, or all. Raises `UsageError` for a cursor that no list gave."""
    if name is not None:
        check_name("The name of a workflow", name)
    flag = Flag(status.value) if status is State.STALLED or status is State.PARKED else None
    query = Query(
        name,
        None if status is None or flag is not None else WorkflowStatus(status.value),
        None if since is None else to_instant(since),
        limit=PAGE if everything else limit,
        cursor=cursor,
        flag=flag,
    )
    found: list[Listed] = []
    while True:
        try:
            page = await storage.states.find(query)
        except InvalidArgument as error:
            raise UsageError(f"--cursor: {error}") from error
        found += map(_listed, page.found)
        if page.cursor is None or not everything:
            return Listing(found, page.cursor)
        query = msgspec.structs.replace(query, cursor=page.cursor)


def _listed(found: Found) -> Listed:
    entry = found.entry
    return Listed(
        found.key.id,
        found.key.name,
        entry.version,
        str(entry.status),
        None if entry.flag is None else str(entry.flag),
        instant(entry.started_at),
        instant(entry.closed_at),
        instant(entry.next_wake),
    )


def _render(listing: Listing) -> list[RenderableType]:
    if not listing.workflows:
        return [line("No workflows.")]
    rows = table("ID", "WORKFLOW", "STATUS", "VERSION", "STARTED", "CLOSED", "NEXT WAKE")
    for each in listing.workflows:
        rows.add_row(
            cell(each.workflow_id),
            cell(each.workflow_name),
            coloured(each.flag or each.status),
            cell(each.version),
            cell(each.started_at),
            cell(each.closed_at),
            cell(each.next_wake),
        )
    return [rows] if listing.cursor is None else [rows, line(f"There are more: --cursor {listing.cursor}", "dim")]
