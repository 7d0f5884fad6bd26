"""``infinitic cancel``: cancel a workflow that runs."""

from __future__ import annotations

from infinitic.cli.connection import Connection, run_connected, wait_for_answer
from infinitic.cli.options import (
    ANSWER_SECONDS,
    DEFAULT_CONFIG,
    AnswerTimeoutOption,
    ConfigOption,
    ConfirmOption,
    JsonOption,
    MethodIdOption,
    WorkflowNameOption,
)
from infinitic.cli.output import show
from infinitic.cli.send_report import SendReport, render_send_report
from infinitic.cli.targets import OptionalIdArgument, TagOption, find_addressee


def command(
    workflow_id: OptionalIdArgument = None,
    workflow: WorkflowNameOption = None,
    method: MethodIdOption = None,
    tag: TagOption = None,
    confirm: ConfirmOption = False,
    timeout: AnswerTimeoutOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Cancel a workflow. CancelledError is raised in its code, which may clean up."""

    async def action(connection: Connection) -> SendReport:
        return await cancel(
            connection, workflow, workflow_id, tag=tag, method_id=method, confirm=confirm, timeout=timeout
        )

    show(run_connected(config, action), as_json, render_send_report)


async def cancel(
    connection: Connection,
    name: str | None,
    workflow_id: str | None,
    *,
    tag: str | None = None,
    method_id: str | None = None,
    confirm: bool = False,
    timeout: float = ANSWER_SECONDS,
) -> SendReport:
    """Ask the engine to cancel an instance with all its methods, or one of them.

    Args:
        connection: the connection of the command.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance; None if a tag is given.
        tag: ask all instances with this tag instead.
        method_id: the id of the method; None: all of them.
        confirm: wait until the engine has applied it.
        timeout: how long to wait for that, in seconds.

    Raises:
        NoAnswer: the engine does not answer.
    """
    to = await find_addressee(connection, name, workflow_id, tag, confirm=confirm)
    sending = connection.client.cancel(to.target, method_id=method_id, confirm=confirm)
    stalled = await wait_for_answer(connection, to.workflow_name, sending, timeout)
    return SendReport("cancel", to.workflow_id, to.workflow_name, confirm and stalled is None, stalled, to.tag)
