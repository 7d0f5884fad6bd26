"""``infinitic describe``: the state of a workflow, and what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from infinitic import topics
from infinitic.cli.connection import Connection, NoAnswer, count_consumers, run_connected, wait_for_answer
from infinitic.cli.describe.open_tasks import OpenRequestRow, OpenTaskRow, OpenTasks, read_head, read_open_tasks
from infinitic.cli.describe.timeline import show_timeline
from infinitic.cli.options import (
    ANSWER_SECONDS,
    DEFAULT_CONFIG,
    AnswerTimeoutOption,
    ConfigOption,
    JsonOption,
    WorkflowIdArgument,
    WorkflowNameOption,
)
from infinitic.cli.output import format_instant, make_cell, make_line, make_status, make_table, show
from infinitic.engines.workflow.describe import describe as describe_head
from infinitic.messages.client import MethodInfo, ReplyTo, WorkflowInfo
from infinitic.storage import DamagedState, StateKey, WorkflowStatus


class WorkflowDescription(msgspec.Struct):
    """What is known of an instance.

    It has what `WorkflowInfo` has, with instants as text.

    Args:
        tasks: the first open tasks.
        requests: the first children, and calls of methods of other instances.
        notes: what an operator should know, and what to do.
    """

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
    tasks: list[OpenTaskRow]
    requests: list[OpenRequestRow]
    notes: list[str]
    tags: Sequence[str]
    custom_id: str


def command(
    workflow_id: WorkflowIdArgument,
    workflow: WorkflowNameOption = None,
    timeout: AnswerTimeoutOption = ANSWER_SECONDS,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Show what it did, step by step. Works while the broker is away.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the state of a workflow, its methods, its open tasks, and why it is stalled."""
    if timeline:
        show_timeline(config, workflow, workflow_id, as_json)
        return
    description = run_connected(config, lambda connection: describe(connection, workflow, workflow_id, timeout))
    show(description, as_json, _render)


async def describe(
    connection: Connection, name: str | None, workflow_id: str, timeout: float = ANSWER_SECONDS
) -> WorkflowDescription:
    """Ask the state engine about an instance, or read the storage if no worker has the engine.

    Args:
        connection: the connection of the command.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance.
        timeout: how long to wait for the engine, in seconds.

    Raises:
        WorkflowUnknownError: there is no such instance.
        NoAnswer: the engine does not answer, and the storage does not know the instance.
    """
    name = await connection.find_workflow_name(name, workflow_id)
    target = await connection.get_target(name, workflow_id)
    notes: list[str] = []
    info = None
    if not await count_consumers(connection.transport, topics.workflow_engine(name)):
        info = await _read_info(connection, name, workflow_id)
        notes.append(f"no worker has the state engine of '{name}': nothing happens until one runs")
    if info is None:
        try:
            info, notes = await wait_for_answer(connection, name, connection.client.describe(target), timeout), []
        except NoAnswer as error:
            info = await _read_info(connection, name, workflow_id)
            if info is None:
                raise
            notes = [f"{error}; what is shown was read from the storage"]
    notes += await _find_missing_code(connection, info)
    work = OpenTasks([], [])
    if info.open_tasks:
        work = await read_open_tasks(connection.storage, connection.transport, name, workflow_id)
    return _make_description(info, work, [*_advise(info), *notes, *_list_notes_on_work(work)])


async def _read_info(connection: Connection, name: str, workflow_id: str) -> WorkflowInfo | None:
    """Read from the storage what the engine would answer; None if there is no such instance."""
    if connection.storage is None:
        return None
    head = await read_head(connection.storage, StateKey(name, workflow_id))
    return None if head is None else describe_head(head, ReplyTo("", "")).info


async def _find_missing_code(connection: Connection, info: WorkflowInfo) -> list[str]:
    """Say so if the code of the instance is to run on another worker, and no worker has it."""
    if info.status is not WorkflowStatus.RUNNING or info.stalled is not None or info.parked:
        return []
    name = info.workflow_name
    wanted = [topics.workflow_executor(name)]
    if info.version is not None:
        wanted.append(topics.workflow_version(name, info.version))
    for topic in wanted:
        stats = (await connection.transport.stats(topic)).subscriptions.get(topic.subscription or "")
        if stats is None or stats.consumers or not stats.backlog + stats.unacked:
            continue
        if connection.storage is not None:
            head = await read_head(connection.storage, StateKey(name, info.workflow_id))
            if head is None or not head.deciding:
                return []
        which = "its code" if info.version is None else f"the code of version {info.version}"
        return [f"it waits for {which}, which no worker has: activations wait in {topic.name}"]
    return []


