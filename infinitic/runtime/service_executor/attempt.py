"""One attempt of one task: decode, call, encode, and what its retry policy makes of a failure.

Every report fits into a message, and so does the attempt that follows a failed one: what is said of failures is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import random
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from infinitic import ids, topics
from infinitic.bounds import MAX_SECONDS
from infinitic.clock import Clock
from infinitic.codec.payloads import Coder
from infinitic.definitions.retries import ExponentialBackoff
from infinitic.definitions.service_contract import ServiceImplementation, TaskImplementation
from infinitic.engines.workflow.render import Outgoing
from infinitic.errors import InfiniticError, PayloadTooLargeError, PayloadUnavailable, TaskFailure, UsageError
from infinitic.failures import describe, fit
from infinitic.limits import MAX_VALUE_DEPTH, describe_too_deep, is_deeper
from infinitic.messages import engine, service
from infinitic.messages.control import Attempt
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.backoff import retry_while_unavailable
from infinitic.runtime.service_executor.blocking import Blocking
from infinitic.runtime.service_executor.current_task import RunningTask, current_task
from infinitic.runtime.service_executor.deaths import MAX_DEATHS
from infinitic.runtime.undecodable import make_task_failure
from infinitic.transport import Message

_logger = logging.getLogger("infinitic.executor")

LONGEST_LOGGED = 300
"""Characters of an error in the log; history has the whole."""

LONGEST_CHAIN = 10

ROOM = 16 * 1024
"""Bytes of a message that a result leaves free, as arguments do."""

MARGIN = 1024
"""Bytes of a message that are never used: what is sent again says a little more than it did."""

LEAST_FAILURE = 4 * 1024
"""Bytes that the next attempt must have left for the failure of this one. With less, there is no next attempt."""

CODEC_PATIENCE = 30.0
"""Seconds that an attempt waits for the payload codec, before it is put off for others to try."""


class AttemptTimedOut(InfiniticError):
    """An attempt took longer than its `attempt_timeout`. It may be retried."""


class WorkerDied(InfiniticError):
    """Every process that ran this task died while it did."""


class UnknownTask(InfiniticError):
    """The service has no task of this name."""


@types.coroutine
def _run_in(context: Context, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run a coroutine in a context of its own, within the task that awaits: a new task would cost more."""
    run = context.run
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waiting = run(coroutine.send, value) if error is None else run(coroutine.throw, error)
        except StopIteration as stop:
            return stop.value
        value, error = None, None
        try:
            value = yield waiting
        except GeneratorExit:
            run(coroutine.close)
            raise
        except BaseException as thrown:  # noqa: BLE001 (handed on into the coroutine)
            error = thrown


