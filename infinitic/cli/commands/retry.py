"""``infinitic retry``: run stalled workflows again with the code of today, or failed tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.connection import Connection, limit_time, run_connected, wait_for_answer
from infinitic.cli.error_handling import exit_on_error
from infinitic.cli.options import (
    ANSWER_SECONDS,
    DEFAULT_CONFIG,
    AnswerTimeoutOption,
    ConfigOption,
    JsonOption,
    WorkflowNameOption,
    parse_text,
)
from infinitic.cli.output import make_line, show
from infinitic.errors import InfiniticError, RequestRefusedError, UsageError
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import Flag, Query

PAGE_SIZE = 500


class RetryReport(msgspec.Struct):
    """The outcome of a retry.

    Args:
        workflows: the ids of the instances that were asked to run again.
        workflow_name: the name of their workflow.
        stalled: why the instance stalled again; None if it did not, or if that is not known yet.
        tasks: whether failed tasks run again. Otherwise the code of the workflow does.
    """

    workflows: list[str]
    workflow_name: str
    stalled: str | None = None
    tasks: bool = False


@dataclass(frozen=True)
class TaskConditions:
    """Which failed tasks run again, see `Client.retry_tasks`."""

    task_ids: tuple[str, ...] = ()
    status: str | None = None
    service: str | None = None
    task: str | None = None

    def __bool__(self) -> bool:
        return bool(self.task_ids or self.status or self.service or self.task)


def command(
    workflow_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The id of a stalled or failed workflow.", parser=parse_text)
    ] = None,
    workflow: WorkflowNameOption = None,
    stalled: Annotated[
        bool, typer.Option("--stalled", help="All stalled workflows with the name given by --workflow.")
    ] = False,
    task_id: Annotated[
        list[str], typer.Option("--task-id", metavar="ID", help="This failed task. Can be repeated.")
    ] = [],  # noqa: B006 (typer copies it)
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Failed tasks that are failed, or timed_out.")
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", metavar="NAME", help="Failed tasks of this service.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="NAME", help="Failed tasks of this name.")] = None,
    code: Annotated[
        bool, typer.Option("--code", help="The code of a failed workflow, with what is deployed today.")
    ] = False,
    timeout: AnswerTimeoutOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Run a stalled or failed workflow, or failed tasks again. Completed tasks do not run again."""
    conditions = TaskConditions(tuple(task_id), status, service, task)
    with exit_on_error():
        if (workflow_id is None) is not stalled:
            raise UsageError("Say what to retry: the ID of a workflow, or --stalled --workflow NAME")
        if stalled and workflow is None:
            raise UsageError("--stalled needs --workflow NAME")
        if stalled and conditions:
            raise UsageError("--stalled runs code again. Failed tasks run again by the ID of their workflow")
        if code and (stalled or conditions):
            raise UsageError("--code runs the code of one workflow again: give its ID, and nothing about tasks")

    async def action(connection: Connection) -> RetryReport:
        if workflow_id is None:
            return await retry_stalled(connection, str(workflow), timeout)
        return await retry(connection, workflow, workflow_id, timeout, conditions, code=code)

    report = run_connected(config, action)
    show(report, as_json, _render)
    with exit_on_error():
        if report.stalled is not None:
            raise InfiniticError(f"It is stalled again: {report.stalled}")


