"""Delegated tasks: what somebody outside needs to end one, and what state engines are told of them.

The function of such a task only begins the work. Somebody else completes the task later, and names
it by its *token*, which says where the task was asked for. Nothing is stored for a token.

On the wire: at when the message was first published · i id · r whom to answer · p position ·
u run · rs retry sequence · ri retry index · v value · f failure · l how the attempt went ·
b who sends · d only if it is delegated.
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import NamedTuple, cast

import msgspec

from infinitic.bounds import MAX_NUMBER, Name, NoName, Seconds, Whole
from infinitic.errors import TaskFailure, UsageError
from infinitic.ids import check_name
from infinitic.messages.attempts import Execution
from infinitic.messages.client import ReplyTo

VERSION = 1
"""The form of tokens. It rises when older releases cannot read them."""

LONGEST_TOKEN = 4096
"""Characters of a token: more than the longest names make."""

_CHECK_BYTES = 4


class DelegatedTask(NamedTuple):
    """What a token says of its task.

    Attributes:
        workflow_name: the workflow of the instance that waits for the task.
        workflow_id: the id of this instance.
        run: its run that has asked for the task.
        position: the position of the task.
        retry_sequence: how often an operator had asked for the task again.
        service: the name of the service.
        task: the name of the task.
    """

    workflow_name: str
    workflow_id: str
    run: int
    position: int
    retry_sequence: int
    service: str
    task: str


def make_delegation_token(task: DelegatedTask) -> str:
    """Make the token of a delegated task: letters, digits, ``-`` and ``_``, fit for a URL.

    It is no secret: whoever can guess the id of the workflow can make it, too.
    """
    data = msgspec.msgpack.encode((VERSION, *task))
    return base64.urlsafe_b64encode(data + _compute_check(data)).decode().rstrip("=")


def read_delegation_token(token: object) -> DelegatedTask:
    """Read what a token was made of.

    Raises:
        UsageError: it is no token, it was damaged, or a newer release has made it.
    """
    if not isinstance(token, str) or not token:
        raise UsageError(f"The token of a delegated task is text, as task_context().delegation_token, got {token!r}")
    shown = token if len(token) <= 40 else f"{token[:40]}…"
    damaged = UsageError(f"This is no token of a delegated task, or it was damaged on its way: {shown!r}")
    if len(token) > LONGEST_TOKEN or not token.isascii():
        raise damaged
    try:
        data = base64.b64decode(f"{token}{'=' * (-len(token) % 4)}", altchars=b"-_", validate=True)
        body = data[:-_CHECK_BYTES]
        if data[-_CHECK_BYTES:] != _compute_check(body):
            raise damaged
        fields: object = msgspec.msgpack.decode(body)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise damaged from None
    if not isinstance(fields, list):
        raise damaged
    found = cast("list[object]", fields)
    if not found or not _is_number(found[0]):
        raise damaged
    if found[0] != VERSION:
        raise UsageError(
            f"This token of a delegated task has version {found[0]}, and this release knows version {VERSION}: "
            f"{shown!r}"
        )
    return _check_fields(found[1:], damaged)


def _check_fields(fields: list[object], damaged: UsageError) -> DelegatedTask:
    match fields:
        case [str() as name, str() as workflow_id, int() as run, int() as position, int() as sequence, service, task]:
            if not isinstance(service, str) or not isinstance(task, str):
                raise damaged
            try:
                for each in (name, workflow_id, service, task):
                    check_name("A name in the token", each)
            except UsageError:
                raise damaged from None
            if all(map(_is_number, (run, position, sequence))):
                return DelegatedTask(name, workflow_id, run, position, sequence, service, task)
            raise damaged
        case _:
            raise damaged


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER


def _compute_check(data: bytes) -> bytes:
    return blake2b(data, digest_size=_CHECK_BYTES, person=b"delegated task").digest()


class _DelegationInput(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="t", gc=False):
    made_at: Seconds = msgspec.field(name="at")


class TaskDelegated(_DelegationInput, frozen=True, kw_only=True, tag="task_delegated"):
    """The function of a delegated task has returned: the task waits for somebody outside.

    Service executors send it. It is for people who ask what the task waits for: no outcome depends
    on it. It counts only for the attempt that was sent last, and once.
    """

    position: Whole = msgspec.field(name="p")
    run: Whole = msgspec.field(name="u", default=0)
    retry_sequence: Whole = msgspec.field(name="rs", default=0)
    retry_index: Whole = msgspec.field(name="ri", default=0)
    execution: Execution | None = msgspec.field(name="l", default=None)


class CompleteTask(_DelegationInput, frozen=True, kw_only=True, tag="complete_task"):
    """Complete a delegated task with this value. Clients send it.

    It counts once for each position, also before the function of the task has returned. A duplicate
    is recognised by `request_id`, which is a deduplication id.

    With `delegated` it counts only after that: whoever sends it by a tag does not know the tasks.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    position: Whole = msgspec.field(name="p", default=0)
    run: Whole = msgspec.field(name="u", default=0)
    value: msgspec.Raw = msgspec.field(name="v")
    by: NoName = msgspec.field(name="b", default="")
    delegated: bool = msgspec.field(name="d", default=False)


class FailTask(_DelegationInput, frozen=True, kw_only=True, tag="fail_task"):
    """Have a delegated task fail, for good. Clients send it.

    It counts unless an operator has asked for the task again since its token was made. A duplicate
    is recognised by `request_id`, which is a deduplication id. `delegated` is as for
    `CompleteTask`; the retry sequence does not matter then.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    position: Whole = msgspec.field(name="p", default=0)
    run: Whole = msgspec.field(name="u", default=0)
    retry_sequence: Whole = msgspec.field(name="rs", default=0)
    failure: TaskFailure = msgspec.field(name="f")
    by: NoName = msgspec.field(name="b", default="")
    delegated: bool = msgspec.field(name="d", default=False)