class Attempts:
    """Runs attempts of the tasks of one service."""

    def __init__(
        self,
        implementation: ServiceImplementation,
        worker_name: str,
        make_context: Callable[[ExecuteTask], RunningTask],
        clock: Clock,
        blocking: Blocking,
        rng: random.Random,
        max_payload: int,
        coder: Coder | None = None,
    ) -> None:
        self.service = implementation
        self._worker_name = worker_name
        self._make_context = make_context
        self._clock = clock
        self._blocking = blocking
        self._random = rng
        self._room = max_payload - ROOM
        self._limit = max(max_payload - MARGIN, 2 * MARGIN)
        self._coder = coder

    async def run(self, message: ExecuteTask, ending: Callable[[], bool]) -> Outgoing:
        """Run one attempt, and give the report for the workflow.

        Cancelling it cancels the attempt. That is a failure of it, unless `ending` is true: then it is raised.

        Raises `PayloadUnavailable` if the arguments cannot be decoded now; then it has not begun.
        """
        if message.deaths >= MAX_DEATHS:
            died = WorkerDied(f"{message.deaths} processes died while they ran this task")
            return self._failed(message, died, None, {})
        task = self.service.tasks.get(message.task)
        if task is None:
            known = ", ".join(sorted(self.service.tasks))
            return self._failed(
                message,
                UnknownTask(f"Service {self.service.name} has no task '{message.task}'; it has {known}"),
                None,
                {},
            )
        try:
            coded = message.arguments if self._coder is None else await self._decode_arguments(message, self._coder)
            args, kwargs = task.signature.decode_arguments(coded)
        except PayloadUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (codecs are the user's too: reported, not raised)
            return self._failed(message, error, None, {})
        context = self._make_context(message)
        try:
            variables = copy_context()
            variables.run(current_task.set, context)
            if task.attempt_timeout is not None:
                value = await self._within(task.attempt_timeout, task, context, variables, args, kwargs)
            elif task.signature.is_coroutine:
                value = await _run_in(variables, task.function(*args, **kwargs))
            else:
                value = await self._invoke(task, variables, args, kwargs)
        except Exception as error:  # noqa: BLE001 (whatever a task raises is its failure)
            return self._failed(message, error, task, context.meta)
        except (SystemExit, KeyboardInterrupt, GeneratorExit):
            raise
        except asyncio.CancelledError as error:
            if ending():
                _tell(context)
                raise
            return self._failed(message, error, task, context.meta)
        except BaseException as error:  # noqa: BLE001 (those of test frameworks, and groups of any)
            return self._failed(message, error, task, context.meta)
        try:
            data = task.signature.encode_result(value)
            if self._coder is not None:
                data = await self._encode_result(message, data, self._coder)
            if is_deeper(data, MAX_VALUE_DEPTH):
                raise PayloadTooLargeError(describe_too_deep("The result"))
            if len(data) > self._room:
                raise PayloadTooLargeError(
                    f"The result of {len(data):,} bytes is above the limit of {self._room:,} bytes"
                )
        except Exception as error:  # noqa: BLE001 (a result that cannot be encoded is a failure)
            return self._failed(message, error, None, {})
        return _report(
            message,
            engine.TaskCompleted(
                made_at=self._clock.now(), position=message.position, value=Raw(data), run=message.run
            ),
        )

    @staticmethod
    async def _decode_arguments(message: ExecuteTask, coder: Coder) -> bytes:
        async def decode() -> bytes:
            return coder.decode(message.arguments)

        what = f"Decoding the arguments of {message.service}.{message.task}"
        return await retry_while_unavailable(what, decode, patience=CODEC_PATIENCE)

    @staticmethod
    async def _encode_result(message: ExecuteTask, data: bytes, coder: Coder) -> bytes:
        """The result, coded. It waits for the codec as long as it takes: the task has run, and need not run again."""

        async def encode() -> bytes:
            return coder.encode(data)

        return await retry_while_unavailable(f"Encoding the result of {message.service}.{message.task}", encode)

    async def _within(
        self,
        seconds: float,
        task: TaskImplementation,
        context: RunningTask,
        variables: Context,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                with _on_cancel(partial(_tell, context)):
                    return await self._invoke(task, variables, args, kwargs)
        except TimeoutError:
            if not scope.expired():
                raise
            raise AttemptTimedOut(f"The attempt took longer than {seconds:g} s") from None

    async def _invoke(
        self, task: TaskImplementation, variables: Context, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if task.signature.is_coroutine:
            return await _run_in(variables, task.function(*args, **kwargs))
        value = await self._blocking(lambda: variables.run(task.function, *args, **kwargs))
        if inspect.iscoroutine(value):
            return await _run_in(variables, value)
        return value

    def _failed(
        self,
        message: ExecuteTask,
        error: BaseException,
        task: TaskImplementation | None,
        meta: dict[str, bytes],
    ) -> Outgoing:
        """The report of a failure. Without a task there is no policy: it is failed at once (S3)."""
        failure = TaskFailure(
            describe(error),
            self._worker_name,
            message.retry_index,
            message.retry_sequence,
            self._clock.now(),
            _shortened(message.last_failure, LONGEST_CHAIN - 1),
        )
        if task is not None and task.retry is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
            try:
                delay = self._delay(task, message.retry_index, error)
                if delay is not None:
                    _check_meta(meta)
                    report = self._attempt_failed(message, failure, max(0.0, delay), meta)
                    _log(message, failure, delay)
                    return _report(message, report)
            except Exception as broken:  # noqa: BLE001 (an error inside a policy fails the task)
                broken.__context__ = error
                failure = replace(failure, exception=describe(broken))
        _log(message, failure, None)
        return _report(message, self._task_failed(message, failure))

    def fail_oversized(self, message: ExecuteTask, error: Exception, limit: int) -> Outgoing:
        """The report that a task has failed for good, in a message of at most `limit` bytes (2,048 or more)."""
        failure = TaskFailure(describe(error), self._worker_name, message.retry_index, at=self._clock.now())
        report = self._task_failed(message, failure)
        return _report(message, replace(report, failure=fit(failure, max(limit - MARGIN, MARGIN))))

    def fail_unread(self, attempt: Attempt, why: InfiniticError) -> engine.TaskFailed:
        """Make the report that a task has failed whose message cannot be read."""
        what = "The message that asks for this task"
        report = make_task_failure(attempt, what, why, self._worker_name, self._clock.now())
        return replace(report, failure=fit(report.failure, self._limit - MARGIN))

    def _task_failed(self, message: ExecuteTask, failure: TaskFailure) -> engine.TaskFailed:
        return engine.TaskFailed(
            made_at=self._clock.now(),
            position=message.position,
            failure=fit(failure, self._limit - MARGIN),
            run=message.run,
            retry_sequence=message.retry_sequence,
            retry_index=message.retry_index,
        )

    def _attempt_failed(
        self, message: ExecuteTask, failure: TaskFailure, delay: float, meta: dict[str, bytes]
    ) -> engine.AttemptFailed:
        """The report, with as much of the failure as the next attempt, which carries it, has room for.

        Raises `PayloadTooLargeError` if that is too little.
        """
        following = replace(message, retry_index=message.retry_index + 1, last_failure=None, meta=meta)
        room = self._limit - len(service.encode(following)) - MARGIN
        if room < LEAST_FAILURE:
            raise PayloadTooLargeError(
                f"The task cannot be tried again: its arguments ({len(bytes(message.arguments)):,} bytes) and its meta "
                f"({sum(map(len, meta.values())):,} bytes) leave no room for its failure in a message, which takes "
                f"{self._limit:,} bytes"
            )
        return engine.AttemptFailed(
            made_at=self._clock.now(),
            position=message.position,
            failure=fit(failure, room),
            delay=delay,
            sequence=message.sequence,
            run=message.run,
            retry_sequence=message.retry_sequence,
            retry_index=message.retry_index,
            meta=meta,
        )

    def _delay(self, task: TaskImplementation, retry_index: int, error: BaseException) -> float | None:
        policy = task.retry
        assert policy is not None
        cause = error if isinstance(error, Exception) else InfiniticError(f"{type(error).__name__}: {error}")
        if isinstance(policy, ExponentialBackoff):
            backoff = policy.seconds(retry_index, cause, self._random.random())
            return None if backoff is None else min(backoff, MAX_SECONDS)
        delay = policy(retry_index, cause)
        if delay is None:
            return None
        seconds = float(delay)
        if not abs(seconds) <= MAX_SECONDS:
            raise UsageError(f"The retry policy gave {delay!r}, which is no number of seconds up to {MAX_SECONDS:,.0f}")
        return seconds


def _log(message: ExecuteTask, failure: TaskFailure, delay: float | None) -> None:
    """Tell of a failed attempt in one line. `delay` is in seconds, None if there is no further one."""
    if not _logger.isEnabledFor(logging.INFO):  # it is no more than that: the workflow may deal with it
        return
    error = " ".join(str(failure.exception).split())
    _logger.info(
        "Task %s.%s %s: attempt %d failed, %s: %s",
        message.service,
        message.task,
        message.task_id,
        message.retry_index + 1,
        "for good" if delay is None else f"the next in {delay:.1f} s",
        error if len(error) <= LONGEST_LOGGED else f"{error[:LONGEST_LOGGED]}…",
    )


def _check_meta(meta: Mapping[Any, Any]) -> None:
    """What the next attempt is to find must be such that it can be sent."""
    for key, value in meta.items():
        if not isinstance(key, str) or not isinstance(value, bytes):
            raise UsageError(f"meta is a mapping of texts to bytes, and the task made it hold {key!r}: {value!r}")


def _report(message: ExecuteTask, report: engine.Input) -> Outgoing:
    key = message.workflow_id
    number = ids.attempt_id(*message.attempt)
    return Outgoing(topics.workflow_engine(message.workflow_name), Message(number, key, engine.encode(report)))


def _shortened(failure: TaskFailure | None, length: int) -> TaskFailure | None:
    """The failures before, newest first, at most `length`, without their tracebacks: the chain must not grow."""
    if failure is None or length <= 0:
        return None
    exception = replace(failure.exception, traceback="", cause=None)
    return replace(failure, exception=exception, previous=_shortened(failure.previous, length - 1))


def _tell(context: RunningTask) -> None:
    """Tell an attempt to stop, whatever its callbacks raise."""
    try:
        context.cancel()
    except Exception:
        _logger.exception("Task %s.%s: on_cancel raised", context.service_name, context.task_name)


@contextlib.contextmanager
def _on_cancel(callback: Callable[[], None]) -> Generator[None, None, None]:
    try:
        yield
    except asyncio.CancelledError:
        callback()
        raise
