"""One live workflow instance: the object, its private loop, and what it waits for.

`activate` hands it stimuli and gives back the commands that its code asked for. The same method runs it for the first
time and in replay; then every command is compared with the history, and nothing is asked for twice.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, ContextVar
from typing import Any, NoReturn, assert_never

from msgspec import Raw

from infinitic import ids
from infinitic.clock import to_datetime
from infinitic.codec import value_codec
from infinitic.errors import (
    DecodingError,
    DeferredError,
    ExceptionDetail,
    InfiniticError,
    NonDeterminismError,
    TaskCanceledError,
    TaskFailedError,
    TaskFailure,
    TaskTimedOutError,
    UsageError,
    WorkflowCodeError,
)
from infinitic.failures import describe
from infinitic.messages.commands import (
    CancelMethod,
    CancelPosition,
    Command,
    CompleteMethod,
    FailMethod,
    RecordInline,
    ScheduleTask,
    StartTimer,
)
from infinitic.messages.events import (
    CancelRequested,
    MethodStarted,
    SignalReceived,
    Stimulus,
    TaskError,
    TaskResult,
    TaskTimeout,
    TimerFired,
)
from infinitic.messages.outcomes import MethodFailure, cause_of
from infinitic.registry import result_hint
from infinitic.replay import divergence
from infinitic.replay.channels import BoundChannel
from infinitic.replay.deferred import Deferred
from infinitic.replay.loop import TooManySteps, WorkflowLoop
from infinitic.replay.spec import MethodSpec, WorkflowSpec, build
from infinitic.replay.stubs import INSTANCE, TaskStub

_METHOD: ContextVar[tuple[str, str]] = ContextVar("infinitic_method", default=("", ""))


class Discarded(BaseException):
    """This instance is discarded: what its cleanup code asks for is not recorded."""


class _Stop(BaseException):
    """The activation has gone wrong; its code must not go on. The reason is in `Instance.fault`."""


class TaskDeferred(Deferred[Any]):
    """The result of a task."""

    def __init__(self, instance: Instance, position: int, stub: TaskStub) -> None:
        super().__init__(instance, position)
        self.stub = stub

    @property
    def id(self) -> str:
        home: Any = self.home
        return ids.task_id(home.id, home.run, self._position)

    def _cancellation(self) -> DeferredError:
        return TaskCanceledError(self.stub.service, self.stub.spec.name, self.id)


class TimerDeferred(Deferred[Any]):
    """A timer. Its value is the instant at which it was due."""

    def __init__(self, instance: Instance, position: int, due: float) -> None:
        super().__init__(instance, position)
        self.due = due

    def _cancellation(self) -> DeferredError:
        return TaskCanceledError("timer", to_datetime(self.due).isoformat(), str(self._position))


class _ReplayLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that is silent while its instance replays."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(logging.getLogger(instance.spec.cls.__module__ + "." + instance.spec.cls.__qualname__), {})
        self._instance = instance

    def isEnabledFor(self, level: int) -> bool:
        return not self._instance.replaying and super().isEnabledFor(level)


class Instance:
    """A workflow object on its private loop. `activations` counts those it has run."""

    def __init__(self, spec: WorkflowSpec, workflow_id: str, meta: Mapping[str, bytes], run: int = 0) -> None:
        self.spec = spec
        self.id = workflow_id
        self.run = run
        self.meta = meta
        self.loop = WorkflowLoop(self, zlib.crc32(workflow_id.encode()))  # type: ignore[abstract]  # see its end
        self.next_number = self.loop.next_number
        self.fault: InfiniticError | None = None
        self.activations = 0
        self._object: Any = None
        self._open: dict[int, object] = {}
        self._position = 0
        self._methods: dict[str, asyncio.Task[None]] = {}
        self._channels: dict[str, BoundChannel[Any]] = {}
        self._conditions: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._commands: list[Command] = []
        self._recorded: deque[Command] | None = None
        self._active = False
        self._recording = False
        self._inline = False
        self._canceling = False
        self._random: random.Random | None = None
        self._logger: _ReplayLogger | None = None

    # Driven by the engine.

    def activate(self, at: float, stimuli: Sequence[Stimulus], recorded: deque[Command] | None = None) -> list[Command]:
        """Hand over stimuli, run until the code waits for something else, and return what it asked for.

        `recorded` are the commands that history holds for this activation; None runs it for the first time.

        Raises `NonDeterminismError` if the code asks for something else, `WorkflowCodeError` if it cannot be run.
        The instance is of no use after that.
        """
        self.loop.now = at
        commands: list[Command] = []
        self._commands = commands
        self._recorded = recorded
        self._active = True
        self._recording = recorded is None
        try:
            if self._object is None:
                self._create()
            for stimulus in stimuli:
                self._apply(stimulus)
            self._run()
        except TooManySteps as error:
            self._blame(f"The code never comes to rest: {error}; it is at {self._lines()}")
        except (_Stop, Discarded):
            pass
        except DecodingError as error:
            self._blame(str(error))
        except SystemExit as error:
            self._blame(f"The code of a workflow raised {error!r}")
        finally:
            self._active = self._recording = False
        self.activations += 1
        if self.fault is None and recorded:
            self._diverge(recorded[0], None)
        if self.fault is not None:
            raise self.fault
        return commands

    def close(self) -> None:
        """Discard the instance: its coroutines are closed here and now, and nothing they do then is recorded."""
        self.loop.close_dead()
        self._open.clear()

    @property
    def replaying(self) -> bool:
        """True while the instance repeats what its history holds."""
        return self._recorded is not None

    def _create(self) -> None:
        try:
            if self.spec.plain:
                self._object = build(self.spec, INSTANCE, self)
            else:
                self._object = Context().run(self._enter, lambda: build(self.spec, INSTANCE, self))
        except (_Stop, Discarded):
            raise
        except Exception as error:
            self._blame(f"The constructor of {self.spec.cls.__qualname__} raised {describe(error)}", error)
            raise _Stop from error
        for name, channel in self.spec.channels.items():
            self._channels[name] = vars(self._object)[name] = BoundChannel(channel, self)

    def _enter(self, call: Callable[[], Any]) -> Any:
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self.loop)
        try:
            return call()
        finally:
            asyncio._set_running_loop(outer)

    def _run(self) -> None:
        self.loop.run_ready()
        while self._conditions:
            woken = False
            for predicate, future in list(self._conditions):
                if not future.done() and self._enter(predicate):
                    future.set_result(None)
                    woken = True
            if not woken:
                return
            self.loop.run_ready()

    def _apply(self, stimulus: Stimulus) -> None:
        match stimulus:
            case TaskResult():
                deferred = self._open.pop(stimulus.position, None)
                if isinstance(deferred, TaskDeferred) and not deferred.done():
                    deferred.set_result(deferred.stub.spec.signature.decode_result(stimulus.value))
            case TimerFired():
                waiting = self._open.pop(stimulus.position, None)
                if isinstance(waiting, TimerDeferred):
                    if not waiting.done():
                        waiting.set_result(to_datetime(waiting.due))
                elif waiting is not None:
                    self.loop.fire(waiting)
            case TaskError():
                self._fail_task(stimulus.position, stimulus.failure)
            case TaskTimeout():
                self._fail_task(stimulus.position, None)
            case SignalReceived():
                self._signal(stimulus)
            case MethodStarted():
                self._start(stimulus)
            case CancelRequested():
                self._canceling = True
                for task in list(self._methods.values()):
                    task.cancel()
            case _:
                assert_never(stimulus)

    def _fail_task(self, position: int, failure: TaskFailure | None) -> None:
        deferred = self._open.pop(position, None)
        if isinstance(deferred, TaskDeferred) and not deferred.done():
            stub = deferred.stub
            if failure is not None:
                deferred.fail(TaskFailedError(stub.service, stub.spec.name, deferred.id, failure))
            else:
                deferred.fail(TaskTimedOutError(stub.service, stub.spec.name, deferred.id))

    def _signal(self, signal: SignalReceived) -> None:
        channel = self._channels.get(signal.channel)
        if channel is None:
            self.note("%s has no channel '%s': its signal is dropped", self.spec.name, signal.channel)
        else:
            channel.offer(bytes(signal.value))

    # Methods.

    def _start(self, started: MethodStarted) -> None:
        spec = self.spec.methods.get(started.method)
        context = Context()
        context.run(_METHOD.set, (started.method_id, started.method))
        if spec is None:
            known = ", ".join(sorted(self.spec.methods))
            self._fail_method(
                started.method_id,
                UsageError(f"The workflow {self.spec.name} has no method '{started.method}'; it has {known}"),
            )
            return
        args, kwargs = spec.signature.decode_arguments(started.arguments)
        task = self.loop.create_task(self._method(started.method_id, spec, args, kwargs), context=context)
        self._methods[started.method_id] = task

    async def _method(self, method_id: str, spec: MethodSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            value = await getattr(self._object, spec.attribute)(*args, **kwargs)
            command: Command = CompleteMethod(method_id, Raw(spec.signature.encode_result(value)))
        except asyncio.CancelledError as error:
            if not self._canceling:
                self._methods.pop(method_id, None)
                self._fail_method(method_id, error)
                return
            command = CancelMethod(method_id)
        except Exception as error:  # noqa: BLE001 (whatever the code raises fails its method)
            self._methods.pop(method_id, None)
            self._fail_method(method_id, error)
            return
        self._methods.pop(method_id, None)
        self._command(command)

    def _fail_method(self, method_id: str, error: BaseException) -> None:
        detail = describe(error)
        if isinstance(error, RuntimeError) and _is_foreign_await(str(error)):
            self._blame(
                f"The code awaits something that is not of the workflow: {error}. Put I/O into a task of a service; "
                f"{_last_line(detail)}",
                error,
            )
            raise _Stop
        self._command(FailMethod(method_id, MethodFailure(detail, cause_of(error))))

    def current_method(self) -> tuple[str, str]:
        """Id and name of the method whose code runs."""
        return _METHOD.get()

    # Asked for by the code.

    def _command(self, command: Command) -> None:
        """Record a command, or in replay compare it with the recorded one."""
        if self._recording and self.fault is None:
            self._commands.append(command)
            return
        if self.loop.dead:
            raise Discarded
        if self.fault is not None:
            raise _Stop
        self._check()
        if self._recorded is None:
            self._commands.append(command)
            return
        recorded = self._recorded.popleft() if self._recorded else None
        if recorded is None or not divergence.same(recorded, command, self.spec.check):
            self._diverge(recorded, command)
            raise _Stop
        self._commands.append(recorded)

    def _check(self) -> None:
        if self._inline:
            raise UsageError("The function of inline() must not use stubs, timers or channels of the workflow")
        if not self._active:
            if self.loop.dead:
                raise Discarded
            raise UsageError("This workflow object can only be used by its own code, while it runs")

    def _next(self) -> int:
        position = self._position
        self._position = position + 1
        return position

    def dispatch(self, method: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Deferred[Any]:
        """Ask for a task. Raises `UsageError` if `method` is not that of a stub of this workflow."""
        if not isinstance(method, TaskStub) or method.instance is not self:
            raise UsageError(
                f"dispatch takes a method of a stub, as in self.dispatch(self.hotels.book, …), got {method!r}"
            )
        return self.schedule(method, method.spec.signature.encode_arguments(args, kwargs))

    def schedule(self, stub: TaskStub, arguments: bytes) -> TaskDeferred:
        """Ask for a task whose arguments are encoded already."""
        position = self._position
        self._position = position + 1
        timeout_at = None if stub.total_timeout is None else self.loop.now + stub.total_timeout
        self._command(
            ScheduleTask(position, stub.service, stub.spec.name, Raw(arguments), stub.tags, stub.meta, timeout_at)
        )
        deferred = TaskDeferred(self, position, stub)
        self._open[position] = deferred
        return deferred

    def timer(self, due: float) -> Deferred[Any]:
        """Ask for a timer; one that is past is due already, and is no command."""
        if due <= self.loop.now:
            self._check()
            passed = TimerDeferred(self, -1, due)
            passed.set_result(to_datetime(due))
            return passed
        position = self.start_timer(due, None)
        deferred = TimerDeferred(self, position, due)
        self._open[position] = deferred
        return deferred

    def start_timer(self, due: float, waiting: object) -> int:
        position = self._next()
        self._command(StartTimer(position, due))
        self._open[position] = waiting
        return position

    def cancel_position(self, position: int) -> None:
        if self.loop.dead or self._open.pop(position, None) is None:
            return
        self._command(CancelPosition(position))

    def inline(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function once and record what came of it; in replay, give what was recorded."""
        self._check()
        name = getattr(function, "__qualname__", type(function).__qualname__)
        codec = value_codec(result_hint(function))
        position = self._next()
        command = RecordInline(position, name)
        if self._recorded is None:
            command = self._call_inline(command, function, args, kwargs)
        elif self._recorded and isinstance(self._recorded[0], RecordInline):
            command = RecordInline(position, name, self._recorded[0].value, self._recorded[0].failure)
        self._command(command)
        if command.failure is not None:
            failure = TaskFailure(command.failure.exception, at=self.loop.now)
            raise TaskFailedError("inline", name, ids.task_id(self.id, self.run, position), failure)
        return codec.decode(bytes(command.value))

    def _call_inline(
        self, command: RecordInline, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RecordInline:
        self._inline, self._recording = True, False
        try:
            value = function(*args, **kwargs)
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 (recorded, whatever it is)
            return RecordInline(command.position, command.name, failure=MethodFailure(describe(error), cause_of(error)))
        finally:
            self._inline, self._recording = False, True
        if inspect.iscoroutine(value):
            value.close()
            raise UsageError(f"inline takes a plain function; {command.name} is a coroutine function: use a task")
        data = value_codec(result_hint(function)).encode(value)
        return RecordInline(command.position, command.name, Raw(data))

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Wait until a condition over the attributes holds."""
        while not predicate():
            condition = (predicate, self.loop.create_future())
            self._conditions.append(condition)
            try:
                await condition[1]
            finally:
                self._conditions.remove(condition)

    @property
    def random(self) -> random.Random:
        """Random numbers that depend on nothing but the id of the instance."""
        if self._random is None:
            self._random = random.Random(f"{self.id}/{self.run}")
        return self._random

    @property
    def logger(self) -> _ReplayLogger:
        """A logger that is silent during replay."""
        if self._logger is None:
            self._logger = _ReplayLogger(self)
        return self._logger

    # Faults.

    def note(self, message: str, *args: object) -> None:
        self.logger.warning(message, *args)

    def report(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not self.loop.dead and not isinstance(error, _Stop | Discarded):
            self.logger.warning("%s in workflow %s %s", context.get("message"), self.spec.name, self.id, exc_info=error)

    def refuse(self, what: str) -> NoReturn:
        if self.loop.dead:
            raise Discarded
        error = WorkflowCodeError(
            f"Workflow {self.spec.name} {self.id}: {what} is not possible in the code of a workflow, "
            f"at {divergence.source_line()}. Put I/O and threads into a task of a service"
        )
        self.fault = self.fault or error
        raise error

    def _blame(self, reason: str, cause: BaseException | None = None) -> None:
        if self.fault is None:
            self.fault = WorkflowCodeError(f"Workflow {self.spec.name} {self.id}: {reason}")
            self.fault.__cause__ = cause

    def _diverge(self, recorded: Command | None, requested: Command | None) -> None:
        if self.fault is None:
            positions = [getattr(each, "position", None) for each in (recorded, requested)]
            position: int = next((each for each in positions if each is not None), self._position)
            self.fault = NonDeterminismError(
                f"Workflow {self.spec.name} {self.id}, version {self.spec.version}, "
                f"method {self.current_method()[1] or 'none'}, position {position}: the history holds "
                f"{divergence.describe(recorded)}, the code asks for {divergence.describe(requested)}"
                + (f", at {divergence.source_line()}" if requested is not None else "")
                + ". Was the code changed, or does it iterate a set of str?"
            )

    def _lines(self) -> str:
        lines = [
            f"{frame.f_code.co_filename}:{frame.f_lineno}"
            for task in self._methods.values()
            for frame in task.get_stack()[-1:]
        ]
        return ", ".join(lines) or "an unknown line"


def _is_foreign_await(message: str) -> bool:
    return "attached to a different loop" in message or "Task got bad yield" in message


def _last_line(detail: ExceptionDetail) -> str:
    lines = [line.strip() for line in detail.traceback.splitlines() if line.strip().startswith("File ")]
    user = [line for line in lines if not line.startswith(f'File "{divergence.PACKAGE}')]
    return (user or lines or ["at an unknown line"])[-1]
