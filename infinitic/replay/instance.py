"""One live workflow instance: the object, its private loop, and what it waits for.

`activate` hands it stimuli and gives back the commands that its code asked for. The same method runs it for the first
time and in replay; then every command is compared with the history, and nothing is asked for twice.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any, assert_never, cast

from msgspec import Raw

from infinitic.clock import to_datetime
from infinitic.definitions.channels import BoundChannel
from infinitic.definitions.combination import Combination
from infinitic.definitions.deferred import Deferred, Waitable
from infinitic.definitions.home import WorkflowContext
from infinitic.definitions.stubs import INSTANCE, TaskStub
from infinitic.definitions.workflow_spec import MethodSpec, WorkflowSpec, build
from infinitic.errors import (
    DecodingError,
    TaskFailedError,
    TaskFailure,
    TaskTimedOutError,
    UsageError,
)
from infinitic.failures import describe
from infinitic.limits import MAX_VALUE_DEPTH, Limits, extra_size, is_deeper, largest_argument
from infinitic.messages.commands import (
    CancelMethod,
    CancelPosition,
    Command,
    CompleteMethod,
    FailMethod,
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
from infinitic.messages.outcomes import MethodFailure, cause_of, fit_method
from infinitic.replay import divergence
from infinitic.replay.awaited import ReplayLogger, TaskDeferred, TimerDeferred
from infinitic.replay.inline import InlineRecorder
from infinitic.replay.loop import (
    MAX_STEPS,
    TooManySteps,
    WorkflowLoop,
    WorkflowTask,
    forget,
    has_news,
    name_of,
    news_of,
)
from infinitic.replay.recorder import METHOD, Discarded, Stop

LISTED = 10
MAX_FAILURES = 5
SHALLOW_BYTES = 2 * MAX_VALUE_DEPTH
"""What is shorter cannot be nested deeper than `MAX_VALUE_DEPTH`: it need not be looked at."""
COMMAND_BYTES = 100
"""About what a command takes beside its payload."""


class Instance(InlineRecorder):
    """A workflow object on its private loop. `activations` counts those it has run."""

    def __init__(self, spec: WorkflowSpec, workflow_id: str, meta: Mapping[str, bytes], run: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.id = workflow_id
        self.run = run
        self.meta = meta
        self.loop = WorkflowLoop(self, zlib.crc32(workflow_id.encode()))  # type: ignore[abstract]  # see its end
        self.next_number = self.loop.next_number
        self.activations = 0
        self.handed = 0
        self._object: Any = None
        self._open: dict[int, object] = {}
        self._methods: dict[str, asyncio.Task[None]] = {}
        self._channels: dict[str, BoundChannel[Any]] = {}
        self._conditions: list[tuple[Callable[[], bool], asyncio.Future[None], Context]] = []
        self._canceling = False
        self._unheard: list[tuple[WorkflowTask[Any] | None, str]] = []
        self._random: random.Random | None = None
        self._logger: ReplayLogger | None = None

    # Driven by the engine.

    def activate(
        self,
        at: float,
        stimuli: Sequence[Stimulus],
        recorded: deque[Command] | None = None,
        *,
        each: bool = True,
        limits: Limits | None = None,
    ) -> list[Command]:
        """Hand over stimuli, run until the code waits for something else, and return what it asked for.

        `recorded` are the commands that history holds for this activation; None runs it for the first time. `each`:
        the code comes to rest after each stimulus, so that it does not see which ones travelled together. False: it
        runs when all are there, as activations of release 0.1 did. `limits` bound what is asked for: if that is enough
        after one stimulus, the others are not handed over. `handed` is how many were.

        Raises `TooMuchTogether` if some of the stimuli need an activation of their own.

        Raises `NonDeterminismError` if the code asks for something else, `WorkflowCodeError` if it cannot be run.
        The instance is of no use after that.
        """
        self.loop.now = at
        commands: list[Command] = []
        self._commands = commands
        self._recorded = recorded
        self._limits = limits
        self._room = limits.activation if limits is not None and recorded is None else -1
        self._active = True
        self._recording = recorded is None
        try:
            if self._object is None:
                self._create()
            self.handed = self._asked_before = 0
            if each:
                self._hand_over(stimuli)
            else:
                for stimulus in stimuli:
                    self._apply(stimulus)
                self.handed = len(stimuli)
                self._rest(0)
            if self._unheard or self.loop.failed:
                self._hear()
        except TooManySteps as error:
            self._blame(f"The code never comes to rest: {error}; it is at {self._lines(error.task)}")
        except (Stop, Discarded):
            pass
        except DecodingError as error:
            self._blame(str(error))
        except SystemExit as error:
            self._blame_escape(error)
        finally:
            self._active = self._recording = False
        self.activations += 1
        if self.fault is None and recorded:
            self._diverge(recorded[0], None, None)
        if self.fault is not None:
            raise self.fault
        return commands

    @property
    def at_end(self) -> bool:
        """True if all its methods have ended, and it waits for no task and no timer."""
        return not self._methods and not self._open

    def close(self) -> None:
        """Discard the instance: its coroutines are closed here and now, and nothing they do then is recorded."""
        self.loop.close_dead()
        self._open.clear()

    def _hand_over(self, stimuli: Sequence[Stimulus]) -> None:
        """One by one, each until the code rests; no more once it has asked for enough."""
        commands = self._commands
        for stimulus in stimuli:
            before = len(commands)
            self._apply(stimulus)
            self.handed += 1
            self._rest(before)
            if self.handed == len(stimuli) or self.fault is not None:
                return
            self._asked_before += self._asked + COMMAND_BYTES * (len(commands) - before)
            if self._limits is not None:
                if self._asked_before >= self._limits.enough:
                    return
                if self._recording:
                    self._room = self._limits.activation - self._asked_before

    def _rest(self, before: int) -> None:
        """Run until the code rests. It had asked for `before` things when the stimulus came."""
        self._asked, self._refused, self._before = 0, 0, before
        self.loop.run_ready()
        if self._conditions:
            self._run_conditions()
        if self._recorded is None:
            self._check_count()

    def _create(self) -> None:
        self._channels = {name: BoundChannel(channel, self) for name, channel in self.spec.channels.items()}
        attributes = {INSTANCE: self, **self._channels}
        try:
            if self.spec.plain:
                self._object = build(self.spec, attributes)
            else:
                self._object = Context().run(self.loop.enter, lambda: build(self.spec, attributes))
        except (Stop, Discarded):
            raise
        except Exception as error:
            self._blame(f"The constructor of {self.spec.cls.__qualname__} raised {describe(error)}", error)
            raise Stop from error

    def _run_conditions(self) -> None:
        """Run whoever waits for a condition that holds now, until none does."""
        rounds = 0
        while self._conditions:
            woken = False
            for predicate, future, context in list(self._conditions):
                if not future.done():
                    woken |= self._look_at(predicate, future, context)
            if not woken:
                return
            rounds += 1
            if rounds > MAX_STEPS:
                raise TooManySteps
            self.loop.run_ready()

    def _look_at(self, predicate: Callable[[], bool], future: asyncio.Future[None], context: Context) -> bool:
        """True if there is news for whoever waits for a condition."""
        try:
            if not context.run(self.loop.enter, predicate):
                return False
        except Exception as error:  # noqa: BLE001 (it is raised where the condition is awaited)
            future.set_exception(error)
        else:
            future.set_result(None)
        return True

    def _apply(self, stimulus: Stimulus) -> None:
        match stimulus:
            case TaskResult():
                deferred = self._open.pop(stimulus.position, None)
                if isinstance(deferred, TaskDeferred) and not deferred.done():
                    deferred.set_result(deferred.stub.spec.signature.decode_result(self._unsealed(stimulus.value)))
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
                for method_id, task in list(self._methods.items()):
                    if _is_new(task):
                        task.add_done_callback(partial(self._never_began, method_id))
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
            channel.offer(bytes(self._unsealed(signal.value)))

    # Methods.

    def _start(self, started: MethodStarted) -> None:
        spec = self.spec.methods.get(started.method)
        context = Context()
        context.run(METHOD.set, (started.method_id, started.method))
        if spec is None:
            known = ", ".join(sorted(self.spec.methods))
            self._fail_method(
                started.method_id,
                UsageError(f"The workflow {self.spec.name} has no method '{started.method}'; it has {known}"),
            )
            return
        args, kwargs = spec.signature.decode_arguments(self._unsealed(started.arguments))
        task = self.loop.create_task(self._method(started.method_id, spec, args, kwargs), context=context)
        self._methods[started.method_id] = task

    async def _method(self, method_id: str, spec: MethodSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            value = await getattr(self._object, spec.attribute)(*args, **kwargs)
            data = self._sealed(spec.signature.encode_result(value))
            deep = len(data) > SHALLOW_BYTES and is_deeper(data, MAX_VALUE_DEPTH)
            if deep or not self._has_room(len(data)):
                self._make_room(f"The result of {self.spec.name}.{spec.name}", len(data), deep=deep)
            command: Command = CompleteMethod(method_id, Raw(data))
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
        except BaseException as error:
            if not self.loop.dead and not isinstance(error, Stop | KeyboardInterrupt):
                self._blame_escape(error)
            raise
        self._methods.pop(method_id, None)
        self._command(command)

    def _never_began(self, method_id: str, task: asyncio.Task[None]) -> None:
        """A method was cancelled before its code began: nothing but this callback knows of it."""
        if task.cancelled():
            self._methods.pop(method_id, None)
            self._command(CancelMethod(method_id))

    def _fail_method(self, method_id: str, error: BaseException) -> None:
        foreign = divergence.foreign_await(error)
        if foreign is not None:
            self._blame(
                f"The code awaits something that is not of the workflow: {foreign}, "
                f"at {divergence.raised_at(foreign)}. Put I/O into a task of a service",
                foreign,
            )
            raise Stop
        failure = MethodFailure(describe(error), cause_of(error))
        if self._limits is not None:
            failure = fit_method(failure, self._limits.call)
        failed = FailMethod(method_id, failure)
        self._command(failed, None if self._recording else divergence.raised_at(error))

    def _blame_escape(self, error: BaseException) -> None:
        """Something that is no `Exception` left the code: not a failure that anybody could deal with."""
        self._blame(f"The code of a workflow raised {error!r}, at {divergence.raised_at(error)}", error)

    # Asked for by the code.

    def dispatch(self, method: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Deferred[Any]:
        """Ask for a task. Raises `UsageError` if `method` is not that of a stub of this workflow."""
        if not isinstance(method, TaskStub) or method.instance is not self:
            raise UsageError(
                f"dispatch takes a method of a stub, as in self.dispatch(self.hotels.book, …), got {method!r}"
            )
        return self.schedule(method, method.spec.signature.encode_arguments(args, kwargs))

    def schedule(self, stub: TaskStub, arguments: bytes) -> TaskDeferred:
        """Ask for a task whose arguments are encoded already."""
        if not self._recording:
            self._check()
        data = arguments if self.spec.coder is None else self._sealed(arguments)
        size = len(data)
        if stub.tags or stub.meta:
            size += extra_size(stub.tags, stub.meta)
        deep = size > SHALLOW_BYTES and is_deeper(data, MAX_VALUE_DEPTH)
        if deep or not self._has_room(size):
            what = f"The arguments of {stub.service}.{stub.spec.name}"
            self._make_room(what, size, lambda: largest_argument(arguments), deep=deep)
        position = self._position
        self._position = position + 1
        timeout_at = None if stub.total_timeout is None else self.loop.now + stub.total_timeout
        command = ScheduleTask(position, stub.service, stub.spec.name, Raw(data), stub.tags, stub.meta, timeout_at)
        if self._recording and self.fault is None:
            self._commands.append(command)  # what `_command` does in the usual case, without the call
        else:
            self._command(command)
        deferred = TaskDeferred(self, position, stub)
        self._open[position] = deferred
        return deferred

    def timer(self, due: float) -> Deferred[Any]:
        """Ask for a timer; one that is past is due already, and is no command."""
        try:
            instant = to_datetime(due)
        except (ValueError, OverflowError) as error:
            raise UsageError("A timer is due in the years 1 to 9999") from error
        if due <= self.loop.now:
            self._check()
            passed = TimerDeferred(self, -1, due)
            passed.set_result(instant)
            return passed
        position = self._next()
        command = self._command(StartTimer(position, due))
        deferred = TimerDeferred(self, position, command.due if isinstance(command, StartTimer) else due)
        self._open[position] = deferred
        return deferred

    def start_timer(self, due: float, handle: object) -> int:
        """Ask for a timer that fires a handle of the loop, and return its position."""
        position = self._next()
        self._command(StartTimer(position, due))
        self._open[position] = handle
        return position

    def cancel_position(self, position: int) -> None:
        """Say that nobody waits for this position any more."""
        if self.loop.dead or position not in self._open:
            return
        if not self._recording:
            self._check()
        del self._open[position]
        self._command(CancelPosition(position))

    def combine(self, parts: Sequence[Waitable[Any]], *, every: bool) -> Deferred[Any]:
        """`all_of` (every) or `any_of` parts."""
        return Combination(self, parts, every=every)

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Wait until a condition over the attributes holds."""
        while not predicate():
            condition = (predicate, self.loop.create_future(), copy_context())
            self._conditions.append(condition)
            try:
                await condition[1]
            finally:
                self._conditions.remove(condition)

    @property
    def context(self) -> WorkflowContext:
        """What the code may know about its workflow, and which method runs."""
        return WorkflowContext(self.id, self.spec.name, self.spec.version, *METHOD.get(), self.meta)

    @property
    def random(self) -> random.Random:
        """Random numbers that depend on nothing but the id of the instance."""
        if self._inline:
            raise UsageError("The function of inline() must not draw from the workflow: replay would not")
        if self._random is None:
            self._random = random.Random(f"{self.id}/{self.run}")
        return self._random

    @property
    def logger(self) -> ReplayLogger:
        """A logger that is silent during replay."""
        if self._logger is None:
            cls = self.spec.cls
            self._logger = ReplayLogger(self, f"{cls.__module__}.{cls.__qualname__}")
        return self._logger

    def note(self, message: str, *args: object) -> None:
        """Log a warning, once, not in every replay."""
        self.logger.warning(message, *args)

    def report(self, context: dict[str, Any]) -> None:
        """Take note of an exception that nobody handles."""
        error = context.get("exception")
        if not self.loop.dead and not isinstance(error, Stop | Discarded):
            self._tell(str(context.get("message")), error)

    def _hear(self) -> None:
        """The code is at rest: tell of the background tasks that raised, and that nobody has awaited so far."""
        if self._unheard:
            self._unheard = [each for each in self._unheard if each[0] is None or has_news(each[0])]
        if not self.loop.failed:
            return
        failed, self.loop.failed = self.loop.failed, []
        for task in filter(has_news, failed):
            error = news_of(task)
            if not isinstance(error, Stop | Discarded):
                what = f"The background task {name_of(task)} failed, and nobody has awaited it so far,"
                self._tell(what, error, task)
        while len(self._unheard) > LISTED:
            forget(self._unheard.pop(0)[0])

    def _tell(self, what: str, error: BaseException | None, task: WorkflowTask[Any] | None = None) -> None:
        self.logger.warning("%s in workflow %s %s", what, self.spec.name, self.id, exc_info=error)
        if error is not None and self._active:
            self._unheard.append((task, divergence.in_one_line(error)))

    @property
    def failures(self) -> tuple[str, ...]:
        """What background tasks raised and nobody has awaited so far, a line each: the last ones."""
        return tuple(text for _, text in self._unheard[-MAX_FAILURES:]) if self._unheard else ()

    def _lines(self, last: asyncio.Task[Any] | None) -> str:
        """Where a task is, or, if nothing is known of it, where those are that are not done."""
        tasks = [last] if last is not None and divergence.line_of(last.get_coro()) else self.loop.pending()
        lines = [line for task in tasks if (line := divergence.line_of(task.get_coro())) is not None]
        return ", ".join(dict.fromkeys(lines[:LISTED])) or "an unknown line"


def _is_new(task: asyncio.Task[Any]) -> bool:
    """True if the code of a task has not begun."""
    return inspect.getcoroutinestate(cast("Coroutine[Any, Any, Any]", task.get_coro())) == inspect.CORO_CREATED