def _advise(info: WorkflowInfo) -> list[str]:
    notes: list[str] = []
    if info.stalled is not None:
        damage = DamagedState.beginning(StateKey(info.workflow_name, info.workflow_id))
        first = "restore the damaged data" if info.stalled.startswith(damage) else "correct the code"
        notes.append(f"stalled: {first}, then run: infinitic retry {info.workflow_id}")
    if info.parked:
        notes.append(
            "parked: its messages go to the dead letters; correct the cause, then run infinitic dead-letters replay"
        )
    notes += [f"a background task failed, and nothing awaits it: {failure}" for failure in info.background_failures]
    return notes


def _list_notes_on_work(work: OpenTasks) -> list[str]:
    notes = [
        f"the task {each.task_id} is delegated: it waits until somebody completes it, with its token"
        for each in work.tasks
        if each.delegated
    ]
    notes += [f"no worker serves the service '{each}': its tasks wait until one runs" for each in work.unserved]
    notes += [
        f"no worker has the state engine of '{each}': its children and calls wait until one runs"
        for each in work.unserved_workflows
    ]
    return [*notes, f"the open tasks are not known: {work.unknown}"] if work.unknown else notes


def _make_description(info: WorkflowInfo, work: OpenTasks, notes: list[str]) -> WorkflowDescription:
    return WorkflowDescription(
        info.workflow_id,
        info.workflow_name,
        info.version,
        str(info.status),
        format_instant(info.started_at),
        format_instant(info.closed_at),
        info.stalled,
        info.parked,
        info.methods,
        info.open_tasks,
        info.open_timers,
        format_instant(info.next_wake),
        info.steps,
        info.transitions,
        work.tasks,
        work.requests,
        notes,
        info.tags,
        info.custom_id,
    )


def _render(info: WorkflowDescription) -> list[RenderableType]:
    facts = make_table("", "")
    facts.show_header = False
    for name in ("workflow_id", "workflow_name", "version", "status", "started_at", "closed_at", "next_wake"):
        value = getattr(info, name)
        facts.add_row(name.replace("_", " "), make_status(value) if name == "status" else make_cell(value))
    if info.tags:
        facts.add_row("tags", make_cell(", ".join(info.tags)))
    if info.custom_id:
        facts.add_row("custom id", make_cell(info.custom_id))
    for name in ("open_tasks", "open_timers", "steps", "transitions"):
        facts.add_row(name.replace("_", " "), make_cell(getattr(info, name)))
    if info.stalled is not None:
        facts.add_row("stalled", make_line(info.stalled, "bold red"))
    if info.parked:
        facts.add_row("parked", make_line("its messages go to the dead letters", "bold red"))
    shown: list[RenderableType] = [facts]
    if info.methods:
        methods = make_table("METHOD", "STATUS", "ID")
        for method in info.methods:
            methods.add_row(make_cell(method.method_name), make_status(str(method.status)), make_cell(method.method_id))
        shown += [make_line(""), methods]
    if info.tasks:
        tasks = make_table("OPEN TASK", "ATTEMPT", "NEXT AT", "LAST FAILURE", "ID")
        for task in info.tasks:
            tasks.add_row(*map(make_cell, (task.task, task.attempt, task.due, task.failure, task.task_id)))
        shown += [make_line(""), tasks]
    if info.requests:
        requests = make_table("WAITS FOR", "METHOD", "STATUS", "ID")
        for each in info.requests:
            requests.add_row(*map(make_cell, (each.kind, each.request, each.status, each.workflow_id)))
        shown += [make_line(""), requests]
    if info.tasks or info.requests:
        more = info.open_tasks - len(info.tasks) - len(info.requests)
        shown += [make_line(f"and {more:,} more", "dim")] if more > 0 else []
    if info.notes:
        shown += [make_line(""), *(make_line(f"Note: {each}", "yellow") for each in info.notes)]
    return shown
