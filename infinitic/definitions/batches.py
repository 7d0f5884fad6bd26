"""`@batch`: a method of a service that runs many tasks in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from infinitic.clock import to_seconds
from infinitic.errors import UsageError
from infinitic.ids import check_name

F = TypeVar("F", bound=Callable[..., Any])

BATCH_OPTIONS = "__infinitic_batch__"

BATCH_KEY = "batch_key"
"""The key in the meta of a task under which its batch key is."""

MOST_MESSAGES = 10_000
"""How many tasks a batch may have at most: an executor holds no more."""


@dataclass(frozen=True)
class BatchOptions:
    """What `@batch` says of a method: the name of its task, and when a batch is complete."""

    task: str
    max_messages: int
    max_seconds: float


def batch(task: str, /, *, max_messages: int = 1000, max_seconds: float | timedelta = 1.0) -> Callable[[F], F]:
    """Say that a method of a service runs many tasks in one call.

    It is for tasks that are cheaper together: one request, one statement, one run of a model. The
    workflow knows nothing of it, and calls `charge` as ever::

        class StripePayments(Payments):
            @batch("charge", max_messages=100)
            async def charge_all(self, orders: dict[str, Order]) -> dict[str, Receipt | Exception]:
                return await self.stripe.charge(orders)

    The method gets the arguments of each task by its `task_id`: the argument itself, or a tuple if
    the task has several. It returns the results by the same ids.

    - A value that is an exception is the failure of that task alone.
    - A task that is left out fails, for good: the method has forgotten it.
    - If the method raises, each task has failed with that error.

    Failures follow the retry policy of the task, one by one.

    Within the method, `task_context(task_id)` is the context of one of the tasks. Tasks whose meta
    has a `batch_key` are only together with tasks of the same key.

    Args:
        task: the name of the task. Its retry policy and `attempt_timeout` hold for the batch, too.
        max_messages: how many tasks a batch has at most, up to 10,000.
        max_seconds: seconds (or a timedelta) that the first task of a batch waits for others.

    Raises:
        UsageError: a value makes no sense, or this decorates a class.
    """
    options = BatchOptions(
        _check_task(task),
        check_max_messages("max_messages in @batch", max_messages),
        check_max_seconds("max_seconds in @batch", max_seconds),
    )

    def decorate(decorated: F) -> F:
        if isinstance(decorated, type):
            raise UsageError(f"@batch is for methods, not for the class {decorated.__name__}")
        # Of static and class methods: the function.
        setattr(getattr(decorated, "__func__", decorated), BATCH_OPTIONS, options)
        return decorated

    return decorate


def _check_task(name: object) -> str:
    if not isinstance(name, str):
        raise UsageError(f'@batch takes the name of a task, @batch("charge"), got {name!r}')
    return check_name("The name in @batch", name)


def check_max_messages(what: str, value: object) -> int:
    """Return how many tasks a batch may have, as it was given.

    Args:
        what: what the number is, for the error.
        value: what was given.

    Raises:
        UsageError: it is no whole number from 1 to 10,000.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_MESSAGES:
        raise UsageError(f"{what} must be a whole number from 1 to {MOST_MESSAGES:,}, got {value!r}")
    return value


def check_max_seconds(what: str, value: float | timedelta) -> float:
    """Convert the time that a batch waits for further tasks to seconds.

    Args:
        what: what the time is, for the error.
        value: seconds or a timedelta.

    Raises:
        UsageError: it is below zero.
    """
    seconds = to_seconds(value)
    if seconds < 0:
        raise UsageError(f"{what} cannot be below zero, got {value!r}")
    return seconds


def read_batch_options(function: object) -> BatchOptions | None:
    """Read what `@batch` says of a function as it stands in a class. None: it is not decorated."""
    options = getattr(getattr(function, "__func__", function), BATCH_OPTIONS, None)
    return options if isinstance(options, BatchOptions) else None
