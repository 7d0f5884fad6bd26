"""``infinitic signal`` and ``infinitic cancel``: what people do to a workflow that runs."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.link import ANSWER_SECONDS, Confirm, Link, Timeout, WorkflowId, WorkflowName, answered, run
from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.cli.output import Json, line, show
from infinitic.cli.values import checked, parsed, text
from infinitic.codec.values import value_codec
from infinitic.definitions.workflow_spec import spec_of
from infinitic.definitions.workflows import Workflow
from infinitic.errors import UsageError


class Sent(msgspec.Struct, omit_defaults=True):
    """What was sent. `applied`: the engine has confirmed it; else the broker has it.

    `stalled` is why it takes effect later only: the engine has it, and the workflow is stalled for this reason.
    """

    what: str
    workflow_id: str
    workflow_name: str
    applied: bool
    stalled: str | None = None


def signal_command(
    workflow_id: WorkflowId,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="The name of the channel.", parser=text)],
    value: Annotated[str, typer.Option("--input", metavar="JSON", help="The value, in JSON.")],
    workflow: WorkflowName = None,
    raw: Annotated[bool, typer.Option("--raw", help="Send it as it is: do not check it with the class.")] = False,
    confirm: Confirm = False,
    timeout: Timeout = ANSWER_SECONDS,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Send a signal. If the configuration has the class of the workflow, channel and value are checked with it."""

    async def verb(link: Link) -> Sent:
        return await signal(link, workflow, workflow_id, channel, value, raw=raw, confirm=confirm, timeout=timeout)

    show(run(config, verb), as_json, _render)


async def signal(
    link: Link,
    name: str | None,
    workflow_id: str,
    channel: str,
    value: str,
    *,
    raw: bool = False,
    confirm: bool = False,
    timeout: float = ANSWER_SECONDS,
) -> Sent:
    """Send a value that is JSON text."""
    parsed("--input", value)
    data = value.encode()
    name = await link.name_of(name, workflow_id)
    cls = None if raw else link.project.workflow(name)
    if cls is not None:
        data = _fitting(cls, channel, data)
    stub = await link.instance(name, workflow_id)
    stalled = await answered(link, name, link.client.signal(stub, channel, data, confirm=confirm), timeout)
    return Sent("signal", workflow_id, name, confirm and stalled is None, stalled)


def _fitting(cls: type[Workflow], channel: str, data: bytes) -> bytes:
    """The value as the workflow's own client would send it."""
    spec = spec_of(cls)
    if channel not in spec.channels:
        raise UsageError(
            f"The workflow {spec.name} has no channel '{channel}'; it has {', '.join(sorted(spec.channels)) or 'none'}"
        )
    codec = value_codec(cast(Any, spec.channels[channel]).hint())
    return codec.encode(checked(codec.decode, data))


def cancel_command(
    workflow_id: WorkflowId,
    workflow: WorkflowName = None,
    confirm: Confirm = False,
    timeout: Timeout = ANSWER_SECONDS,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Cancel a workflow: its code sees CancelledError, and may clean up."""
    show(
        run(config, lambda link: cancel(link, workflow, workflow_id, confirm=confirm, timeout=timeout)),
        as_json,
        _render,
    )


async def cancel(
    link: Link, name: str | None, workflow_id: str, *, confirm: bool = False, timeout: float = ANSWER_SECONDS
) -> Sent:
    """Ask for a whole instance to be cancelled."""
    name = await link.name_of(name, workflow_id)
    stub = await link.instance(name, workflow_id)
    stalled = await answered(link, name, link.client.cancel(stub, confirm=confirm), timeout)
    return Sent("cancel", workflow_id, name, confirm and stalled is None, stalled)


def _render(sent: Sent) -> list[RenderableType]:
    how = "applied" if sent.applied else "sent (--confirm waits until it is applied)"
    if sent.stalled is not None:
        how = f"kept until the workflow runs again; it is stalled: {sent.stalled}"
    return [line(f"{sent.what}: {how}")]
