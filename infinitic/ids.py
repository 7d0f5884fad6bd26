"""Identifiers: new ones for what clients start, derived ones for what workflows ask for.

A derived id depends on nothing but the state it is derived from, so a step that is run again asks for the
same ids, and a repeat is recognised wherever it lands (rule S10).
"""

from __future__ import annotations

import os

from infinitic.bounds import MAX_NAME_BYTES
from infinitic.errors import UsageError


def new_id() -> str:
    """A new random id of 32 hexadecimal digits."""
    return os.urandom(16).hex()


def task_id(workflow_id: str, run: int, position: int) -> str:
    """The id of the task that a workflow asked for at a position: the same for every attempt and duplicate."""
    return f"{workflow_id}-{run}-{position}" if run else f"{workflow_id}-{position}"


def activation_id(workflow_id: str, activation: int, epoch: int) -> str:
    """The id of the two messages of an activation: to an executor, and back with its decision.

    It tells which activation a message is about if nobody can decode the message.
    """
    return f"{workflow_id}/{activation}/{epoch}" if epoch else f"{workflow_id}/{activation}"


def activation_of(message_id: str, workflow_id: str) -> tuple[int, int] | None:
    """The activation and its epoch, from an `activation_id`. None: the id is another one."""
    if not message_id.startswith(f"{workflow_id}/"):
        return None
    numbers = message_id[len(workflow_id) + 1 :].split("/")
    if len(numbers) > 2 or not all(each.isascii() and each.isdecimal() and len(each) < 16 for each in numbers):
        return None
    return int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0


_FIRST_SECOND = 1_735_689_600
"""The year 2025: what is counted from there has fewer digits."""


def request_number(previous: int, now: float) -> int:
    """The number of a client's next request. It is higher than all before, also after a restart.

    Args:
        previous: that of the request before, 0 for the first one.
        now: seconds since the Unix epoch.
    """
    return max(previous + 1, int((now - _FIRST_SECOND) * 1000))


def request_id(number: int) -> str:
    """The id of a request, which says its number.

    It is short, since it stands in the head of each instance that is waited for.
    """
    return f"{number:x}"


def number_of(request: str) -> int:
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
