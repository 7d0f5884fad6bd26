"""``infinitic result``: the result of the first method of a workflow."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from infinitic.cli.connection import Connection, run_connected, wait_for_answer
from infinitic.cli.error_handling import print_error
from infinitic.cli.exit_codes import FAILED
from infinitic.cli.options import (
    ANSWER_SECONDS,
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    WorkflowIdArgument,
    WorkflowNameOption,
    parse_seconds,
)
from infinitic.cli.output import show
from infinitic.cli.results import StartReport, render_result, wait_for_result
from infinitic.client.client import WorkflowHandle
from infinitic.codec.signatures import Signature
from infinitic.definitions.workflow_spec import MethodSpec
from infinitic.errors import InfiniticError, UsageError, WorkflowUnknownError
from infinitic.messages.outcomes import WorkflowStatus


def command(
    workflow_id: WorkflowIdArgument,
    workflow: WorkflowNameOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until there is a result.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", parser=parse_seconds, metavar="SECONDS", help="How long to wait, with --wait."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Print the result of a workflow as JSON. It is kept until its retention ends."""

    async def action(connection: Connection) -> StartReport:
        return await fetch_result(connection, workflow, workflow_id, wait=wait, timeout=timeout)

    report = run_connected(config, action)
    if as_json or report.result is not msgspec.UNSET:
        show(report, as_json, render_result)
    if report.error:
        print_error(report.error)
        raise typer.Exit(FAILED)


async def fetch_result(
    connection: Connection,
    name: str | None,
    workflow_id: str,
    *,
    wait: bool = False,
    timeout: float | None = None,
) -> StartReport:
    """Fetch the result of the first method of an instance.

    Args:
        connection: the connection of the command.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance.
        wait: wait until there is a result. Otherwise the report has an error if there is none yet.
        timeout: how long to wait, in seconds; None for as long as it takes.

    Raises:
        WorkflowUnknownError: there is no such instance.
        UsageError: a timeout is given without `wait`.
        NoAnswer: the engine does not answer.
    """
    if timeout is not None and not wait:
        raise UsageError("--timeout has a meaning only together with --wait")
    name = await connection.find_workflow_name(name, workflow_id)
    target = await connection.get_target(name, workflow_id)
    info = await wait_for_answer(connection, name, connection.client.describe(target))
    why_stalled = f"; it is stalled: {info.stalled}" if info.stalled else ""
    if not info.methods:
        if not why_stalled:
            raise WorkflowUnknownError(name, "", workflow_id)
        raise InfiniticError(f"The result of workflow {name} {workflow_id} cannot be read{why_stalled}")
    method = info.methods[0]
    report = StartReport(workflow_id, name, method.method_name)
    if not wait and method.status is WorkflowStatus.RUNNING:
        error = f"Workflow {name} {workflow_id} has no result yet{why_stalled}; --wait waits for it"
        return msgspec.structs.replace(report, status="running", error=error)
    spec = MethodSpec(method.method_name, method.method_name, Signature.of(_return_anything, skip_first=False), None)
    handle = WorkflowHandle[Any](connection.client, target, spec, workflow_id, method.method_id)
    report = await wait_for_result(handle, spec, report, timeout if wait else ANSWER_SECONDS)
    if report.status != "running" or not why_stalled:
        return report
    return msgspec.structs.replace(report, error=report.error.removesuffix("; it runs on") + why_stalled)


async def _return_anything() -> Any:
    """Stands for a method whose class is not here: only its signature is used."""