async def retry(
    connection: Connection,
    name: str | None,
    workflow_id: str,
    timeout: float = ANSWER_SECONDS,
    conditions: TaskConditions = TaskConditions(),
    *,
    code: bool = False,
) -> RetryReport:
    """Run one stalled instance again, or failed tasks, and report whether it stalls again.

    Args:
        connection: the connection of the command.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance.
        timeout: how long to wait for each answer of the engine, in seconds.
        conditions: which failed tasks run again. If there are none, those of a failed instance do
            or, if that is refused, its code, and the code of a stalled one.
        code: whether the code of a failed instance runs again, and not its tasks.

    Raises:
        UsageError: the instance is parked, or there is nothing to retry.
        RequestRefusedError: these tasks, or this code, cannot run again.
        NoAnswer: the engine does not answer.
    """
    name = await connection.find_workflow_name(name, workflow_id)
    target = await connection.get_target(name, workflow_id)
    client = connection.client
    info = await wait_for_answer(connection, name, client.describe(target), timeout)
    if info.parked:
        raise UsageError(
            f"Workflow {name} {workflow_id} is parked. To have it take its messages again: "
            f"infinitic dead-letters replay {workflow_id} --workflow {name}"
        )
    failed = info.status is WorkflowStatus.FAILED
    if conditions or (failed and not code):
        request = client.retry_tasks(
            target,
            task_id=conditions.task_ids,
            status=conditions.status,
            service=conditions.service,
            task=conditions.task,
        )
        try:
            await wait_for_answer(connection, name, request, timeout)
        except RequestRefusedError as refused:
            if conditions:
                raise
            return await _retry_failed_code(connection, name, workflow_id, timeout, refused)
        return RetryReport([workflow_id], name, tasks=True)
    if failed:
        return await _retry_failed_code(connection, name, workflow_id, timeout, None)
    if info.status is not WorkflowStatus.RUNNING:
        raise UsageError(f"Workflow {name} {workflow_id} is {info.status}: there is nothing to retry")
    if info.stalled is None:
        raise UsageError(
            f"Workflow {name} {workflow_id} is not stalled: there is nothing to retry. To run failed tasks of "
            "it again, name them by --task-id, --status, --service or --task"
        )
    await wait_for_answer(connection, name, client.retry_workflow_task(target, confirm=True), timeout)
    info = await wait_for_answer(connection, name, client.describe(target), timeout)
    return RetryReport([workflow_id], name, info.stalled)


async def _retry_failed_code(
    connection: Connection, name: str, workflow_id: str, timeout: float, refused: RequestRefusedError | None
) -> RetryReport:
    """Run the code of a failed instance again. `refused` says why its tasks cannot."""
    target = await connection.get_target(name, workflow_id)
    request = connection.client.retry_workflow_task(target, confirm=True)
    try:
        stalled = await wait_for_answer(connection, name, request, timeout)
    except RequestRefusedError as error:
        if refused is None:
            raise
        reason = f"{error.reason}. As to its failed tasks: {refused.reason}"
        raise RequestRefusedError(name, error.method_name, workflow_id, reason) from refused
    return RetryReport([workflow_id], name, stalled)


async def retry_stalled(connection: Connection, name: str, timeout: float = ANSWER_SECONDS) -> RetryReport:
    """Run all stalled instances of a workflow again. It does not wait until workers have done so.

    Args:
        connection: the connection of the command.
        name: the name of the workflow.
        timeout: how long to wait until the broker has taken each message, in seconds.

    Raises:
        UsageError: the configuration has no storage.
        TransportUnavailable: the broker does not take a message.
    """
    if connection.storage is None:
        raise UsageError("The configuration has no storage, where --stalled finds workflows: add the key storage")
    report = RetryReport([], name)
    query = Query(name, flag=Flag.STALLED, limit=PAGE_SIZE)
    while True:
        page = await connection.storage.states.find(query)
        for found in page.found:
            async with limit_time(timeout, "The broker did not take the message"):
                await connection.client.retry_workflow_task(connection.make_target(name, found.key.id))
            report.workflows.append(found.key.id)
        if page.cursor is None:
            return report
        query = msgspec.structs.replace(query, cursor=page.cursor)


def _render(report: RetryReport) -> list[RenderableType]:
    if report.tasks:
        return [make_line(f"Failed tasks of {report.workflow_name} {report.workflows[0]} run again.")]
    count = len(report.workflows)
    noun, verb = ("workflow", "is") if count == 1 else ("workflows", "are")
    return [make_line(f"{count:,} {noun} of {report.workflow_name} {verb} run again.")]
