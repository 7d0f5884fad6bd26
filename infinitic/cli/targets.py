"""Whom a command is for: one instance, or all that have a tag."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from infinitic.cli.connection import Connection
from infinitic.cli.options import parse_text
from infinitic.client.stubs import Target
from infinitic.definitions.tags import check_tag
from infinitic.errors import UsageError
from infinitic.ids import check_name

OptionalIdArgument = Annotated[
    str | None, typer.Argument(metavar="ID", help="The id of the workflow; or give --tag.", parser=parse_text)
]
TagOption = Annotated[
    str | None,
    typer.Option(
        "--tag", metavar="TAG", help="All workflows that run and have this tag, instead of an ID.", parser=parse_text
    ),
]


class Addressee(msgspec.Struct, frozen=True):
    """Whom a command is for.

    Attributes:
        workflow_name: the name of the workflow.
        target: the same, as the client calls it.
        workflow_id: the id of the instance; None: all that have the tag are meant.
        tag: the tag; None: one instance is meant.
    """

    workflow_name: str
    target: Target
    workflow_id: str | None
    tag: str | None


async def find_addressee(
    connection: Connection, name: str | None, workflow_id: str | None, tag: str | None, *, confirm: bool = False
) -> Addressee:
    """Find out whom a command is for.

    Args:
        connection: the connection of the command.
        name: the name of the workflow; None to find it.
        workflow_id: the id of the instance; None if a tag is given.
        tag: the tag; None if an id is given.
        confirm: whether the command waits for the engine.

    Raises:
        UsageError: both or none are given, the name cannot be found, or there is nothing to wait
            for.
    """
    name = await find_name(connection, name, workflow_id, tag, confirm=confirm)
    if workflow_id is not None:
        return Addressee(name, await connection.get_target(name, workflow_id), workflow_id, None)
    target = await connection.get_target(name, "by-tag")
    return Addressee(name, target._replace(workflow_id=None, tag=tag or ""), None, tag)


async def find_name(
    connection: Connection, name: str | None, workflow_id: str | None, tag: str | None, *, confirm: bool = False
) -> str:
    """Find the name of the workflow that a command is for.

    Arguments and errors are those of `find_addressee`. The broker is not asked.
    """
    if (workflow_id is None) is (tag is None):
        raise UsageError("Say which workflows are meant: the ID of one, or --tag TAG")
    if workflow_id is not None:
        return await connection.find_workflow_name(name, workflow_id)
    check_tag(tag)
    if confirm:
        raise UsageError("--confirm waits for one workflow, and a tag may have many of them")
    known = sorted(connection.project.workflows)
    if name is not None:
        return check_name("The name of a workflow", name)
    if len(known) != 1:
        raise UsageError(f"--tag needs --workflow NAME; {connection.project.describe_workflows()}")
    return known[0]
