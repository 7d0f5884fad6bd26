"""``infinitic result``: what the first method of a workflow returned, now or when it does."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from infinitic.cli.exits import FAILED
from infinitic.cli.link import ANSWER_SECONDS, Link, WorkflowId, WorkflowName, answered, run
from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.cli.output import Json, show
from infinitic.cli.start import Started, render_result, result_of
from infinitic.cli.values import seconds
from infinitic.client.client import WorkflowHandle
from infinitic.codec.signatures import Signature
from infinitic.definitions.workflow_spec import MethodSpec
from infinitic.errors import InfiniticError, UsageError, WorkflowUnknownError
from infinitic.messages.outcomes import WorkflowStatus


def command(
    workflow_id: WorkflowId,
    workflow: WorkflowName = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until there is a result.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", parser=seconds, metavar="SECONDS", help="How long to wait, with --wait."),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Print the result of a workflow as JSON. It can be fetched until the retention of the workflow ends."""

    async def verb(link: Link) -> Started:
        return await result(link, workflow, workflow_id, wait=wait, timeout=timeout)

    ended = run(config, verb)
    if as_json or ended.result is not msgspec.UNSET:
        show(ended, as_json, render_result)
    if ended.error:
        typer.echo(f"Error: {ended.error}", err=True)
        raise typer.Exit(FAILED)


async def result(
    link: Link, name: str | None, workflow_id: str, *, wait: bool = False, timeout: float | None = None
) -> Started:
    """The result of an instance. Without `wait`, one that is not there yet is an error in what is returned."""
    if timeout is not None and not wait:
        raise UsageError("--timeout goes with --wait")
    name = await link.name_of(name, workflow_id)
    stub = await link.instance(name, workflow_id)
    info = await answered(link, name, link.client.describe(stub))
    held = f"; it is stalled: {info.stalled}" if info.stalled else ""
    if not info.methods:
        if not held:
            raise WorkflowUnknownError(name, "", workflow_id)
        raise InfiniticError(f"Nobody can tell now what workflow {name} {workflow_id} returns{held}")
    method = info.methods[0]
    new = Started(workflow_id, name, method.method_name)
    if not wait and method.status is WorkflowStatus.RUNNING:
        error = f"Workflow {name} {workflow_id} has no result yet{held}; --wait waits for it"
        return msgspec.structs.replace(new, status="running", error=error)
    spec = MethodSpec(method.method_name, method.method_name, Signature.of(_returns_anything, skip_first=False), None)
    handle = WorkflowHandle[Any](link.client, stub, spec, workflow_id, method.method_id)
    ended = await result_of(handle, spec, new, timeout if wait else ANSWER_SECONDS)
    if ended.status != "running" or not held:
        return ended
    return msgspec.structs.replace(ended, error=ended.error.removesuffix("; it runs on") + held)


async def _returns_anything() -> Any:
    """Its signature stands for that of a method whose class is not here."""
