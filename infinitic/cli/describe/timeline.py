"""``infinitic describe --timeline``: what a workflow did, step by step, with bars over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import msgspec
from rich.console import RenderableType
from rich.text import Text

from infinitic.cli.connection import find_workflow_name, run_with_storage
from infinitic.cli.describe.time_axis import Span, TimeAxis
from infinitic.cli.output import format_instant, make_cell, make_line, make_status, make_table, show
from infinitic.cli.project import Project, load_config
from infinitic.cli.terminal import can_show_unicode
from infinitic.codec.payloads import make_coder
from infinitic.errors import WorkflowUnknownError
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.replay.run import Run, RunStep, RunStepStatus
from infinitic.replay.run_payloads import decode_run
from infinitic.runtime.run_reading import read_run
from infinitic.storage import StateKey, Storage

BAR_WIDTH = 40
"""Columns of a bar."""

MAX_ROWS = 200
"""How many rows are shown: the newest ones. The JSON document has all."""

MOST_ALIKE = 20
"""More steps of one name, which the code asked for at once, are one row."""


class Row(msgspec.Struct):
    """One row: a step, or many of one name that were asked for together.

    Args:
        number: the first one is step 1.
        steps: one, or all of the row.
    """

    number: int
    steps: Sequence[RunStep]


def show_timeline(config: Path, name: str | None, workflow_id: str, as_json: bool) -> None:
    """Print what a workflow did. It reads the storage, and works while the broker is away.

    Args:
        config: the configuration file.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance.
        as_json: whether to print the whole document.

    Raises:
        typer.Exit: it failed; the message is printed.
    """

    async def action(storage: Storage) -> Run:
        loaded = load_config(config)
        run = await read_timeline(storage, Project.of(loaded), name, workflow_id, payloads=as_json)
        coder = make_coder(loaded.make_codec()) if as_json else None
        return run if coder is None else decode_run(run, coder)

    show(run_with_storage(config, action), as_json, render_run)


async def read_timeline(
    storage: Storage, project: Project, name: str | None, workflow_id: str, *, payloads: bool = False
) -> Run:
    """Read what a workflow did.

    Args:
        storage: the database.
        project: the workflows of the configuration.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance.
        payloads: whether arguments and values are read, too.

    Raises:
        WorkflowUnknownError: the storage has no such instance.
        UsageError: the name is not given, and cannot be found.
    """
    name = await find_workflow_name(project, storage, name, workflow_id)
    run = await read_run(storage, StateKey(name, workflow_id), payloads=payloads)
    if run is None:
        raise WorkflowUnknownError(name, "", workflow_id)
    return run


def render_run(run: Run) -> list[RenderableType]:
    """Render what a workflow did: its methods, then a row for each step."""
    unicode = can_show_unicode()
    axis = TimeAxis(_list_work(run), BAR_WIDTH)
    shown: list[RenderableType] = [_render_facts(run)]
    if run.stalled is not None:
        shown.append(make_line(f"stalled: {run.stalled}", "bold red"))
    rows = _make_rows(run.steps)
    table = make_table("", "STEP", "STATUS", "AT", "QUEUED", "RAN", "WORKER", "")
    for method in run.methods:
        ended_at = _get_last_instant(run) if method.ended_at is None else method.ended_at
        bar = _Bar(axis, unicode)
        if method.began_at is not None:
            bar.draw(method.began_at, ended_at, "=")
        status = str(method.status)
        if method.status is WorkflowStatus.RUNNING and method.began_at is None:
            status = "waiting"
        who = f"called by {method.by}" if method.by else ""
        called_at = method.called_at or method.began_at or run.started_at
        table.add_row(
            "",
            make_cell(f"{method.name}()"),
            make_status(status),
            make_cell(_format_offset(called_at, run)),
            "",
            make_cell(_format_length(method.began_at, method.ended_at)),
            make_cell(who),
            bar.text(),
        )
    for row in rows[-MAX_ROWS:]:
        _add_row(table.add_row, row, run, axis, unicode)
    shown += [make_line(""), table]
    if len(rows) > MAX_ROWS:
        shown.append(make_line(f"and {len(rows) - MAX_ROWS:,} earlier rows: --json has all of them", "dim"))
    if axis.gaps:
        skipped = ", ".join(format_seconds(seconds) for seconds in axis.gaps.values())
        shown.append(make_line(f"{_GAP[unicode]} time in which nothing ran: {skipped}", "dim"))
    return shown


_GAP = {True: "⋯", False: "~"}
_QUEUED, _RAN = {True: "░", False: "."}, {True: "█", False: "#"}
_CHARACTERS = {
    ".": _QUEUED,
    "#": _RAN,
    "=": {True: "━", False: "="},
    "-": {True: "─", False: "-"},
    "*": {True: "◆", False: "*"},
}
_STYLES = {".": "dim", "#": "green", "=": "cyan", "-": "dim", "*": "magenta", "x": "red"}


class _Bar:
    """The bar of a row: what was drawn last is seen."""

    def __init__(self, axis: TimeAxis, unicode: bool) -> None:
        self._axis = axis
        self._unicode = unicode
        self._cells = [" "] * BAR_WIDTH
        for column in axis.gaps:
            self._cells[column] = "~"

    def draw(self, begin: float, end: float, kind: str) -> None:
        """Draw from one instant to another, at least one column."""
        first, last = self._axis.find_column(begin), self._axis.find_column(max(begin, end))
        for column in range(first, last + 1):
            if column not in self._axis.gaps:
                self._cells[column] = kind

    def text(self) -> Text:
        """The bar, in colours."""
        text = Text(no_wrap=True)
        for kind, cells in groupby(self._cells):
            drawn = _GAP[self._unicode] if kind == "~" else _CHARACTERS.get(kind, {}).get(self._unicode, kind)
            text.append(drawn * len(list(cells)), _STYLES.get(kind, "dim"))
        return text


def _render_facts(run: Run) -> RenderableType:
    facts = make_table("", "")
    facts.show_header = False
    version = "" if run.version is None else f", version {run.version}"
    facts.add_row("workflow", make_cell(f"{run.workflow_name} {run.workflow_id}{version}"))
    facts.add_row("status", make_status(str(run.status)))
    facts.add_row("started at", make_cell(format_instant(run.started_at)))
    facts.add_row("closed at", make_cell(format_instant(run.closed_at)))
    if run.termination:
        facts.add_row("terminated", make_cell(run.termination))
    if run.canceled_at is not None:
        who = f" by {run.canceled_by}" if run.canceled_by else ""
        what = "terminated at" if run.status is WorkflowStatus.TERMINATED else "cancelled at"
        facts.add_row(what, make_cell(f"{format_instant(run.canceled_at)}{who}"))
    facts.add_row("steps", make_cell(f"{len(run.steps):,} in {run.activations:,} activations"))
    return facts


def _make_rows(steps: Iterable[RunStep]) -> list[Row]:
    """Make rows. Many steps of one name, which the code asked for at once, are one row."""
    rows, number = list[Row](), 1
    for _, group in groupby(steps, lambda step: (step.kind, step.name, step.activation)):
        alike = list(group)
        if len(alike) > MOST_ALIKE:
            rows.append(Row(number, alike))
        else:
            rows += [Row(number + index, [step]) for index, step in enumerate(alike)]
        number += len(alike)
    return rows


def _add_row(add: object, row: Row, run: Run, axis: TimeAxis, unicode: bool) -> None:
    assert callable(add)
    first = row.steps[0]
    bar = _Bar(axis, unicode)
    for step in row.steps:
        _draw_step(bar, step, _get_last_instant(run))
    attempts = [attempt for step in row.steps for attempt in step.attempts]
    workers = list(dict.fromkeys(attempt.worker for attempt in attempts if attempt.worker))
    add(
        make_cell(row.number),
        make_cell(f"{first.name} ×{len(row.steps)}" if len(row.steps) > 1 else _name_step(first)),
        _summarize(row.steps),
        make_cell(_format_offset(first.at, run)),
        make_cell(_add_up((attempt.sent_at, attempt.began_at) for attempt in attempts)),
        make_cell(_add_up((attempt.began_at, attempt.ended_at) for attempt in attempts)),
        make_cell(", ".join(workers[:3]) + (" …" if len(workers) > 3 else "")),
        bar.text(),
    )


def _name_step(step: RunStep) -> str:
    name = step.name
    if step.kind == "timer" and step.due is not None:
        name = f"timer {format_seconds(step.due - step.at)}"
    elif step.kind == "signal":
        name = f"signal {step.name}{f' by {step.by}' if step.by else ''}"
    elif step.kind != "task":
        name = f"{step.kind} {step.name}"
    attempts = len(step.attempts)
    if attempts and step.attempts[-1].is_local:
        name = f"{name}, local"
    return f"{name}, {attempts} attempts" if attempts > 1 else name


def _summarize(steps: Sequence[RunStep]) -> Text:
    if len(steps) == 1:
        [step] = steps
        failure = step.failure or next((each.failure for each in reversed(step.attempts) if each.failure), None)
        text = make_status(str(step.status).replace("_", " "))
        if failure is not None:
            text.append_text(make_line(f" {failure.short_name}: {failure.message}"[:60].rstrip(), "dim"))
        return text
    counts = {status: sum(step.status is status for step in steps) for status in RunStepStatus}
    return Text(", ").join(make_status(f"{status}").append(f" {count}") for status, count in counts.items() if count)


def _draw_step(bar: _Bar, step: RunStep, now: float) -> None:
    if step.kind == "timer":
        bar.draw(step.at, now if step.ended_at is None else step.ended_at, "-")
    elif step.kind in ("child", "call"):
        bar.draw(step.at, now if step.ended_at is None else step.ended_at, "=")
    elif step.kind in ("signal", "inline", "send"):
        bar.draw(step.at, step.at, "*")
    for attempt in step.attempts:
        if attempt.sent_at is None or attempt.status is RunStepStatus.WAITING:
            continue
        ended_at = now if attempt.ended_at is None else attempt.ended_at
        began_at = ended_at if attempt.began_at is None else attempt.began_at
        bar.draw(attempt.sent_at, began_at, ".")
        if attempt.began_at is not None:
            bar.draw(began_at, ended_at, "#")
        if attempt.status is RunStepStatus.FAILED:
            bar.draw(ended_at, ended_at, "x")


def _list_work(run: Run) -> list[Span]:
    """List the times that must be seen: attempts, and the instants of all else."""
    last = _get_last_instant(run)
    work = [Span(run.started_at, run.started_at), Span(last, last)]
    for step in run.steps:
        work.append(Span(step.at, step.at))
        if step.ended_at is not None:
            work.append(Span(step.ended_at, step.ended_at))
        for attempt in step.attempts:
            if attempt.sent_at is not None and attempt.status is not RunStepStatus.WAITING:
                work.append(Span(attempt.sent_at, max(attempt.sent_at, attempt.ended_at or attempt.sent_at)))
    return work


def _get_last_instant(run: Run) -> float:
    """The last instant of which the document knows: there, what is open ends in the picture."""
    instants = [run.started_at, run.closed_at or 0.0]
    for step in run.steps:
        instants += [step.at, step.ended_at or 0.0, *(attempt.ended_at or 0.0 for attempt in step.attempts)]
    return max(instants)


def _add_up(spans: Iterable[tuple[float | None, float | None]]) -> str | None:
    """Add up the times between pairs of instants; None if none of them is known."""
    lengths = [end - begin for begin, end in spans if begin is not None and end is not None]
    return format_seconds(sum(lengths)) if lengths else None


def _format_offset(at: float, run: Run) -> str:
    return f"+{format_seconds(max(at - run.started_at, 0.0))}"


def _format_length(begin: float | None, end: float | None) -> str | None:
    return None if begin is None or end is None else format_seconds(end - begin)


def format_seconds(seconds: float) -> str:
    """Format a length of time, in the largest units that tell it: "17 d 3 h", "4.1 s", "0 ms"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days:,} d {hours} h" if days else f"{hours} h {minutes} min"
