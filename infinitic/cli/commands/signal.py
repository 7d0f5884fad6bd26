"""``infinitic signal``: send a signal to a workflow that runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer

from infinitic.cli.connection import Connection, run_connected, wait_for_answer
from infinitic.cli.error_handling import exit_on_error
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
from infinitic.cli.parsing import decode_input, parse_json, parse_metadata
from infinitic.cli.send_report import SendReport, render_send_report
from infinitic.cli.targets import TagOption, find_addressee, find_name
from infinitic.codec.values import value_codec
from infinitic.definitions.workflow_spec import spec_of
from infinitic.definitions.workflows import Workflow
from infinitic.errors import UsageError

MetaOption = Annotated[
    list[str], typer.Option("--meta", metavar="KEY=VALUE", help="Metadata that is kept beside the signal.")
]


def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[ID] CHANNEL",
            help="The id of the workflow, unless --tag is given, and the name of the channel.",
            parser=parse_text,
        ),
    ],
    value: Annotated[str, typer.Option("--input", metavar="JSON", help="The value, in JSON.")],
    workflow: WorkflowNameOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Send the value as it is, without checking it.")] = False,
    meta: MetaOption = [],  # noqa: B006 (typer copies it)
    tag: TagOption = None,
    confirm: ConfirmOption = False,
    timeout: AnswerTimeoutOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Send a signal. It is checked first if the configuration has the class of the workflow."""

    with exit_on_error():
        *ids, channel = words
        if len(ids) != (0 if tag is not None else 1):
            raise UsageError("Give the ID of a workflow and the name of a channel; or --tag TAG and the channel")

    async def action(connection: Connection) -> SendReport:
        return await signal(
            connection,
            workflow,
            ids[0] if ids else None,
            channel,
            value,
            tag=tag,
            raw=raw,
            meta=meta,
            confirm=confirm,
            timeout=timeout,
        )

    show(run_connected(config, action), as_json, render_send_report)


async def signal(
    connection: Connection,
    name: str | None,
    workflow_id: str | None,
    channel: str,
    value: str,
    *,
    tag: str | None = None,
    raw: bool = False,
    meta: Sequence[str] = (),
    confirm: bool = False,
    timeout: float = ANSWER_SECONDS,
) -> SendReport:
    """Send a signal.

    Args:
        connection: the connection of the command.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance; None if a tag is given.
        channel: the name of the channel.
        value: the value, in JSON.
        tag: send it to all instances with this tag instead.
        raw: send the value without checking it with the class of the workflow.
        meta: the values of ``--meta``.
        confirm: wait until the engine has applied the signal.
        timeout: how long to wait for that, in seconds.

    Raises:
        UsageError: the value is not JSON, or the class has no such channel or takes other values.
        NoAnswer: the engine does not answer.
    """
    parse_json("--input", value)
    data = value.encode()
    name = await find_name(connection, name, workflow_id, tag, confirm=confirm)
    cls = None if raw else connection.project.import_newest(name)
    if cls is not None:
        data = _encode_value(cls, channel, data)
    to = await find_addressee(connection, name, workflow_id, tag, confirm=confirm)
    sending = connection.client.signal(to.target, channel, data, confirm=confirm, meta=parse_metadata(meta))
    stalled = await wait_for_answer(connection, to.workflow_name, sending, timeout)
    applied = confirm and stalled is None
    return SendReport("signal", to.workflow_id, to.workflow_name, applied, stalled, to.tag)


def _encode_value(cls: type[Workflow], channel: str, data: bytes) -> bytes:
    """Check a value, and encode it as a client in Python does."""
    spec = spec_of(cls)
    if channel not in spec.channels:
        known = ", ".join(sorted(spec.channels)) or "none"
        raise UsageError(f"The workflow {spec.name} has no channel '{channel}'; its channels are: {known}")
    codec = value_codec(cast(Any, spec.channels[channel]).hint())
    return codec.encode(decode_input(codec.decode, data))
