"""What a workflow is told of a failed attempt, and whether there is another one.

Every report fits into a message, and so does the attempt that follows: it carries the failure of
this one. What is said of failures is cut to fit; nothing else is.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from infinitic import ids, topics
from infinitic.bounds import MAX_SECONDS
from infinitic.clock import Clock
from infinitic.definitions.retries import ExponentialBackoff
from infinitic.definitions.service_contract import TaskImplementation
from infinitic.errors import ExceptionDetail, InfiniticError, PayloadTooLargeError, TaskFailure, UsageError
from infinitic.failures import describe, fit
from infinitic.messages import engine, service
from infinitic.messages.attempts import Execution, measure
from infinitic.messages.control import Attempt
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.undecodable import make_task_failure
from infinitic.transport import Message, Outgoing

_logger = logging.getLogger("infinitic.executor")

LONGEST_LOGGED = 300
"""Characters of an error in the log; the history has all of it."""

LONGEST_CHAIN = 10
"""Failures that a report holds: this one, and those of the attempts before."""

MARGIN = 1024
"""Bytes of a message that are never used: a message that is sent again says a little more."""

LEAST_FAILURE = 4 * 1024
"""Bytes that the next attempt must have left for the failure of this one, or there is none."""


class FailureReports:
    """Makes the reports of attempts that have failed.

    Args:
        worker_name: the name of the worker, which failures say.
        clock: the time of day.
        rng: the random numbers of retry policies.
        max_payload: bytes that the broker takes in a message.
    """

    def __init__(self, worker_name: str, clock: Clock, rng: random.Random, max_payload: int) -> None:
        self._worker_name = worker_name
        self._clock = clock
        self._random = rng
        self._limit = max(max_payload - MARGIN, 2 * MARGIN)

    def make(
        self,
        message: ExecuteTask,
        error: BaseException,
        task: TaskImplementation,
        meta: dict[str, bytes],
        began_at: float,
        described: ExceptionDetail | None = None,
    ) -> Outgoing:
        """Make the report of an attempt that has failed.

        The retry policy says whether there is another attempt. An error of the policy itself, or
        meta that cannot be sent, fails the task for good.

        Args:
            message: what was run.
            error: what the task raised.
            task: the task, with its retry policy.
            meta: what the next attempt is to get from this one.
            began_at: when the attempt began, in seconds since the Unix epoch.
            described: the error as data, if it was described before.
        """
        failure = self._describe(message, error, described)
        execution = self._measure(message, began_at, failure)
        if task.retry is None or isinstance(error, KeyboardInterrupt | SystemExit):
            return self._fail_for_good(message, failure, execution)
        try:
            delay = self._choose_delay(task, message.retry_index, error)
            if delay is None:
                return self._fail_for_good(message, failure, execution)
            _check_meta(meta)
            report = self._make_attempt_failed(message, failure, max(0.0, delay), meta, execution)
        except Exception as broken:  # noqa: BLE001 (policies are the user's: whatever they raise fails the task)
            broken.__context__ = error
            return self._fail_for_good(message, replace(failure, exception=describe(broken)), execution)
        _log(message, failure, delay)
        return make_report(message, report)

    def make_final(self, message: ExecuteTask, error: BaseException, began_at: float | None = None) -> Outgoing:
        """Make the report of a failure that no other attempt can mend (S3).

        Args:
            message: what was to be run.
            error: why that is not possible.
            began_at: when the attempt began, in seconds since the Unix epoch; None: it did not.
        """
        failure = self._describe(message, error)
        execution = None if began_at is None else self._measure(message, began_at, failure)
        return self._fail_for_good(message, failure, execution)

    def make_oversized(self, message: ExecuteTask, error: Exception, limit: int) -> Outgoing:
        """Make the report that a task has failed because the broker takes less than before.

        Args:
            message: the message of the task.
            error: what the broker said.
            limit: bytes that the broker takes now, 2,048 or more.
        """
        failure = TaskFailure(describe(error), self._worker_name, message.retry_index, at=self._clock.now())
        report = self._make_task_failed(message, failure)
        return make_report(message, replace(report, failure=fit(failure, max(limit - MARGIN, MARGIN))))

    def make_unread(self, attempt: Attempt, why: InfiniticError) -> engine.TaskFailed:
        """Make the report that a task has failed whose message cannot be read.

        Args:
            attempt: the attempt that the message asks for.
            why: what is wrong with it.
        """
        what = "The message that asks for this task"
        report = make_task_failure(attempt, what, why, self._worker_name, self._clock.now())
        return replace(report, failure=fit(report.failure, self._limit - MARGIN))

    def _describe(
        self, message: ExecuteTask, error: BaseException, described: ExceptionDetail | None = None
    ) -> TaskFailure:
        return TaskFailure(
            describe(error) if described is None else described,
            self._worker_name,
            message.retry_index,
            message.retry_sequence,
            self._clock.now(),
            _shorten(message.last_failure, LONGEST_CHAIN - 1),
        )

    def _measure(self, message: ExecuteTask, began_at: float, failure: TaskFailure) -> Execution:
        return measure(message.made_at, began_at, failure.at, self._worker_name)

    def _fail_for_good(self, message: ExecuteTask, failure: TaskFailure, execution: Execution | None) -> Outgoing:
        _log(message, failure, None)
        return make_report(message, self._make_task_failed(message, failure, execution))

    def _make_task_failed(
        self, message: ExecuteTask, failure: TaskFailure, execution: Execution | None = None
    ) -> engine.TaskFailed:
        return engine.TaskFailed(
            made_at=self._clock.now(),
            position=message.position,
            failure=fit(failure, self._limit - MARGIN),
            run=message.run,
            retry_sequence=message.retry_sequence,
            retry_index=message.retry_index,
            execution=execution,
        )

    def _make_attempt_failed(
        self,
        message: ExecuteTask,
        failure: TaskFailure,
        delay: float,
        meta: dict[str, bytes],
        execution: Execution,
    ) -> engine.AttemptFailed:
        """Make the report, with as much of the failure as the next attempt has room for.

        Raises:
            PayloadTooLargeError: that is too little.
        """
        following = replace(message, retry_index=message.retry_index + 1, last_failure=None, meta=meta, guard=None)
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
            execution=execution,
            heartbeat=message.last_heartbeat,
        )

    def _choose_delay(self, task: TaskImplementation, retry_index: int, error: BaseException) -> float | None:
        """Ask the retry policy for the seconds until the next attempt. None: there is none."""
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
        # Also false for NaN.
        if not abs(seconds) <= MAX_SECONDS:
            raise UsageError(f"The retry policy gave {delay!r}, which is no number of seconds up to {MAX_SECONDS:,.0f}")
        return seconds


def make_report(message: ExecuteTask, report: engine.Input) -> Outgoing:
    """Make the message that tells a workflow what came of an attempt.

    Its id names the attempt, for a receiver that cannot decode it.

    Args:
        message: what was run.
        report: what came of it.
    """
    workflow_id = message.workflow_id
    attempt = ids.attempt_id(workflow_id, message.position, message.run, message.retry_sequence, message.retry_index)
    return Outgoing(topics.workflow_engine(message.workflow_name), Message(attempt, workflow_id, engine.encode(report)))


def _log(message: ExecuteTask, failure: TaskFailure, delay: float | None) -> None:
    """Log a failed attempt in one line.

    It is no more than information: the workflow may deal with it.

    Args:
        message: what was run.
        failure: the failure.
        delay: seconds until the next attempt. None: there is none.
    """
    if not _logger.isEnabledFor(logging.INFO):
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
    """Raise `UsageError` unless the next attempt can be sent with this meta."""
    for key, value in meta.items():
        if not isinstance(key, str) or not isinstance(value, bytes):
            raise UsageError(f"meta must be a mapping of texts to bytes, but the task set {key!r}: {value!r}")


def _shorten(failure: TaskFailure | None, length: int) -> TaskFailure | None:
    """Keep the newest `length` failures of a chain, without their tracebacks: it must not grow."""
    if failure is None or length <= 0:
        return None
    exception = replace(failure.exception, traceback="", cause=None)
    return replace(failure, exception=exception, previous=_shorten(failure.previous, length - 1))
