"""The outcome of a started workflow, for `infinitic start --wait` and `infinitic result`."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import RenderableType

from infinitic.cli.log_warnings import print_warnings
from infinitic.cli.output import make_line
from infinitic.client.client import WorkflowHandle
from infinitic.definitions.workflow_spec import MethodSpec
from infinitic.errors import DeferredError, WorkflowCanceledError, WorkflowFailedError, WorkflowTerminatedError


class StartReport(msgspec.Struct, omit_defaults=True):
    """What is known of a workflow that was started.

    Args:
        workflow_id: the id of the instance.
        workflow_name: the name of the workflow.
        method_name: the name of the method that was started.
        status: "completed", "failed", "canceled", "running" or "unknown"; empty if nobody waited.
        result: the result in JSON, if the method has completed.
        error: why there is no result.
    """

    workflow_id: str
    workflow_name: str
    method_name: str
    status: str = ""
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: str = ""


async def wait_for_result(
    handle: WorkflowHandle[Any], method: MethodSpec, report: StartReport, timeout: float | None
) -> StartReport:
    """Wait for the result of a method. Warnings of the library are printed meanwhile.

    Args:
        handle: the handle of the method.
        method: what is known of the method; its signature encodes the result.
        report: what is known so far.
        timeout: how long to wait, in seconds; None for as long as it takes.

    Returns:
        The report with a status, and with a result or an error.
    """
    try:
        with print_warnings():
            value = await handle.result(timeout)
    except TimeoutError as error:
        return msgspec.structs.replace(report, status="running", error=str(error))
    except DeferredError as error:
        return msgspec.structs.replace(report, status=_get_status(error), error=str(error))
    result = msgspec.Raw(method.signature.encode_result(value))
    return msgspec.structs.replace(report, status="completed", result=result)


def _get_status(error: DeferredError) -> str:
    match error:
        case WorkflowFailedError():
            return "failed"
        case WorkflowCanceledError():
            return "canceled"
        case WorkflowTerminatedError():
            return "terminated"
        case _:
            return "unknown"


def render_result(report: StartReport) -> list[RenderableType]:
    """Render the result of a report that has one, as indented JSON."""
    assert isinstance(report.result, msgspec.Raw)
    return [make_line(msgspec.json.format(bytes(report.result), indent=2).decode())]
