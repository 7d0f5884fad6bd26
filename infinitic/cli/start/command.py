"""``infinitic start``: start a workflow, and wait for its result if asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.connection import Connection, limit_time, run_connected
from infinitic.cli.error_handling import print_error
from infinitic.cli.exit_codes import FAILED
from infinitic.cli.options import (
    ANSWER_SECONDS,
    DEFAULT_CONFIG,
    ConfigOption,
    InputOption,
    JsonOption,
    parse_seconds,
    parse_text,
)
from infinitic.cli.output import make_line, show
from infinitic.cli.parsing import decode_input, encode_arguments, import_workflow, parse_metadata
from infinitic.cli.results import StartReport, render_result, wait_for_result
from infinitic.cli.start.corrections import find_fitting_inputs, format_start_command
from infinitic.definitions.workflow_spec import spec_of
from infinitic.definitions.workflows import Workflow
from infinitic.errors import ConfigurationError, UsageError

TargetArgument = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="module:Class.method, or Name.method of a workflow in the configuration."),
]
MetaOption = Annotated[
    list[str], typer.Option("--meta", metavar="KEY=VALUE", help="Metadata that the workflow finds in its context.")
]
TagsOption = Annotated[
    list[str],
    typer.Option("--tag", metavar="TAG", help="A tag of the workflow, once for each tag.", parser=parse_text),
]
CustomIdOption = Annotated[
    str | None,
    typer.Option(
        "--custom-id",
        metavar="TEXT",
        help="Start nothing if a workflow with this custom id runs; show that one.",
        parser=parse_text,
    ),
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for the result, and print it.")]
ResultTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", parser=parse_seconds, metavar="SECONDS", help="How long to wait for the result, with --wait."
    ),
]


def command(
    target: TargetArgument,
    inputs: InputOption = [],  # noqa: B006 (typer copies it)
    meta: MetaOption = [],  # noqa: B006 (typer copies it)
    tags: TagsOption = [],  # noqa: B006 (typer copies it)
    custom_id: CustomIdOption = None,
    wait: WaitOption = False,
    timeout: ResultTimeoutOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Start a workflow. Its arguments are checked with its type hints before anything is sent."""

    def show_id(report: StartReport) -> None:
        # At once: the wait may be long, or cut off.
        if wait and not as_json:
            show(report, False, _render_id)

    more = [*(["--wait"] if wait else []), *([] if config == DEFAULT_CONFIG else ["--config", str(config)])]

    async def action(connection: Connection) -> StartReport:
        return await start(
            connection,
            target,
            inputs,
            meta=meta,
            tags=tags,
            custom_id=custom_id,
            wait=wait,
            timeout=timeout,
            on_start=show_id,
            more=more,
        )

    report = run_connected(config, action)
    if as_json or not wait:
        show(report, as_json, _render_id)
    elif report.result is not msgspec.UNSET:
        show(report, False, render_result)
    if report.error:
        print_error(report.error)
        raise typer.Exit(FAILED)


async def start(
    connection: Connection,
    target: str,
    inputs: Sequence[str],
    *,
    meta: Sequence[str] = (),
    tags: Sequence[str] = (),
    custom_id: str | None = None,
    wait: bool = False,
    timeout: float | None = None,
    on_start: Callable[[StartReport], None] | None = None,
    more: Sequence[str] = (),
) -> StartReport:
    """Start a workflow.

    Args:
        connection: the connection of the command.
        target: the method, as a person types it: ``shop.trip:Trip.book`` or ``Trip.book``.
        inputs: the values of ``--input``.
        meta: the values of ``--meta``.
        tags: the values of ``--tag``.
        custom_id: the value of ``--custom-id``. If an instance with it runs, none is started.
        wait: wait for the result.
        timeout: how long to wait, in seconds; None for as long as it takes.
        on_start: called before the wait, with what is known then.
        more: further words for the end of a corrected command.

    Raises:
        UsageError: the target or the arguments are wrong. The message ends with a corrected command
            if one can be found.
        TransportUnavailable: the broker does not take the message.
    """
    if timeout is not None and not wait:
        raise UsageError("--timeout has a meaning only together with --wait")
    owner, cls, name = _find_target(connection, target, inputs, more)
    spec = spec_of(cls)
    method = spec.attributes.get(name) or spec.methods.get(name)
    if method is None:
        known = sorted(spec.attributes)
        close = [f"{owner}.{each}" for each in get_close_matches(name, known, 1) or (known if len(known) == 1 else [])]
        message = f"The workflow {spec.name} has no method '{name}'; its methods are: {', '.join(known)}"
        raise UsageError(_add_correction(message, close, inputs, more))
    try:
        args, kwargs = decode_input(method.signature.decode_arguments, encode_arguments(inputs))
    except UsageError as error:
        fitting = find_fitting_inputs(cls, method, inputs)
        targets = [] if fitting is None else [target]
        raise UsageError(_add_correction(str(error), targets, fitting or (), more)) from error.__cause__
    stub = connection.client.new_workflow(cls, tags=tags, custom_id=custom_id, meta=parse_metadata(meta))
    late = "The broker did not take the message"
    if custom_id is not None:
        late = "The tag engine did not answer, which starts with a custom id need: does a worker have it?"
    async with limit_time(ANSWER_SECONDS, late):
        handle = await connection.client.dispatch(getattr(stub, method.attribute), *args, **kwargs)
    report = StartReport(handle.workflow_id, spec.name, method.name)
    if on_start is not None:
        on_start(report)
    return await wait_for_result(handle, method, report, timeout) if wait else report


def _find_target(
    connection: Connection, target: str, inputs: Sequence[str], more: Sequence[str]
) -> tuple[str, type[Workflow], str]:
    """Find the method that is meant.

    Returns:
        The workflow as it was typed, its class, and the name of the method.
    """
    owner, _, name = target.rpartition(".")
    if not owner or not name:
        targets = [f"{target}.{each}" for each in _list_methods(connection, target)]
        message = f"{target!r} names no method: write module:Class.method, or Name.method"
        raise UsageError(_add_correction(message, targets, inputs, more))
    if ":" in target:
        return owner, import_workflow(owner), name
    cls = connection.project.import_newest(owner)
    if cls is None:
        close = [f"{each}.{name}" for each in get_close_matches(owner, connection.project.workflows, 1)]
        message = f"The configuration has no code of a workflow '{owner}': write module:Class.method"
        if owner in connection.project.services:
            message = f"'{owner}' is a service: workflows call its tasks, and they cannot be started from outside"
        raise UsageError(_add_correction(message, close, inputs, more))
    return owner, cls, name


def _list_methods(connection: Connection, name: str) -> list[str]:
    """List the methods of a workflow of the configuration; none if it cannot be imported."""
    try:
        cls = connection.project.import_newest(name)
    except ConfigurationError:
        return []
    return [] if cls is None else sorted(spec_of(cls).attributes)


def _add_correction(message: str, targets: Sequence[str], inputs: Sequence[str], more: Sequence[str]) -> str:
    """Add the command that was probably meant, for the first of `targets`, to a message."""
    return "; try: ".join([message, *(format_start_command(each, inputs, more) for each in targets[:1])])


def _render_id(report: StartReport) -> list[RenderableType]:
    return [make_line(report.workflow_id)]
