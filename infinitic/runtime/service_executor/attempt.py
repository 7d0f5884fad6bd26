"""One attempt of one task: decode its arguments, call it, encode its result."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, NamedTuple

from msgspec import Raw

from infinitic.clock import Clock
from infinitic.codec.payloads import Coder
from infinitic.codec.signatures import Signature
from infinitic.definitions.service_contract import ServiceImplementation, TaskImplementation
from infinitic.errors import InfiniticError, PayloadTooLargeError, PayloadUnavailable
from infinitic.limits import MAX_VALUE_DEPTH, compute_value_limit, describe_too_deep, is_deeper
from infinitic.messages.attempts import measure
from infinitic.messages.delegated import TaskDelegated
from infinitic.messages.engine import TaskCompleted
from infinitic.messages.service import ExecuteTask
from infinitic.middleware.chain import Layer, run_through
from infinitic.runtime.backoff import retry_while_unavailable
from infinitic.runtime.service_executor.blocking import Blocking
from infinitic.runtime.service_executor.current_task import CurrentTask, MakeContext, Stoppable, current_task
from infinitic.runtime.service_executor.deaths import MAX_DEATHS
from infinitic.runtime.service_executor.failing import FailureReports, make_report
from infinitic.runtime.service_executor.pulse import Pulse, Send
from infinitic.transport import Outgoing

CODEC_PATIENCE = 30.0
"""Seconds that an attempt waits for the payload codec, before it is put off for others to try."""


CODEC_DELAY = 30.0
"""Seconds for which a task is put off whose arguments the payload codec cannot decode now."""


SHALLOW_BYTES = 2 * MAX_VALUE_DEPTH
"""What is shorter cannot be nested too deep: it need not be looked at."""


class AttemptTimedOut(InfiniticError):
    """An attempt took longer than its `attempt_timeout`. It may be retried."""


class WorkerDied(InfiniticError):
    """Every process that ran this task died while it did."""


class UnknownTask(InfiniticError):
    """The service has no task of this name."""


async def _run_in(context: Context, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine with context variables of its own, in the asyncio task that awaits this.

    An asyncio task of its own would cost more. Each step of the coroutine is made in `context`,
    and what it waits for is handed on to the loop.
    """
    try:
        waiting = context.run(coroutine.send, None)
    except StopIteration as stop:
        return stop.value
    return await _go_on_in(context, coroutine, waiting)


