"""``infinitic retry``: have stalled workflows run again, with today's code."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.exits import exit_codes
from infinitic.cli.link import ANSWER_SECONDS, Link, Timeout, WorkflowName, answered, exits, run, within
from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.cli.output import Json, line, show
from infinitic.cli.values import text
from infinitic.errors import InfiniticError, UsageError
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import Flag, Query

PAGE = 500


class Retried(msgspec.Struct):
    """What was asked to run again. `stalled` is why it still does not, as far as that is known yet."""

    workflows: list[str]
    workflow_name: str
    stalled: str | None = None


def command(
    workflow_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The id of a stalled workflow.", parser=text)
    ] = None,
    workflow: WorkflowName = None,
    stalled: Annotated[bool, typer.Option("--stalled", help="All stalled workflows of the name --workflow.")] = False,
    timeout: Timeout = ANSWER_SECONDS,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Have a stalled workflow run again, with the code that workers have now. Tasks do not run again."""
    with exits():
        if (workflow_id is None) is not stalled:
            raise UsageError("Say what to retry: the ID of a workflow, or --stalled --workflow NAME")
        if stalled and workflow is None:
            raise UsageError("--stalled needs --workflow NAME")

    async def verb(link: Link) -> Retried:
        if workflow_id is None:
            return await retry_stalled(link, str(workflow), timeout)
        return await retry(link, workflow, workflow_id, timeout)

    retried = run(config, verb)
    show(retried, as_json, _render)
    with exit_codes():
        if retried.stalled is not None:
            raise InfiniticError(f"It is stalled again: {retried.stalled}")


async def retry(link: Link, name: str | None, workflow_id: str, timeout: float = ANSWER_SECONDS) -> Retried:
    """Retry one, and tell how it is then. Raises `UsageError` for one that does not run any more."""
    name = await link.name_of(name, workflow_id)
    stub = await link.instance(name, workflow_id)
    info = await answered(link, name, link.client.describe(stub), timeout)
    if info.status is not WorkflowStatus.RUNNING:
        raise UsageError(f"Workflow {name} {workflow_id} is {info.status}: there is nothing to retry")
    if info.parked:
        raise UsageError(
            f"Workflow {name} {workflow_id} is parked: this release cannot unpark it; keep its dead letters"
        )
    if info.stalled is None:
        raise UsageError(f"Workflow {name} {workflow_id} is not stalled: there is nothing to retry")
    await answered(link, name, link.client.retry_workflow_task(stub, confirm=True), timeout)
    info = await answered(link, name, link.client.describe(stub), timeout)
    return Retried([workflow_id], name, info.stalled)


async def retry_stalled(link: Link, name: str, timeout: float = ANSWER_SECONDS) -> Retried:
    """Retry all instances of a name that the storage has as stalled. Their workers apply it when they get to it."""
    if link.storage is None:
        raise UsageError("The configuration has no storage: --stalled finds workflows there")
    retried = Retried([], name)
    query = Query(name, flag=Flag.STALLED, limit=PAGE)
    while True:
        page = await link.storage.states.find(query)
        for found in page.found:
            async with within(timeout, "The broker did not take the message"):
                await link.client.retry_workflow_task(link.stub(name, found.key.id))
            retried.workflows.append(found.key.id)
        if page.cursor is None:
            return retried
        query = msgspec.structs.replace(query, cursor=page.cursor)


def _render(retried: Retried) -> list[RenderableType]:
    count = len(retried.workflows)
    return [line(f"{count:,} of {retried.workflow_name} {'is' if count == 1 else 'are'} run again.")]
