"""``infinitic describe`` and ``infinitic list``: what has become of workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.link import (
    ANSWER_SECONDS,
    DEFAULT_CONFIG,
    Config,
    Link,
    Timeout,
    WorkflowName,
    answered,
    run,
)
from infinitic.cli.output import Json, cell, instant, line, show, status as coloured, table
from infinitic.cli.values import since as instant_of
from infinitic.errors import UsageError
from infinitic.messages.client import MethodInfo, WorkflowInfo
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import Found

_PAGE = 1000


class Described(msgspec.Struct):
    """`WorkflowInfo` with instants as people read them."""

    workflow_id: str
    workflow_name: str
    version: int | None
    status: str
    started_at: str | None
    closed_at: str | None
    stalled: str | None
    parked: bool
    methods: Sequence[MethodInfo]
    open_tasks: int
    open_timers: int
    next_wake: str | None
    steps: int
    transitions: int


class Listed(msgspec.Struct):
    """One row of a list."""

    workflow_id: str
    workflow_name: str
    version: int | None
    status: str
    started_at: str | None
    closed_at: str | None
    next_wake: str | None


class Listing(msgspec.Struct):
    """A page. `cursor` continues it; None: there is no more."""

    workflows: list[Listed]
    cursor: str | None


def describe_command(
    workflow_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the workflow.")],
    workflow: WorkflowName,
    timeout: Timeout = ANSWER_SECONDS,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Show what the engine knows of a workflow: its state, methods, open tasks and timers, and why it stalls."""
    show(run(config, lambda link: describe(link, workflow, workflow_id, timeout)), as_json, _render_described)


async def describe(link: Link, name: str, workflow_id: str, timeout: float = ANSWER_SECONDS) -> Described:
    """Ask the engine. Raises `WorkflowUnknownError`."""
    stub = await link.instance(name, workflow_id)
    return _described(await answered(name, link.client.describe(stub), timeout))


def list_command(
    workflow: Annotated[str | None, typer.Option("--workflow", help="Only workflows of this name.")] = None,
    status: Annotated[WorkflowStatus | None, typer.Option("--status", help="Only those in this state.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Started after: 2026-01-31T12:00Z, or how long ago: 90s, 15m, 2h, 7d.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to show.")] = 100,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Continue where a list ended.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """List workflows, newest first, as the storage has them."""

    async def verb(link: Link) -> Listing:
        return await list_workflows(link, workflow, status, since, limit=limit, cursor=cursor, everything=everything)

    show(run(config, verb), as_json, _render_listing)


async def list_workflows(
    link: Link,
    name: str | None = None,
    status: WorkflowStatus | None = None,
    since: str | None = None,
    *,
    limit: int = 100,
    cursor: str | None = None,
    everything: bool = False,
) -> Listing:
    """Read the storage: one page of `limit`, or all."""
    if link.storage is None:
        raise UsageError("The configuration has no storage: there is nothing to list")
    started_after = None if since is None else instant_of(since)
    found: list[Listed] = []
    while True:
        try:
            page = await link.client.list_workflows(
                name=name,
                status=status,
                since=started_after,
                limit=_PAGE if everything else limit,
                cursor=cursor,
            )
        except ValueError as error:
            raise UsageError(f"--cursor: {error}") from error
        found += map(_listed, page.found)
        cursor = page.cursor
        if cursor is None or not everything:
            return Listing(found, cursor)


def _described(info: WorkflowInfo) -> Described:
    return Described(
        info.workflow_id,
        info.workflow_name,
        info.version,
        str(info.status),
        instant(info.started_at),
        instant(info.closed_at),
        info.stalled,
        info.parked,
        info.methods,
        info.open_tasks,
        info.open_timers,
        instant(info.next_wake),
        info.steps,
        info.transitions,
    )


def _listed(found: Found) -> Listed:
    entry = found.entry
    return Listed(
        found.key.id,
        found.key.name,
        entry.version,
        str(entry.status),
        instant(entry.started_at),
        instant(entry.closed_at),
        instant(entry.next_wake),
    )


def _render_described(info: Described) -> list[RenderableType]:
    facts = table("", "")
    facts.show_header = False
    for name in ("workflow_id", "workflow_name", "version", "status", "started_at", "closed_at", "next_wake"):
        value = getattr(info, name)
        facts.add_row(name.replace("_", " "), coloured(value) if name == "status" else cell(value))
    for name in ("open_tasks", "open_timers", "steps", "transitions"):
        facts.add_row(name.replace("_", " "), cell(getattr(info, name)))
    if info.stalled is not None:
        facts.add_row("stalled", line(info.stalled, "bold red"))
    if info.parked:
        facts.add_row("parked", line("its messages go to the dead letters", "bold red"))
    methods = table("METHOD", "STATUS", "ID")
    for method in info.methods:
        methods.add_row(cell(method.method_name), coloured(str(method.status)), cell(method.method_id))
    return [facts, line(""), methods] if info.methods else [facts]


def _render_listing(listing: Listing) -> list[RenderableType]:
    if not listing.workflows:
        return [line("No workflows.")]
    rows = table("ID", "WORKFLOW", "STATUS", "VERSION", "STARTED", "CLOSED", "NEXT WAKE")
    for each in listing.workflows:
        rows.add_row(
            cell(each.workflow_id),
            cell(each.workflow_name),
            coloured(each.status),
            cell(each.version),
            cell(each.started_at),
            cell(each.closed_at),
            cell(each.next_wake),
        )
    return [rows] if listing.cursor is None else [rows, line(f"There are more: --cursor {listing.cursor}", "dim")]
