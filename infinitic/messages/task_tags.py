"""To the service tag engine: which tasks have a tag, and what to do with all of them.

The key of a message is the tag, as `tags.make_tag_key` writes it. So all that concerns one tag is
handled in order.

A task is named by its *token*, see `make_token`. All times are in seconds since the Unix epoch.

On the wire: at when the message was first published, copied by whoever forwards it · i token of
the task · w version of the change · o id of the operation · n the message to each instance ·
a the last token that was reached · l limit · r whom to answer.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from infinitic.bounds import MAX_NUMBER, Name, Seconds, Whole
from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.messages.client import ReplyTo
from infinitic.messages.decoding import UndecodableMessage, make_decoder

LONGEST_TOKEN = 600
"""Bytes that the token of a task may have: more than the longest that can be."""

Token = Annotated[str, Meta(min_length=1, max_length=LONGEST_TOKEN)]
"""The token of a task. `read_token` checks the rest."""
NoToken = Annotated[str, Meta(max_length=LONGEST_TOKEN)]
"""The token of a task, or nothing."""


def version_added(retry_sequence: int) -> int:
    """The version with which a task gets its tags.

    Higher versions win, in whatever order changes come.

    Args:
        retry_sequence: how often an operator has asked for the task again.
    """
    return 2 * retry_sequence


def version_removed(retry_sequence: int) -> int:
    """The version with which a task loses its tags when it has ended."""
    return 2 * retry_sequence + 1


class TaskPlace(NamedTuple):
    """What the token of a task says: where the task was asked for.

    Attributes:
        workflow_name: the workflow of the instance that waits for the task.
        workflow_id: the id of this instance.
        run: the run of this instance.
        position: the position of the task.
    """

    workflow_name: str
    workflow_id: str
    run: int
    position: int


def make_token(workflow_name: str, workflow_id: str, run: int, position: int) -> str:
    """Make the token of a task. All tasks of an instance are side by side in the order of tokens.

    It is plain text, so that it has 600 bytes at most, however long the names are: see
    `TagChange.id`.
    """
    return f"{len(workflow_name)}/{workflow_name}/{workflow_id}/{run}/{position}"


def read_token(token: str) -> TaskPlace:
    """Read what a token was made of.

    Raises:
        UndecodableMessage: it is none.
    """
    length, _, rest = token.partition("/")
    size = int(length) if length.isascii() and length.isdecimal() and len(length) < 4 else 0
    name, place = rest[:size], rest[size + 1 :].rsplit("/", 2)
    try:
        check_name("The name of a workflow in the token of a task", name)
        if len(place) == 3:
            check_name("The id of a workflow in the token of a task", place[0])
            task = TaskPlace(name, place[0], _read_number(place[1]), _read_number(place[2]))
            if make_token(*task) == token:
                return task
    except UsageError as error:
        raise UndecodableMessage(str(error)) from None
    raise UndecodableMessage(f"This is no token of a task: {token[:LONGEST_TOKEN]!r}")


def _read_number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_NUMBER)) else -1
    if not 0 <= number <= MAX_NUMBER:
        raise UndecodableMessage(f"This is no number in the token of a task: {text[:20]!r}")
    return number


class _TaskTagMessage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="t", gc=False):
    made_at: Seconds = msgspec.field(name="at")


class AddTaskTag(_TaskTagMessage, frozen=True, kw_only=True, tag="add_task_tag"):
    """Note that a task has this tag. State engines send it with the first attempt of the task.

    The tag goes by itself when the deduplication window is over, counted from `made_at`: that of a
    task that has failed is not removed. A duplicate has the same version, and changes nothing. One
    that is older than the deduplication window goes to the dead letters: that the tag was removed
    may be forgotten by now.
    """

    token: Token = msgspec.field(name="i")
    version: Whole = msgspec.field(name="w")


class RemoveTaskTag(_TaskTagMessage, frozen=True, kw_only=True, tag="remove_task_tag"):
    """Note that a task has this tag no more, since it has ended.

    The executor sends it when the task has completed, and the state engine if nobody waits for the
    task any more. A duplicate has the same version, and changes nothing.
    """

    token: Token = msgspec.field(name="i")
    version: Whole = msgspec.field(name="w")


class GetTasks(_TaskTagMessage, frozen=True, kw_only=True, tag="get_tasks"):
    """Tell which tasks have this tag. Clients send it.

    The answer is a page of tokens that come behind `after`. A duplicate is answered once more.
    """

    reply_to: ReplyTo = msgspec.field(name="r")
    after: NoToken = msgspec.field(name="a", default="")
    limit: Whole = msgspec.field(name="l", default=1000)


class ByTaskTag(_TaskTagMessage, frozen=True, kw_only=True, tag="by_task_tag"):
    """Send a message about every task that has this tag to its instance. Clients send it.

    The tag engine handles it in pages: it sends some of these messages, and `ByTaskTag` with the
    last token to itself. Each instance recognises a duplicate by the operation and the task, which
    make the deduplication id of the message to it.
    """

    operation: Name = msgspec.field(name="o")
    input: msgspec.Raw = msgspec.field(name="n")
    after: NoToken = msgspec.field(name="a", default="")


TaskTagMessage = AddTaskTag | RemoveTaskTag | GetTasks | ByTaskTag

encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(TaskTagMessage), "message of a tag of tasks")
