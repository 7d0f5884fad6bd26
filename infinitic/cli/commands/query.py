"""``infinitic query``: ask a workflow something, by one of its ``@query`` methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType

from infinitic.cli.connection import Connection, run_connected, wait_for_answer
from infinitic.cli.options import (
    ANSWER_SECONDS,
    DEFAULT_CONFIG,
    AnswerTimeoutOption,
    ConfigOption,
    InputOption,
    JsonOption,
    WorkflowIdArgument,
    WorkflowNameOption,
    parse_text,
)
from infinitic.cli.output import make_line, show
from infinitic.cli.parsing import decode_input, encode_arguments
from infinitic.definitions.workflow_spec import spec_of
from infinitic.definitions.workflows import Workflow
from infinitic.errors import UsageError


class QueryReport(msgspec.Struct):
    """The answer to a query.

    Args:
        workflow_id: the id of the instance.
        workflow_name: the name of the workflow.
        query: the name of the query.
        answer: the answer, in JSON.
    """

    workflow_id: str
    workflow_name: str
    query: str
    answer: msgspec.Raw


def command(
    workflow_id: WorkflowIdArgument,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The name of the query.", parser=parse_text)],
    inputs: InputOption = [],  # noqa: B006 (typer copies it)
    workflow: WorkflowNameOption = None,
    timeout: AnswerTimeoutOption = ANSWER_SECONDS,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Ask a workflow something, by one of its queries. Prints the answer as JSON."""

    async def action(connection: Connection) -> QueryReport:
        return await ask(connection, workflow, workflow_id, query, inputs, timeout=timeout)

    show(run_connected(config, action), as_json, _render)


async def ask(
    connection: Connection,
    name: str | None,
    workflow_id: str,
    query: str,
    inputs: Sequence[str],
    *,
    timeout: float = ANSWER_SECONDS,
) -> QueryReport:
    """Ask a query.

    Args:
        connection: the connection of the command.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance.
        query: the name of the query.
        inputs: the values of ``--input``. They are checked if the configuration has the class.
        timeout: how long to wait for the answer, in seconds.

    Raises:
        UsageError: an argument is not JSON, or the class has no such query or takes others.
        QueryFailedError: the query has no answer.
        NoAnswer: the engine does not answer.
    """
    arguments = encode_arguments(inputs)
    name = await connection.find_workflow_name(name, workflow_id)
    cls = connection.project.import_newest(name)
    if cls is not None:
        query, arguments = _encode(cls, query, arguments)
    target = await connection.get_target(name, workflow_id)
    answer = await wait_for_answer(connection, name, connection.client.ask(target, query, arguments), timeout)
    return QueryReport(workflow_id, name, query, msgspec.Raw(bytes(answer)))


def _encode(cls: type[Workflow], query: str, arguments: bytes) -> tuple[str, bytes]:
    """Check the arguments of a query, and encode them as a client in Python does."""
    spec = spec_of(cls)
    found = spec.queries.get(query) or next((each for each in spec.queries.values() if each.attribute == query), None)
    if found is None:
        known = ", ".join(sorted(spec.queries)) or "none"
        raise UsageError(f"The workflow {spec.name} has no query '{query}'; its queries are: {known}")
    args, kwargs = decode_input(found.signature.decode_arguments, arguments)
    return found.name, found.signature.encode_arguments(args, kwargs)


def _render(report: QueryReport) -> list[RenderableType]:
    return [make_line(msgspec.json.format(bytes(report.answer), indent=2).decode())]
