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
    delegated: bool | None = None
    heartbeat_timeout: float | None = None
    local: bool | None = None


def _make_options(
    what: str,
    name: str | None,
    retry: RetryPolicy | None,
    attempt_timeout: float | timedelta | None,
    total_timeout: float | timedelta | None,
    delegated: bool | None,
    heartbeat_timeout: float | timedelta | None,
    local: bool | None,
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
        check_flag(f"delegated in {what}", delegated),
        check_timeout(f"heartbeat_timeout in {what}", heartbeat_timeout),
        check_flag(f"local in {what}", local),
    )


def check_timeout(what: str, duration: float | timedelta | None) -> float | None:
    """Convert a timeout to seconds; None stays None.

    Args:
        what: what the timeout is, for the error.
        duration: seconds or a timedelta.

    Raises:
        UsageError: it is not above zero.
    """
    if duration is None:
        return None
    seconds = to_seconds(duration)
    if seconds <= 0:
        raise UsageError(f"{what} must be above zero, got {duration!r}")
    return seconds


def check_flag(what: str, flag: object) -> bool | None:
    """Return a flag as it was given; None stays None.

    Args:
        what: what the flag is, for the error.
        flag: True, False or None.

    Raises:
        UsageError: it is something else.
    """
    if flag is not None and not isinstance(flag, bool):
        raise UsageError(f"{what} must be True or False, got {flag!r}")
    return flag


def check_class(what: str, given: object) -> None:
    """Raise `UsageError` if something is not a class.

    Args:
        what: the beginning of the error, such as "@service is for classes".
        given: what should be a class.
    """
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
    delegated: bool | None = None,
    heartbeat_timeout: float | timedelta | None = None,
    local: bool | None = None,
) -> Callable[[F], F]: ...
def task(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    attempt_timeout: float | timedelta | None = None,
    total_timeout: float | timedelta | None = None,
    delegated: bool | None = None,
    heartbeat_timeout: float | timedelta | None = None,
    local: bool | None = None,
) -> F | Callable[[F], F]:
    """Say how a method of a service is run as a task.

    The decorator is optional: every public method of a service is a task::

        class Payments:
            @task(retry=ExponentialBackoff(maximum_retries=3), attempt_timeout=30)
            async def charge(self, euros: int) -> str: ...

    A task may run more than once, also without a retry policy: a worker that dies cannot tell what
    it has done. So let it do no harm when it runs again: `task_context().task_id` is the same each
    time.

    Args:
        name: the name in messages; by default that of the method. Keep it when you rename the
            method.
        retry: the retry policy. By default there is none: a failed attempt fails the task.
        attempt_timeout: seconds (or a timedelta) that one attempt may take. It is cancelled then,
            and retried if the policy says so.
        total_timeout: seconds (or a timedelta) that the caller waits for the task, with all its
            retries and the time in queues. The caller gets `TaskTimedOutError` then.
        delegated: whether the method only begins the work. What it returns is ignored, and
            somebody else ends the task later, with `task_context().delegation_token`: see
            `Client.complete_delegated_task`. Only a `total_timeout` bounds how long that may take.
        heartbeat_timeout: seconds (or a timedelta) within which the task has to call
            `task_context().heartbeat()`, again and again. If it does not, the attempt has failed,
            and is retried if the policy says so. If its worker dies, another one runs the task
            about so much later.
        local: whether the worker of the workflow runs the task itself, where it hosts this service,
            too. No message is sent for it then, and a chain of such tasks is one write to the
            database. It is for tasks of milliseconds. Its `total_timeout` may be 5 s at most.

    Raises:
        UsageError: a value makes no sense, or this decorates a class.
    """
    options = _make_options("@task", name, retry, attempt_timeout, total_timeout, delegated, heartbeat_timeout, local)

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
    delegated: bool | None = None,
    heartbeat_timeout: float | timedelta | None = None,
    local: bool | None = None,
) -> Callable[[C], C]: ...
def service(
    cls: C | None = None,
    /,
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    attempt_timeout: float | timedelta | None = None,
    total_timeout: float | timedelta | None = None,
    delegated: bool | None = None,
    heartbeat_timeout: float | timedelta | None = None,
    local: bool | None = None,
) -> C | Callable[[C], C]:
    """Name a service, and say what holds for all its tasks.

    The decorator is optional. Unlike `task` it decorates the class; what `task` says of a method
    wins::

        @service(name="payments", retry=ExponentialBackoff())
        class Payments: ...

    Args:
        name: the name in messages; by default that of the class, or of the contract it implements.
        retry: the retry policy of its tasks. By default there is none.
        attempt_timeout: seconds (or a timedelta) that one attempt may take.
        total_timeout: seconds (or a timedelta) that the caller waits for a task, with all its
            retries.
        delegated: whether somebody outside ends its tasks.
        heartbeat_timeout: seconds (or a timedelta) within which its tasks have to call
            `task_context().heartbeat()`, again and again.
        local: whether the worker of the workflow runs its tasks itself, where it hosts this
            service, too.

    Raises:
        UsageError: a value makes no sense, or this does not decorate the class of a service.
    """
    options = _make_options(
        "@service", name, retry, attempt_timeout, total_timeout, delegated, heartbeat_timeout, local
    )

    def decorate(decorated: C) -> C:
        check_class("@service is for classes", decorated)
        if is_workflow(decorated):
            raise UsageError(f"@service is for services, and {decorated.__name__} is a workflow: use @workflow")
        setattr(decorated, OPTIONS, options)
        return decorated

    return decorate if cls is None else decorate(cls)
