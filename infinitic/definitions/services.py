"""What authors of services use: `@service` and `@task`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, overload

from infinitic.clock import to_seconds
from infinitic.definitions.kinds import is_workflow
from infinitic.definitions.retries import RetryPolicy
from infinitic.errors import UsageError
from infinitic.ids import check_name

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type[Any])

OPTIONS = "__infinitic_options__"


@dataclass(frozen=True)
class TaskOptions:
    """What `@task` and `@service` say. None: nothing said."""

    name: str | None = None
    retry: RetryPolicy | None = None
    attempt_timeout: float | None = None
    total_timeout: float | None = None


def _make_options(
    what: str,
    name: str | None,
    retry: RetryPolicy | None,
    attempt_timeout: float | timedelta | None,
    total_timeout: float | timedelta | None,
) -> TaskOptions:
    if name is not None:
        check_name(f"The name in {what}", name)
    if retry is not None and not callable(retry):
        raise UsageError(f"retry in {what} must be a policy such as ExponentialBackoff(), got {retry!r}")
    return TaskOptions(
        name,
        retry,
        check_timeout(f"attempt_timeout in {what}", attempt_timeout),
        check_timeout(f"total_timeout in {what}", total_timeout),
    )


def check_timeout(what: str, duration: float | timedelta | None) -> float | None:
    """A timeout in seconds, None for none.

    Raises `UsageError` that names `what` if it is not above zero.
    """
    if duration is None:
        return None
    seconds = to_seconds(duration)
    if seconds <= 0:
        raise UsageError(f"{what} must be above zero, got {duration!r}")
    return seconds


def check_class(what: str, given: object) -> None:
    """Raise `UsageError` that begins with `what` if something is not a class."""
    if not isinstance(given, type):
        raise UsageError(f"{what}, got {given!r}")


@overload
def task(function: F, /) -> F: ...
@overload
def task(
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    attempt_timeout: float | timedelta | None = None,
    total_timeout: float | timedelta | None = None,
) -> Callable[[F], F]: ...
def task(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    attempt_timeout: float | timedelta | None = None,
    total_timeout: float | timedelta | None = None,
) -> F | Callable[[F], F]:
    """Say how a method of a service is run as a task.

    Every public method is a task, decorated or not.

    Args:
        name: the name in messages; by default that of the method.
        retry: the retry policy; none by default: a failed attempt fails the task.
        attempt_timeout: seconds that one attempt may take; it is cancelled then, and may be
            retried.
        total_timeout: seconds that the caller waits for the task, with all its retries and on the
            way.
    """
    options = _make_options("@task", name, retry, attempt_timeout, total_timeout)

    def decorate(decorated: F) -> F:
        if isinstance(decorated, type):
            raise UsageError(f"@task is for methods; use @service on the class {decorated.__name__}")
        setattr(
            getattr(decorated, "__func__", decorated), OPTIONS, options
        )  # of static and class methods: the function
        return decorated

    return decorate if function is None else decorate(function)


@overload
def service(cls: C, /) -> C: ...
@overload
def service(
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    attempt_timeout: float | timedelta | None = None,
    total_timeout: float | timedelta | None = None,
) -> Callable[[C], C]: ...
def service(
    cls: C | None = None,
    /,
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    attempt_timeout: float | timedelta | None = None,
    total_timeout: float | timedelta | None = None,
) -> C | Callable[[C], C]:
    """Name a service, and say what holds for all its tasks.

    Arguments as for `task`; the name is that of the class.
    """
    options = _make_options("@service", name, retry, attempt_timeout, total_timeout)

    def decorate(decorated: C) -> C:
        check_class("@service is for classes", decorated)
        if is_workflow(decorated):
            raise UsageError(f"@service is for services, and {decorated.__name__} is a workflow: use @workflow")
        setattr(decorated, OPTIONS, options)
        return decorated

    return decorate if cls is None else decorate(cls)