@types.coroutine
def _go_on_in(context: Context, coroutine: Coroutine[Any, Any, Any], waiting: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that has begun to run, and waits for something."""
    run = context.run
    while True:
        value: Any = None
        error: BaseException | None = None
        try:
            value = yield waiting
        except GeneratorExit:
            run(coroutine.close)
            raise
        except BaseException as thrown:  # noqa: BLE001 (handed on into the coroutine)
            error = thrown
        try:
            waiting = run(coroutine.send, value) if error is None else run(coroutine.throw, error)
        except StopIteration as stop:
            return stop.value


class Code(NamedTuple):
    """Code of users: whether it was declared with ``async def``, and how many seconds it may take.

    Without `seconds` it may take as long as it wants.
    """

    function: Callable[..., Any]
    is_coroutine: bool
    seconds: float | None


class Attempts:
    """Runs attempts of the tasks of one service.

    Args:
        implementation: the service.
        worker_name: the name of the worker, which failures say.
        make_context: makes what `task_context()` gives, for one attempt.
        clock: the time of day.
        blocking: runs `def` tasks.
        rng: the random numbers of retry policies.
        max_payload: bytes that the broker takes in a message.
        coder: decodes arguments and encodes results, if payloads are compressed or encrypted.
        layers: the middlewares around each attempt, outermost first.

    Attributes:
        service: the service.
        worker_name: the name of the worker.
        failures: makes the reports of attempts that have failed.
        make_context: makes what `task_context()` gives, for one attempt.
        clock: the time of day.
        layers: the middlewares around each attempt, outermost first.
    """

    def __init__(
        self,
        implementation: ServiceImplementation,
        worker_name: str,
        make_context: MakeContext,
        clock: Clock,
        blocking: Blocking,
        rng: random.Random,
        max_payload: int,
        coder: Coder | None = None,
        layers: tuple[Layer[Any], ...] = (),
    ) -> None:
        self.service = implementation
        self.failures = FailureReports(worker_name, clock, rng, max_payload)
        self.worker_name = worker_name
        self.make_context = make_context
        self.clock = clock
        self._blocking = blocking
        self._room = compute_value_limit(max_payload)
        # A result of so many bytes can be sent, whatever is in it.
        self._small = min(self._room, SHALLOW_BYTES)
        self._max_payload = max_payload
        self._coder = coder
        self.layers = layers

    async def run(
        self,
        message: ExecuteTask,
        is_ending: Callable[[], bool],
        begin: Callable[[CurrentTask], object] | None = None,
        pulse: Pulse | None = None,
    ) -> Outgoing:
        """Run one attempt.

        If this is cancelled, the attempt is cancelled. That is a failure like any other, except if
        the executor is ending.

        Args:
            message: what is to be run.
            is_ending: says whether a cancellation comes from the end of the executor.
            begin: called when the code of the task begins, with what tells it to stop.
            pulse: its heartbeats; None: its task has no heartbeat timeout.

        Returns:
            The report for the workflow.

        Raises:
            PayloadUnavailable: the arguments cannot be decoded now. The attempt has not begun.
            asyncio.CancelledError: the executor is ending. The attempt was told to stop.
            SystemExit: the task raised it, as it may raise `KeyboardInterrupt`.
        """
        if message.deaths >= MAX_DEATHS:
            return self.report_deaths(message)
        began_at = self.clock.now()
        task = self.service.tasks.get(message.task)
        if task is None:
            return self.failures.make_final(message, self._unknown_task(message), began_at)
        signature = task.signature
        try:
            # Without a codec nothing waits, and a coroutine costs as much as the decoding.
            if self._coder is None:
                args, kwargs = signature.decode_arguments(message.arguments)
            else:
                args, kwargs = await self.decode_arguments(message, signature)
        except PayloadUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (codecs are the user's too: reported, not raised)
            return self.failures.make_final(message, error, began_at)
        current = CurrentTask(message, self.make_context, task.delegated, pulse)
        if begin is not None:
            begin(current)
        try:
            variables = copy_context()
            variables.run(current_task.set, current)
            if signature.is_coroutine and task.attempt_timeout is None and not self.layers and pulse is None:
                coroutine = task.function(*args, **kwargs)
                try:
                    # Most tasks of a few microseconds wait for nothing: they have ended here.
                    waiting = variables.run(coroutine.send, None)
                except StopIteration as stop:
                    value = stop.value
                else:
                    value = await _go_on_in(variables, coroutine, waiting)
            else:
                code = Code(task.function, signature.is_coroutine, task.attempt_timeout)
                if pulse is not None:
                    async with pulse.limit(current):
                        value = await self._call_inside_layers(code, current, variables, args, kwargs)
                else:
                    value = await self._call_inside_layers(code, current, variables, args, kwargs)
        except Exception as error:  # noqa: BLE001 (whatever a task raises is its failure)
            return self._report_failure(current, error, task, began_at)
        except (SystemExit, KeyboardInterrupt, GeneratorExit):
            raise
        except asyncio.CancelledError as error:
            if is_ending():
                current.cancel()
                raise
            return self._report_failure(current, error, task, began_at)
        except BaseException as error:  # noqa: BLE001 (those of test frameworks, and groups of any)
            return self._report_failure(current, error, task, began_at)
        if task.delegated:
            return self._make_delegated(message, began_at)
        if self._coder is not None:
            return await self.report_value(message, signature, value, began_at)
        try:
            data = signature.encode_result(value)
        except Exception as error:  # noqa: BLE001 (as in `report_value`)
            return self.failures.make_final(message, error, began_at)
        return self._report_data(message, data, began_at)

    async def decode_arguments(
        self, message: ExecuteTask, signature: Signature
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode the arguments of a task.

        Raises:
            PayloadUnavailable: the payload codec cannot decode them now.
            Exception: they cannot be decoded at all.
        """
        coded = message.arguments if self._coder is None else await self._decode(message, self._coder)
        return signature.decode_arguments(coded)

    async def report_value(
        self, message: ExecuteTask, signature: Signature, value: object, began_at: float
    ) -> Outgoing:
        """Make the report of a task that has returned something.

        If that cannot be encoded, the report says that the task has failed.

        Args:
            message: what was run.
            signature: of the task.
            value: what it returned.
            began_at: when the attempt began, in seconds since the Unix epoch.
        """
        try:
            data = signature.encode_result(value)
            if self._coder is not None:
                data = await self._encode_result(message, data, self._coder)
        except Exception as error:  # noqa: BLE001 (a result that cannot be encoded is a failure)
            return self.failures.make_final(message, error, began_at)
        return self._report_data(message, data, began_at)

    def _report_data(self, message: ExecuteTask, data: bytes, began_at: float) -> Outgoing:
        """Make the report with an encoded result. One that cannot be sent is a failure."""
        if len(data) > self._small:
            reason: str | None = None
            if is_deeper(data, MAX_VALUE_DEPTH):
                reason = describe_too_deep("The result")
            elif len(data) > self._room:
                reason = f"The result of {len(data):,} bytes is above the limit of {self._room:,} bytes"
            if reason is not None:
                return self.failures.make_final(message, PayloadTooLargeError(reason), began_at)
        now = self.clock.now()
        completed = TaskCompleted(
            made_at=now,
            position=message.position,
            value=Raw(data),
            run=message.run,
            execution=measure(message.made_at, began_at, now, self.worker_name),
        )
        return make_report(message, completed)

    def _report_failure(
        self, current: CurrentTask, error: BaseException, task: TaskImplementation, began_at: float
    ) -> Outgoing:
        message = current.message if current.pulse is None else current.pulse.renew(current.message)
        return self.failures.make(message, error, task, current.context.meta, began_at)

    def _make_delegated(self, message: ExecuteTask, began_at: float) -> Outgoing:
        """Make the report that somebody outside ends the task. What it returned is ignored."""
        now = self.clock.now()
        delegated = TaskDelegated(
            made_at=now,
            position=message.position,
            run=message.run,
            retry_sequence=message.retry_sequence,
            retry_index=message.retry_index,
            execution=measure(message.made_at, began_at, now, self.worker_name),
        )
        return make_report(message, delegated)

    @property
    def has_coder(self) -> bool:
        """Whether payloads are compressed or encrypted. Decoding them may take a while then."""
        return self._coder is not None

    def make_pulse(self, message: ExecuteTask, seconds: float, send: Send) -> Pulse:
        """Make the heartbeats of an attempt that is about to run.

        Args:
            message: what is to be run.
            seconds: its heartbeat timeout.
            send: publishes what it says.
        """
        return Pulse(message, seconds, send, self._max_payload, self._coder)

    def report_deaths(self, message: ExecuteTask) -> Outgoing:
        """Make the report of a task with which too many processes have died."""
        died = WorkerDied(f"{message.deaths} processes died while they ran this task")
        return self.failures.make_final(message, died)

    def _unknown_task(self, message: ExecuteTask) -> UnknownTask:
        known = ", ".join(sorted(self.service.tasks))
        return UnknownTask(f"Service {self.service.name} has no task '{message.task}'; it has {known}")

    @staticmethod
    async def _decode(message: ExecuteTask, coder: Coder) -> bytes:
        async def decode() -> bytes:
            return await coder.decode_outside(message.arguments)

        what = f"Decoding the arguments of {message.service}.{message.task}"
        return await retry_while_unavailable(what, decode, patience=CODEC_PATIENCE)

    @staticmethod
    async def _encode_result(message: ExecuteTask, data: bytes, coder: Coder) -> bytes:
        """Encode a result. It waits for the codec, however long: the task must not run again."""

        async def encode() -> bytes:
            return await coder.encode_outside(data)

        return await retry_while_unavailable(f"Encoding the result of {message.service}.{message.task}", encode)

    async def _call_inside_layers(
        self, code: Code, current: CurrentTask, variables: Context, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run an attempt inside the middlewares, if there are any."""
        if self.layers:
            return await _run_in(variables, self._run_inside_layers(code, current, args, kwargs))
        return await self.call(code, current, variables, args, kwargs)

    async def _run_inside_layers(
        self, code: Code, current: CurrentTask, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run an attempt inside the middlewares. The task sees their context variables."""
        context = current.context
        context.args, context.kwargs = args, kwargs
        return await run_through(self.layers, context, lambda: self.call(code, current, copy_context(), args, kwargs))

    async def call(
        self,
        code: Code,
        current: Stoppable,
        variables: Context,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call the code of users, and wait for its end.

        Args:
            code: what to call.
            current: told to stop when the time is over.
            variables: the context variables that it sees.
            args: its arguments.
            kwargs: those by name.

        Raises:
            AttemptTimedOut: it took too long, and was cancelled.
            BaseException: what the code raises.
        """
        if code.seconds is None:
            return await self._call(code, current, variables, args, kwargs)
        scope = asyncio.timeout(code.seconds)
        try:
            async with scope:
                with _on_cancel(current.cancel):
                    return await self._call(code, current, variables, args, kwargs)
        except TimeoutError:
            # It may be one that the task itself raised.
            if not scope.expired():
                raise
            raise AttemptTimedOut(f"The attempt took longer than {code.seconds:g} s") from None

    async def _call(
        self,
        code: Code,
        current: Stoppable,
        variables: Context,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if code.is_coroutine:
            return await _run_in(variables, code.function(*args, **kwargs))
        current.is_blocking = True
        value = await self._blocking(lambda: variables.run(code.function, *args, **kwargs))
        current.is_blocking = False
        if inspect.iscoroutine(value):
            if current.is_cancelled:
                value.close()
                raise asyncio.CancelledError
            # A `def` task that returns what an `async def` function gave.
            return await _run_in(variables, value)
        return value


@contextlib.contextmanager
def _on_cancel(callback: Callable[[], None]) -> Generator[None, None, None]:
    try:
        yield
    except asyncio.CancelledError:
        callback()
        raise
