"""Identifiers: new ones for what clients start, derived ones for what workflows ask for.

A derived id depends only on the state that it is derived from. So a step that is run again asks for
the same ids, and a repeat is recognised wherever it arrives (S10).
"""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import unquote

from infinitic.bounds import MAX_NAME_BYTES
from infinitic.errors import UsageError


def new_id() -> str:
    """Make a random id of 32 hexadecimal digits."""
    return os.urandom(16).hex()


def task_id(workflow_id: str, run: int, position: int) -> str:
    """The id of the task at a position. It is the same for every attempt and duplicate.

    Args:
        workflow_id: the id of the instance.
        run: which run of the workflow it is, from 0.
        position: that of the task, from 0.
    """
    return f"{workflow_id}-{run}-{position}" if run else f"{workflow_id}-{position}"


def remote_id(workflow_id: str, run: int, position: int, retry_sequence: int = 0) -> str:
    """The id of what an instance asks of another one: a child, a method call, or a signal.

    It has 32 hexadecimal digits, as a new id has. It is the same for every duplicate.

    Args:
        workflow_id: the id of the instance that asks.
        run: its run.
        position: that of the request.
        retry_sequence: how often the instance was told to ask again.
    """
    return blake2b(f"{workflow_id}/{run}/{position}/{retry_sequence}".encode(), digest_size=16).hexdigest()


def cancel_id(remote_id: str) -> str:
    """The id of the request that cancels what has this `remote_id`."""
    return f"{remote_id}/cancel"


def claimed_id(request_id: str) -> str:
    """The id of a request that is sent on, once a custom id is claimed again for it."""
    return blake2b(f"{request_id}/claimed".encode(), digest_size=16).hexdigest()


def remote_request(run: int, position: int, retry_sequence: int) -> str:
    """The id of the request with which an instance asks something of another one.

    It is unique in that instance.
    """
    return f"{run}/{position}/{retry_sequence}"


def reopened_id(workflow_id: str, epoch: int, request: str) -> str:
    """The id of the message that tells an instance that what it waited for runs again.

    Args:
        workflow_id: the id of the instance that was re-opened.
        epoch: its epoch from then on.
        request: what it is asked once more, see `remote_request`.
    """
    return blake2b(f"{workflow_id}/{epoch}/{request}".encode(), digest_size=16).hexdigest()


def read_remote_request(request: str) -> tuple[int, int, int] | None:
    """Read run, position and retry sequence from a `remote_request`; None if it is another id."""
    numbers = request.split("/")
    if len(numbers) != 3 or not all(map(_is_number, numbers)):
        return None
    run, position, retry_sequence = map(int, numbers)
    return run, position, retry_sequence


def settlement_id(workflow_id: str, request: str) -> str:
    """The id of the message that answers the request of an instance, see `remote_request`.

    It tells which request is answered if nobody can decode the message.
    """
    return f"{workflow_id}/settled/{request}"


def read_settlement(message_id: str, workflow_id: str) -> tuple[int, int, int] | None:
    """Read run, position and retry sequence from a `settlement_id`; None if it is another id."""
    start = settlement_id(workflow_id, "")
    return read_remote_request(message_id[len(start) :]) if message_id.startswith(start) else None


def read_task_id(task_id: str, workflow_id: str, run: int) -> int | None:
    """Read the position from a `task_id`.

    Args:
        task_id: the id of a task.
        workflow_id: the id of the instance that it should belong to.
        run: the run of that instance.

    Returns:
        None if it is the id of no task of this run.
    """
    prefix = f"{workflow_id}-{run}-" if run else f"{workflow_id}-"
    number = task_id.removeprefix(prefix)
    return int(number) if task_id.startswith(prefix) and _is_number(number) else None


def task_operation_id(operation: str, run: int, position: int) -> str:
    """The deduplication id of an operation by tag on one task, in the instance of this task.

    Args:
        operation: the id of the operation.
        run: the run of the instance.
        position: that of the task.
    """
    return blake2b(f"{operation}/{run}/{position}".encode(), digest_size=16).hexdigest()


def wake_id(workflow_id: str) -> str:
    """The id of the messages that wake an instance."""
    return f"{workflow_id}/wake"


def activation_id(workflow_id: str, activation: int, epoch: int) -> str:
    """The id of the two messages of an activation: to an executor, and back with its decision.

    It tells which activation a message is about if nobody can decode the message.
    """
    return f"{workflow_id}/{activation}/{epoch}" if epoch else f"{workflow_id}/{activation}"


