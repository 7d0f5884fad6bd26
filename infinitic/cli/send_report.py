"""The outcome of commands that send something to one instance."""

from __future__ import annotations

import msgspec
from rich.console import RenderableType

from infinitic.cli.output import make_line


class SendReport(msgspec.Struct, omit_defaults=True):
    """The outcome of sending something to an instance, or to all that have a tag.

    Args:
        what: the name of the command.
        workflow_id: the id of the instance; None: it was sent by tag.
        workflow_name: the name of its workflow.
        applied: whether the engine has applied it. If not, the broker has it.
        stalled: why it takes effect later only: the engine has it, and the instance is stalled for
            this reason.
        tag: the tag of the instances that it was sent to; None: it was sent to one.
    """

    what: str
    workflow_id: str | None
    workflow_name: str
    applied: bool
    stalled: str | None = None
    tag: str | None = None


def render_send_report(report: SendReport) -> list[RenderableType]:
    """Say in a line how far it came."""
    how = "applied" if report.applied else "sent (--confirm waits until it is applied)"
    if report.tag is not None:
        how = f"sent to all workflows with the tag {report.tag}"
    if report.stalled is not None:
        how = f"kept until the workflow runs again; it is stalled: {report.stalled}"
    return [make_line(f"{report.what}: {how}")]
