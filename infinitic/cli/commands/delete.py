"""``infinitic delete``: remove a closed workflow before its retention ends."""

from __future__ import annotations

from typing import Annotated

import typer

from infinitic.cli.connection import Connection, run_connected, wait_for_answer
from infinitic.cli.options import (
    ANSWER_SECONDS,
    DEFAULT_CONFIG,
    AnswerTimeoutOption,
    ConfigOption,
    JsonOption,
    WorkflowNameOption,
    parse_text,
)
from infinitic.cli.output import show
from infinitic.cli.send_report import SendReport, render_send_report


def command(
    workflow_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the workflow.", parser=parse_text)],
    workflow: WorkflowNameOption = None,
    timeout: AnswerTimeoutOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Remove a closed workflow now, with its history and result. One that runs is left alone."""

    async def action(connection: Connection) -> SendReport:
        return await delete(connection, workflow, workflow_id, timeout=timeout)

    show(run_connected(config, action), as_json, render_send_report)


async def delete(
    connection: Connection, name: str | None, workflow_id: str, *, timeout: float = ANSWER_SECONDS
) -> SendReport:
    """Have the engine remove a closed instance.

    Args:
        connection: the connection of the command.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance.
        timeout: how long to wait for the answer, in seconds.

    Raises:
        RequestRefusedError: it has not closed.
        NoAnswer: the engine does not answer.
    """
    name = await connection.find_workflow_name(name, workflow_id)
    target = await connection.get_target(name, workflow_id)
    await wait_for_answer(connection, name, connection.client.delete(target), timeout)
    return SendReport("delete", workflow_id, name, True)
