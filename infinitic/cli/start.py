"""``infinitic start``: start a workflow, and wait for its result if asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.exits import FAILED
from infinitic.cli.link import DEFAULT_CONFIG, Config, Link, run
from infinitic.cli.output import Json, line, show
from infinitic.cli.values import arguments, checked, imported, metadata, method_of
from infinitic.client import WorkflowHandle
from infinitic.clock import to_seconds
from infinitic.errors import DeferredError, UsageError, WorkflowCanceledError, WorkflowFailedError
from infinitic.replay.spec import MethodSpec
from infinitic.workflows import Workflow

_WRAP = "; to pass one object or array as the only argument, write it inside an array: --input '[…]'"

Target = Annotated[str, typer.Argument(help="module:Class.method, or Name.method of a workflow in the configuration.")]
Input = Annotated[
    list[str],
    typer.Option("--input", help="Arguments: one JSON array, one JSON object of keywords, or once for each argument."),
]
Meta = Annotated[list[str], typer.Option("--meta", help="key=value that the workflow finds in its context.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the result, and print it.")]
Limit = Annotated[float | None, typer.Option("--timeout", min=0.001, help="Seconds to wait for the result.")]


class Started(msgspec.Struct, omit_defaults=True):
    """What has become of a start. `status` and what follows only after waiting; "running" if that took too long."""

    workflow_id: str
    workflow_name: str
    method_name: str
    status: str = ""
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: str = ""


def command(
    target: Target,
    inputs: Input = [],  # noqa: B006 (typer copies it)
    meta: Meta = [],  # noqa: B006
    wait: Wait = False,
    timeout: Limit = None,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Start a workflow. Arguments are checked by its type hints before anything is sent."""

    def started(new: Started) -> None:
        if wait and not as_json:
            show(new, False, _render)  # at once: the wait may be long, or cut off

    async def verb(link: Link) -> Started:
        return await start(link, target, inputs, meta=meta, wait=wait, timeout=timeout, started=started)

    ended = run(config, verb)
    if as_json or not wait:
        show(ended, as_json, _render)
    elif ended.result is not msgspec.UNSET:
        show(ended, False, _render_result)
    if ended.error:
        typer.echo(f"Error: {ended.error}", err=True)
        raise typer.Exit(FAILED)


async def start(
    link: Link,
    target: str,
    inputs: Sequence[str],
    *,
    meta: Sequence[str] = (),
    wait: bool = False,
    timeout: float | None = None,
    started: Callable[[Started], None] | None = None,
) -> Started:
    """Start what `target` names. `started` is called with what is known before the wait."""
    if timeout is not None and not wait:
        raise UsageError("--timeout goes with --wait")
    cls, name = _resolve(link, target)
    spec, method = method_of(cls, name)
    hint = _WRAP if len(inputs) == 1 and inputs[0].lstrip()[:1] in ("{", "[") else ""
    args, kwargs = checked(method.signature.decode_arguments, arguments(inputs), hint)
    stub = link.client.new_workflow(cls, meta=metadata(meta))
    handle = await link.client.dispatch(getattr(stub, method.attribute), *args, **kwargs)
    new = Started(handle.workflow_id, spec.name, method.name)
    if started is not None:
        started(new)
    return await _result(handle, method, new, timeout) if wait else new


def _resolve(link: Link, target: str) -> tuple[type[Workflow], str]:
    owner, _, name = target.rpartition(".")
    if not owner or not name:
        raise UsageError(f"{target!r} names no method: write module:Class.method, or Name.method")
    if ":" in target:
        return imported(owner), name
    cls = link.project.workflow(owner)
    if cls is None:
        raise UsageError(f"There is no workflow '{owner}' in the configuration: write module:Class.method")
    return cls, name


async def _result(handle: WorkflowHandle[Any], method: MethodSpec, new: Started, timeout: float | None) -> Started:
    try:
        value = await handle.result(None if timeout is None else to_seconds(timeout))
    except TimeoutError:
        return msgspec.structs.replace(
            new, status="running", error=f"No result within {timeout:g} s; workflow {new.workflow_id} runs on"
        )
    except DeferredError as error:
        return msgspec.structs.replace(new, status=_status(error), error=str(error))
    return msgspec.structs.replace(new, status="completed", result=msgspec.Raw(method.signature.encode_result(value)))


def _status(error: DeferredError) -> str:
    match error:
        case WorkflowFailedError():
            return "failed"
        case WorkflowCanceledError():
            return "canceled"
        case _:
            return "unknown"


def _render(new: Started) -> list[RenderableType]:
    return [line(new.workflow_id)]


def _render_result(ended: Started) -> list[RenderableType]:
    assert isinstance(ended.result, msgspec.Raw)
    return [line(msgspec.json.format(bytes(ended.result), indent=2).decode())]
