"""``infinitic list``: the instances that the storage has. It needs no broker."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.connection import run_with_storage
from infinitic.cli.error_handling import exit_on_error
from infinitic.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, parse_text
from infinitic.cli.output import format_instant, make_cell, make_line, make_status, make_table, show
from infinitic.cli.parsing import parse_instant
from infinitic.clock import to_instant
from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.runtime.tag_listing import find_tagged, make_tagged_key
from infinitic.storage import Flag, Found, InvalidArgument, Query, Storage, TagKey

PAGE_SIZE = 1000
MAX_ROWS = 100_000
"""How many workflows one list shows without `--all`."""


class StatusFilter(StrEnum):
    """Which workflows a list shows: those with this status, or those that need attention."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    TERMINATED = "terminated"
    STALLED = "stalled"
    PARKED = "parked"


class WorkflowRow(msgspec.Struct):
    """One row of a list. `flag` is "stalled", "parked" or None."""

    workflow_id: str
    workflow_name: str
    version: int | None
    status: str
    flag: str | None
    started_at: str | None
    closed_at: str | None
    next_wake: str | None


class WorkflowList(msgspec.Struct):
    """A page of a list. `cursor` continues it; None if there is no more."""

    workflows: list[WorkflowRow]
    cursor: str | None


class WorkflowCount(msgspec.Struct):
    """How many instances there are, counted up to `MAX_ROWS`."""

    count: int


class TimeFilter(NamedTuple):
    """Bounds of when instances started and closed. None bounds nothing.

    Attributes:
        until: they started before this instant.
        closed_since: they closed after this instant.
        closed_until: they closed before this instant.
    """

    until: datetime | None = None
    closed_since: datetime | None = None
    closed_until: datetime | None = None


NO_TIMES = TimeFilter()


