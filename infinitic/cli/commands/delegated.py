"""``infinitic complete-task`` and ``infinitic fail-task``: end a delegated task."""

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
    parse_text,
)
from infinitic.cli.output import show
from infinitic.cli.parsing import parse_json
from infinitic.cli.send_report import SendReport, render_send_report
from infinitic.messages.delegated import read_delegation_token

TokenArgument = Annotated[
    str,
    typer.Argument(metavar="TOKEN", help="The token of the task, as the task has given it away.", parser=parse_text),
]


def complete(
    token: TokenArgument,
    value: Annotated[str, typer.Option("--value", metavar="JSON", help="The result, in JSON.")] = "null",
    confirm: ConfirmOption = False,
    timeout: AnswerTimeoutOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Complete a delegated task: its workflow gets the value, and goes on."""

    async def action(connection: Connection) -> SendReport:
        return await complete_task(connection, token, value, confirm=confirm, timeout=timeout)

    show(run_connected(config, action), as_json, render_send_report)


def fail(
    token: TokenArgument,
    message: Annotated[str, typer.Option("--message", help="What is wrong, for people.", parser=parse_text)],
    confirm: ConfirmOption = False,
    timeout: AnswerTimeoutOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Have a delegated task fail, for good: its workflow gets TaskFailedError."""

    async def action(connection: Connection) -> SendReport:
        return await fail_task(connection, token, message, confirm=confirm, timeout=timeout)

    show(run_connected(config, action), as_json, render_send_report)


async def complete_task(
    connection: Connection, token: str, value: str, *, confirm: bool = False, timeout: float = ANSWER_SECONDS
) -> SendReport:
    """Complete a delegated task.

    Args:
        connection: the connection of the command.
        token: the token of the task.
        value: its result, in JSON. It is sent as it is: a configuration need not have the service.
        confirm: wait until the engine has taken it.
        timeout: how long to wait for that, in seconds.

    Raises:
        UsageError: it is no token, or the value is no JSON.
        NoAnswer: the engine does not answer.
    """
    parse_json("--value", value)
    task = read_delegation_token(token)
    sending = connection.client.send_completion(task, value.encode(), confirm=confirm)
    stalled = await wait_for_answer(connection, task.workflow_name, sending, timeout)
    applied = confirm and stalled is None
    return SendReport("complete-task", task.workflow_id, task.workflow_name, applied, stalled)


async def fail_task(
    connection: Connection, token: str, message: str, *, confirm: bool = False, timeout: float = ANSWER_SECONDS
) -> SendReport:
    """Have a delegated task fail.

    Args:
        connection: the connection of the command.
        token: the token of the task.
        message: what is wrong, for people.
        confirm: wait until the engine has taken it.
        timeout: how long to wait for that, in seconds.

    Raises:
        UsageError: it is no token.
        NoAnswer: the engine does not answer.
    """
    task = read_delegation_token(token)
    sending = connection.client.fail_delegated_task(token, message, confirm=confirm)
    stalled = await wait_for_answer(connection, task.workflow_name, sending, timeout)
    return SendReport("fail-task", task.workflow_id, task.workflow_name, confirm and stalled is None, stalled)
