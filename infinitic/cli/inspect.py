"""``infinitic describe``: what has become of a workflow, what it waits for, and whether a worker serves that."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import RenderableType

from infinitic import topics
from infinitic.cli import open_work
from infinitic.cli.link import (
    ANSWER_SECONDS,
    Link,
    NoAnswer,
    Timeout,
    WorkflowId,
    WorkflowName,
    answered,
    consumers,
    run,
)
from infinitic.cli.open_work import OpenWork, Task
from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.cli.output import Json, cell, instant, line, show, status as coloured, table
from infinitic.engines.workflow.describe import describe as describe_head
from infinitic.messages.client import MethodInfo, ReplyTo, WorkflowInfo
from infinitic.storage import DamagedState, StateKey, WorkflowStatus


class Described(msgspec.Struct):
    """`WorkflowInfo` with instants as people read them, the open tasks, and what an operator should know."""

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
    tasks: list[Task]
    notes: list[str]


def command(
    workflow_id: WorkflowId,
    workflow: WorkflowName = None,
    timeout: Timeout = ANSWER_SECONDS,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Show what is known of a workflow: its state, methods, open tasks with their last failure, and why it stalls."""
    show(run(config, lambda link: describe(link, workflow, workflow_id, timeout)), as_json, _render)


async def describe(link: Link, name: str | None, workflow_id: str, timeout: float = ANSWER_SECONDS) -> Described:
    """Ask the engine, or read the storage if no worker has the engine. Raises `WorkflowUnknownError`."""
    name = await link.name_of(name, workflow_id)
    stub = await link.instance(name, workflow_id)
    notes: list[str] = []
    info = None
    if not await consumers(link.transport, topics.workflow_engine(name)):
        info = await _stored(link, name, workflow_id)
        notes.append(f"no worker has the state engine of '{name}': nothing happens until one runs")
    if info is None:
        try:
            info, notes = await answered(link, name, link.client.describe(stub), timeout), []
        except NoAnswer as error:
            info = await _stored(link, name, workflow_id)
            if info is None:
                raise
            notes = [f"{error} This is what the storage has"]
    notes += await _waits_for_code(link, info)
    work = (
        await open_work.read(link.storage, link.transport, name, workflow_id) if info.open_tasks else OpenWork([], [])
    )
    return _described(info, work, [*_advice(info), *notes, *_lacks(work)])


async def _stored(link: Link, name: str, workflow_id: str) -> WorkflowInfo | None:
    """What the storage knows of an instance; None if it has none."""
    if link.storage is None:
        return None
    head = await open_work.read_head(link.storage, StateKey(name, workflow_id))
    return None if head is None else describe_head(head, ReplyTo("", "")).info


async def _waits_for_code(link: Link, info: WorkflowInfo) -> list[str]:
    """Whether its code is to run on another worker, and none has it."""
    if info.status is not WorkflowStatus.RUNNING or info.stalled is not None or info.parked:
        return []
    name = info.workflow_name
    wanted = [topics.workflow_executor(name)]
    if info.version is not None:
        wanted.append(topics.workflow_version(name, info.version))
    for topic in wanted:
        found = (await link.transport.stats(topic)).subscriptions.get(topic.subscription or "")
        if found is None or found.consumers or not found.backlog + found.unacked:
            continue
        if link.storage is not None:
            head = await open_work.read_head(link.storage, StateKey(name, info.workflow_id))
            if head is None or not head.deciding:
                return []
        which = "its code" if info.version is None else f"the code of version {info.version}"
        return [f"it waits for {which}, which no worker has: activations wait in {topic.name}"]
    return []


def _advice(info: WorkflowInfo) -> list[str]:
    notes: list[str] = []
    if info.stalled is not None:
        damage = DamagedState.beginning(StateKey(info.workflow_name, info.workflow_id))
        first = "restore what is damaged" if info.stalled.startswith(damage) else "correct the code"
        notes.append(f"stalled: {first}, then `infinitic retry {info.workflow_id}`")
    if info.parked:
        notes.append("parked: its messages go to the dead letters; correct the cause, and keep them")
    notes += [f"a background task failed, and nobody awaits it: {failure}" for failure in info.background_failures]
    return notes


def _lacks(work: OpenWork) -> list[str]:
    notes = [f"no worker serves the service '{each}': its tasks wait until one runs" for each in work.unserved]
    return [*notes, f"open tasks: {work.unknown}"] if work.unknown else notes


def _described(info: WorkflowInfo, work: OpenWork, notes: list[str]) -> Described:
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
        work.tasks,
        notes,
    )


def _render(info: Described) -> list[RenderableType]:
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
    shown: list[RenderableType] = [facts]
    if info.methods:
        methods = table("METHOD", "STATUS", "ID")
        for method in info.methods:
            methods.add_row(cell(method.method_name), coloured(str(method.status)), cell(method.method_id))
        shown += [line(""), methods]
    if info.tasks:
        tasks = table("OPEN TASK", "ATTEMPT", "NEXT AT", "LAST FAILURE", "ID")
        for task in info.tasks:
            tasks.add_row(*map(cell, (task.task, task.attempt, task.due, task.failure, task.task_id)))
        shown += [line(""), tasks]
        more = info.open_tasks - len(info.tasks)
        shown += [line(f"and {more:,} more", "dim")] if more > 0 else []
    shown += [line(""), *(line(f"Note: {each}", "yellow") for each in info.notes)] if info.notes else []
    return shown
