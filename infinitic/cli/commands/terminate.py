"""``infinitic terminate``: close a workflow at once."""

from __future__ import annotations

from typing import Annotated

import typer

from infinitic.cli.connection import Connection, run_connected, wait_for_answer
from infinitic.cli.options import (
    ANSWER_SECONDS,
    DEFAULT_CONFIG,
    AnswerTimeoutOption,
    ConfigOption,
    ConfirmOption,
    JsonOption,
    WorkflowNameOption,
    parse_text,
)
from infinitic.cli.output import show
from infinitic.cli.send_report import SendReport, render_send_report
from infinitic.cli.targets import OptionalIdArgument, TagOption, find_addressee


def command(
    workflow_id: OptionalIdArgument = None,
    workflow: WorkflowNameOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for people.", parser=parse_text)] = "",
    tag: TagOption = None,
    confirm: ConfirmOption = False,
    timeout: AnswerTimeoutOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Close a workflow at once, also a stalled or parked one. Its code cannot clean up."""

    async def action(connection: Connection) -> SendReport:
        return await terminate(
            connection, workflow, workflow_id, tag=tag, reason=reason, confirm=confirm, timeout=timeout
        )

    show(run_connected(config, action), as_json, render_send_report)


async def terminate(
    connection: Connection,
    name: str | None,
    workflow_id: str | None,
    *,
    tag: str | None = None,
    reason: str = "",
    confirm: bool = False,
    timeout: float = ANSWER_SECONDS,
) -> SendReport:
    """Ask the engine to close an instance at once.

    Args:
        connection: the connection of the command.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance; None if a tag is given.
        tag: ask all instances with this tag instead.
        reason: why, for people.
        confirm: wait until the engine has closed it.
        timeout: how long to wait for that, in seconds.

    Raises:
        NoAnswer: the engine does not answer.
    """
    to = await find_addressee(connection, name, workflow_id, tag, confirm=confirm)
    sending = connection.client.terminate(to.target, reason=reason, confirm=confirm)
    await wait_for_answer(connection, to.workflow_name, sending, timeout)
    return SendReport("terminate", to.workflow_id, to.workflow_name, confirm, tag=to.tag)