def read_activation(message_id: str, workflow_id: str) -> tuple[int, int] | None:
    """Read the activation and its epoch from an `activation_id`; None if it is another id."""
    if not message_id.startswith(f"{workflow_id}/"):
        return None
    numbers = message_id[len(workflow_id) + 1 :].split("/")
    if len(numbers) > 2 or not all(map(_is_number, numbers)):
        return None
    return int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0


_FEW = 256
_SUFFIXES = tuple(f"-{position}" for position in range(_FEW))


def attempt_id(workflow_id: str, position: int, run: int, retry_sequence: int, retry_index: int) -> str:
    """The id of the message with the report of an attempt: the task id, and which attempt it was.

    It tells which attempt the message is about if nobody can decode the message.
    """
    if not (run or retry_sequence or retry_index):
        # Texts are added in a third of the time that it takes to format a number.
        return workflow_id + (_SUFFIXES[position] if position < _FEW else f"-{position}")
    return f"{task_id(workflow_id, run, position)}/{run}/{retry_sequence}/{retry_index}"


def read_attempt(message_id: str) -> tuple[str, int, int, int, int] | None:
    """Read what an `attempt_id` was made of; None if it is another id.

    Returns:
        Workflow id, position, run, retry sequence, retry index.
    """
    task, *numbers = message_id.rsplit("/", 3)
    which = [0, 0, 0]
    if len(numbers) == 3 and all(map(_is_number, numbers)):
        which = [int(each) for each in numbers]
    else:
        task = message_id
    run, retry_sequence, retry_index = which
    workflow_id, _, position = task.rpartition("-")
    if run:
        workflow_id = workflow_id.removesuffix(f"-{run}")
    if not workflow_id or not _is_number(position):
        return None
    attempt = workflow_id, int(position), run, retry_sequence, retry_index
    return attempt if attempt_id(*attempt) == message_id else None


def task_message_id(workflow_name: str, attempt: str) -> str:
    """The id of the message that asks for an attempt: name of the workflow, and `attempt_id`.

    It tells whom to answer if nobody can decode the message. The name is left out if the id would
    have more than 255 characters: brokers count ids towards the size of a message.
    """
    message_id = f"{_escape(workflow_name)}/{attempt}"
    return message_id if len(message_id) <= MAX_NAME_BYTES else attempt


def read_task_message(message_id: str) -> tuple[str, tuple[str, int, int, int, int]] | None:
    """Read the name of the workflow and the attempt from a `task_message_id`.

    Returns:
        None if it is another id, or one without the name.
    """
    name, _, rest = message_id.partition("/")
    attempt = read_attempt(rest)
    if not name or attempt is None:
        return None
    return unquote(name), attempt


@lru_cache(1000)
def _escape(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 16


_FIRST_SECOND = 1_735_689_600
"""The year 2025: what is counted from there has fewer digits."""


_PER_MILLISECOND = 16
"""How many requests a client may number in a millisecond: more than it can send.

With fewer, a busy client would be ahead of its clock. After a restart it would give some numbers
again, and take the answers to requests of before for its own.
"""


def request_number(previous: int, now: float) -> int:
    """The number of a client's next request. It is higher than all before, also after a restart.

    Args:
        previous: that of the request before, 0 for the first one.
        now: seconds since the Unix epoch.
    """
    return max(previous + 1, int((now - _FIRST_SECOND) * (1000 * _PER_MILLISECOND)))


def request_id(number: int) -> str:
    """The id of a request, which says its number.

    It is short, since it stands in the head of each instance that is waited for.
    """
    return f"{number:x}"


def read_request_number(request: str) -> int:
    """The number that the id of a request says, 0 if it says none."""
    try:
        return int(request, 16) if len(request) <= 16 else 0
    except ValueError:
        return 0


def check_name(what: str, value: object) -> str:
    """Return `value` if it is a valid name, id or tag, else raise `UsageError` that names `what`.

    Valid is non-empty text of at most 255 bytes of UTF-8, in any script.
    """
    if not isinstance(value, str) or not value:
        raise UsageError(f"{what} must be non-empty text, got {value!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what} contains a lone surrogate: {value!r}") from None
    if size > MAX_NAME_BYTES:
        raise UsageError(f"{what} has {size} bytes of UTF-8, more than {MAX_NAME_BYTES}: {value[:40]!r}…")
    return value