def command(
    workflow: Annotated[
        str | None, typer.Option("--workflow", help="Only workflows of this name.", parser=parse_text, metavar="NAME")
    ] = None,
    status: Annotated[StatusFilter | None, typer.Option("--status", help="Only workflows with this status.")] = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", help="Only workflows that run and have this tag.", parser=parse_text, metavar="TAG"),
    ] = None,
    custom_id: Annotated[
        str | None,
        typer.Option(
            "--custom-id", help="Only the workflow that runs and has this custom id.", parser=parse_text, metavar="ID"
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Only workflows started after: 2026-01-31T12:00Z, or how long ago: 90s, 15m, 2h, 7d."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Only workflows started before, in the same forms.")
    ] = None,
    closed_since: Annotated[
        str | None, typer.Option("--closed-since", help="Only workflows closed after, in the same forms.")
    ] = None,
    closed_until: Annotated[
        str | None, typer.Option("--closed-until", help="Only workflows closed before, in the same forms.")
    ] = None,
    id_prefix: Annotated[
        str | None,
        typer.Option(
            "--id-prefix",
            help="Only workflows whose id begins so. Needs --workflow.",
            parser=parse_text,
            metavar="TEXT",
        ),
    ] = None,
    count: Annotated[bool, typer.Option("--count", help=f"Only count them, up to {MAX_ROWS:,}.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_ROWS, help="How many to show.")] = 100,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="Continue where a list ended.", parser=parse_text, metavar="CURSOR")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show all of them.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List workflows, newest first, as the storage has them. Works while the broker is away."""

    def parse_times() -> tuple[datetime | None, TimeFilter]:
        texts = {"--since": since, "--until": until, "--closed-since": closed_since, "--closed-until": closed_until}
        after, *others = (
            None if text is None else parse_instant(text, option=option) for option, text in texts.items()
        )
        return after, TimeFilter(*others)

    async def list_them(storage: Storage) -> WorkflowList:
        started_after, times = parse_times()
        return await list_workflows(
            storage,
            workflow,
            status,
            started_after,
            tag=tag,
            custom_id=custom_id,
            limit=limit,
            cursor=cursor,
            everything=everything,
            times=times,
            id_prefix=id_prefix,
        )

    async def count_them(storage: Storage) -> WorkflowCount:
        started_after, times = parse_times()
        query = make_query(workflow, status, started_after, MAX_ROWS, times=times, id_prefix=id_prefix)
        return WorkflowCount(await storage.states.count(query))

    if count:
        if tag is not None or custom_id is not None:
            with exit_on_error():
                raise UsageError("--count does not count by tag or custom id")
        show(run_with_storage(config, count_them), as_json, _render_count)
    else:
        show(run_with_storage(config, list_them), as_json, _render)


async def list_workflows(
    storage: Storage,
    name: str | None = None,
    status: StatusFilter | None = None,
    since: datetime | None = None,
    *,
    tag: str | None = None,
    custom_id: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
    everything: bool = False,
    times: TimeFilter = NO_TIMES,
    id_prefix: str | None = None,
) -> WorkflowList:
    """List the instances in the storage, newest first; by tag in the order of their ids.

    Args:
        storage: the database.
        name: only instances of this workflow.
        status: only instances with this status.
        since: only instances that started after this instant.
        tag: only instances that run and have this tag.
        custom_id: only the instance that runs and has this custom id.
        limit: how many at most.
        cursor: continues the list that gave it.
        everything: all instances, whatever the limit.
        times: further bounds of when they started and closed.
        id_prefix: only instances whose id begins so. It needs `name`.

    Raises:
        UsageError: no list gave this cursor, `id_prefix` or a tag is given without a name, or a tag
            with another filter.
    """
    if tag is not None or custom_id is not None:
        filtered = status is not None or since is not None or times != NO_TIMES or id_prefix is not None
        if name is None or filtered or (tag is not None and custom_id is not None):
            option = "--tag" if custom_id is None else "--custom-id"
            raise UsageError(f"{option} needs --workflow NAME, and takes no other filter")
        key = make_tagged_key(name, tag, custom_id)
        return await _list_tagged(storage, key, limit, cursor, everything=everything)
    size = PAGE_SIZE if everything else limit
    query = make_query(name, status, since, size, cursor, times=times, id_prefix=id_prefix)
    rows: list[WorkflowRow] = []
    while True:
        try:
            page = await storage.states.find(query)
        except InvalidArgument as error:
            raise UsageError(f"--cursor: {error}") from error
        rows += map(_make_row, page.found)
        if page.cursor is None or not everything:
            return WorkflowList(rows, page.cursor)
        query = msgspec.structs.replace(query, cursor=page.cursor)


def make_query(
    name: str | None,
    status: StatusFilter | None,
    since: datetime | None,
    limit: int,
    cursor: str | None = None,
    *,
    times: TimeFilter = NO_TIMES,
    id_prefix: str | None = None,
) -> Query:
    """Make the query of a list. Arguments and errors are those of `list_workflows`."""
    if name is not None:
        check_name("The name of a workflow", name)
    if id_prefix is not None and name is None:
        raise UsageError("--id-prefix needs --workflow NAME: ids are in order within a workflow")
    flag = Flag(status.value) if status is StatusFilter.STALLED or status is StatusFilter.PARKED else None
    after, before, closed_after, closed_before = (
        None if each is None else to_instant(each)
        for each in (since, times.until, times.closed_since, times.closed_until)
    )
    return Query(
        name,
        None if status is None or flag is not None else WorkflowStatus(status.value),
        after,
        before,
        limit=limit,
        cursor=cursor,
        flag=flag,
        closed_after=closed_after,
        closed_before=closed_before,
        id_prefix=id_prefix,
    )


async def _list_tagged(
    storage: Storage, key: TagKey, limit: int, cursor: str | None, *, everything: bool
) -> WorkflowList:
    rows: list[WorkflowRow] = []
    while True:
        page = await find_tagged(storage, key, limit=min(limit, PAGE_SIZE), cursor=cursor)
        rows += map(_make_row, page.found)
        cursor = page.cursor
        if cursor is None or not (everything or len(rows) < limit):
            return WorkflowList(rows, cursor)


def _make_row(found: Found) -> WorkflowRow:
    entry = found.entry
    return WorkflowRow(
        found.key.id,
        found.key.name,
        entry.version,
        str(entry.status),
        None if entry.flag is None else str(entry.flag),
        format_instant(entry.started_at),
        format_instant(entry.closed_at),
        format_instant(entry.next_wake),
    )


def _render_count(counted: WorkflowCount) -> list[RenderableType]:
    more = " or more" if counted.count >= MAX_ROWS else ""
    return [make_line(f"{counted.count:,}{more} workflow{'' if counted.count == 1 else 's'}")]


def _render(found: WorkflowList) -> list[RenderableType]:
    if not found.workflows:
        return [make_line("No workflows.")]
    rows = make_table("ID", "WORKFLOW", "STATUS", "VERSION", "STARTED", "CLOSED", "NEXT WAKE")
    for each in found.workflows:
        rows.add_row(
            make_cell(each.workflow_id),
            make_cell(each.workflow_name),
            make_status(each.flag or each.status),
            make_cell(each.version),
            make_cell(each.started_at),
            make_cell(each.closed_at),
            make_cell(each.next_wake),
        )
    if found.cursor is None:
        return [rows]
    return [rows, make_line(f"There are more: continue with --cursor {found.cursor}", "dim")]
