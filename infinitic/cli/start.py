"""``infinitic start``: start a workflow, and wait for its result if asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli import hints
from infinitic.cli.exits import FAILED
from infinitic.cli.link import ANSWER_SECONDS, Link, run, warnings_shown, within
from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.cli.output import Json, line, show
from infinitic.cli.values import arguments, checked, imported, metadata, seconds
from infinitic.client.client import WorkflowHandle
from infinitic.definitions.workflow_spec import MethodSpec, spec_of
from infinitic.definitions.workflows import Workflow
from infinitic.errors import ConfigurationError, DeferredError, UsageError, WorkflowCanceledError, WorkflowFailedError

Target = Annotated[str, typer.Argument(help="module:Class.method, or Name.method of a workflow in the configuration.")]
Input = Annotated[
    list[str],
    typer.Option("--input", help="Arguments: one JSON array, one JSON object of keywords, or once for each argument."),
]
Meta = Annotated[list[str], typer.Option("--meta", help="key=value that the workflow finds in its context.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the result, and print it.")]
Limit = Annotated[
    float | None,
    typer.Option("--timeout", parser=seconds, metavar="SECONDS", help="How long to wait for the result, with --wait."),
]


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

    more = [*(["--wait"] if wait else []), *([] if config == DEFAULT_CONFIG else ["--config", str(config)])]

    async def verb(link: Link) -> Started:
        return await start(link, target, inputs, meta=meta, wait=wait, timeout=timeout, started=started, more=more)

    ended = run(config, verb)
    if as_json or not wait:
        show(ended, as_json, _render)
    elif ended.result is not msgspec.UNSET:
        show(ended, False, render_result)
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
    more: Sequence[str] = (),
) -> Started:
    """Start what `target` names. `started` is called with what is known before the wait.

    Raises `UsageError` for what does not fit, with a corrected command that has `more` at its end.
    """
    if timeout is not None and not wait:
        raise UsageError("--timeout goes with --wait")
    owner, cls, name = _resolve(link, target, inputs, more)
    spec = spec_of(cls)
    method = spec.attributes.get(name) or spec.methods.get(name)
    if method is None:
        known = sorted(spec.attributes)
        close = [f"{owner}.{each}" for each in get_close_matches(name, known, 1) or (known if len(known) == 1 else [])]
        message = f"The workflow {spec.name} has no method '{name}'; it has {', '.join(known)}"
        raise UsageError(_corrected(message, close, inputs, more))
    try:
        args, kwargs = checked(method.signature.decode_arguments, arguments(inputs))
    except UsageError as error:
        fitting = hints.fitting(cls, method, inputs)
        targets = [] if fitting is None else [target]
        raise UsageError(_corrected(str(error), targets, fitting or (), more)) from error.__cause__
    stub = link.client.new_workflow(cls, meta=metadata(meta))
    async with within(ANSWER_SECONDS, "The broker did not take the message"):
        handle = await link.client.dispatch(getattr(stub, method.attribute), *args, **kwargs)
    new = Started(handle.workflow_id, spec.name, method.name)
    if started is not None:
        started(new)
    return await result_of(handle, method, new, timeout) if wait else new


def _resolve(link: Link, target: str, inputs: Sequence[str], more: Sequence[str]) -> tuple[str, type[Workflow], str]:
    """Whose method is meant as it was written, the class, and the name of the method."""
    owner, _, name = target.rpartition(".")
    if not owner or not name:
        every = [f"{target}.{each}" for each in _methods(link, target)]
        message = f"{target!r} names no method: write module:Class.method, or Name.method"
        raise UsageError(_corrected(message, every[:1], inputs, more))
    if ":" in target:
        return owner, imported(owner), name
    cls = link.project.workflow(owner)
    if cls is None:
        close = [f"{each}.{name}" for each in get_close_matches(owner, link.project.workflows, 1)]
        message = f"There is no workflow '{owner}' in the configuration: write module:Class.method"
        if owner in link.project.services:
            message = f"'{owner}' is a service: its tasks are called by workflows, and not started from outside"
        raise UsageError(_corrected(message, close, inputs, more))
    return owner, cls, name


def _methods(link: Link, owner: str) -> list[str]:
    """The methods of a workflow of the configuration; none if there is no such one, or it cannot be imported."""
    try:
        cls = link.project.workflow(owner)
    except ConfigurationError:
        return []
    return [] if cls is None else sorted(spec_of(cls).attributes)


def _corrected(message: str, targets: Sequence[str], inputs: Sequence[str], more: Sequence[str]) -> str:
    return "; try: ".join([message, *(hints.start_line(each, inputs, more) for each in targets[:1])])


async def result_of(handle: WorkflowHandle[Any], method: MethodSpec, new: Started, timeout: float | None) -> Started:
    """Wait for a result, at most `timeout` seconds. What goes wrong meanwhile is told on stderr."""
    try:
        with warnings_shown():
            value = await handle.result(timeout)
    except TimeoutError as error:
        return msgspec.structs.replace(new, status="running", error=str(error))
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


def render_result(ended: Started) -> list[RenderableType]:
    """The result as indented JSON."""
    assert isinstance(ended.result, msgspec.Raw)
    return [line(msgspec.json.format(bytes(ended.result), indent=2).decode())]
