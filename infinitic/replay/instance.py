"""One live workflow instance: the object, its private loop, and what it waits for.

`activate` hands it stimuli and gives back the commands that its code asked for. The same method
runs it for the first time and in replay; then every command is compared with the history, and
nothing is asked for twice.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from typing import Any, NoReturn, assert_never

from msgspec import Raw

from infinitic.clock import to_datetime
from infinitic.definitions.channels import BoundChannel
from infinitic.definitions.combination import Combination
from infinitic.definitions.deferred import Deferred, Waitable
from infinitic.definitions.home import WorkflowContext
from infinitic.definitions.stubs import INSTANCE, TaskStub
from infinitic.definitions.workflow_spec import WorkflowSpec, make_object
from infinitic.definitions.workflow_stubs import RemoteMethod
from infinitic.errors import DecodingError, UsageError
from infinitic.failures import describe
from infinitic.ids import check_name
from infinitic.limits import MAX_OPEN, MAX_VALUE_DEPTH, Limits, describe_largest_argument, is_deeper, measure_extra
from infinitic.messages.commands import CancelPosition, Command, ScheduleTask, StartTimer
from infinitic.messages.events import (
    CancelRequested,
    Carry,
    MethodStarted,
    RemoteError,
    RemoteResult,
    SignalReceived,
    Started,
    Stimulus,
    TaskCanceled,
    TaskError,
    TaskResult,
    TaskTimeout,
    TimerFired,
)
from infinitic.replay.awaited import ReplayLogger, TaskDeferred, TimerDeferred
from infinitic.replay.background import BackgroundFailures
from infinitic.replay.conditions import Conditions
from infinitic.replay.inline import call_once
from infinitic.replay.loop import TooManySteps, WorkflowLoop
from infinitic.replay.methods import SHALLOW_BYTES, Methods
from infinitic.replay.places import list_waiting_lines
from infinitic.replay.queries import ask
from infinitic.replay.recorder import IDLE, INLINE, MAX_COMMANDS, METHOD, RECORD, Recorder
from infinitic.replay.remotes import RemoteDeferred, RemoteRequests
from infinitic.replay.rerunning import Rerunnable
from infinitic.replay.stops import Discarded, StopActivation
from infinitic.replay.watcher import ReplayWatcher


class Instance(RemoteRequests, Rerunnable):
    """A workflow object on its private loop.

    Attributes:
        spec: what was read of its class.
        id: the id of the instance.
        run: the number of its run.
        meta: what the client gave that started it.
        tags: those that it was started with.
        loop: its private loop.
        activations: how many activations it has run.
        recorder: records what its code asks for.
        open: what its code waits for, by position.
        failures: what background tasks raised and nobody has awaited, a line for each.
        cleanup: once the code was told that it is cancelled, the next free position at that moment.
        next_number: numbers a task, future, deferred or receiver: it hashes by this number.

    Args:
        watcher: is shown each command of a replay, for tools of tests.
    """

    def __init__(
        self,
        spec: WorkflowSpec,
        workflow_id: str,
        meta: Mapping[str, bytes],
        run: int = 0,
        *,
        watcher: ReplayWatcher | None = None,
    ) -> None:
        self.spec = spec
        self.id = workflow_id
        self.run = run
        self.meta = meta
        self.tags: tuple[str, ...] = ()
        self.custom_id = ""
        self.loop = WorkflowLoop(self, zlib.crc32(workflow_id.encode()))  # type: ignore[abstract]  # see its end
        self.next_number = self.loop.next_number
        self.activations = 0
        self.cleanup: int | None = None
        self.recorder = self._recorder = Recorder(spec, workflow_id, self.loop)
        self._recorder.watcher = watcher
        self._background: BackgroundFailures | None = None
        self.failures: tuple[str, ...] = ()
        self._object: Any = None
        self.open = self._open = dict[int, object]()
        self._methods = Methods(spec, self.loop, self._recorder)
        self._channels: dict[str, BoundChannel[Any]] = {}
        self._conditions = Conditions(self.loop)
        self._random: random.Random | None = None
        self._logger: ReplayLogger | None = None

    # Driven by the engine.

    def note_start(self, started: Started) -> None:
        """Note what the instance was started with. This comes before its first activation."""
        self.tags, self.custom_id = started.tags, started.custom_id

    def activate(
        self,
        at: float,
        stimuli: Sequence[Stimulus],
        recorded: deque[Command] | None = None,
        *,
        each: bool = True,
        limits: Limits | None = None,
    ) -> list[Command]:
        """Hand over stimuli, run the code until it waits, and return what it asked for.

        If this raises, the instance must not be used any more.

        Args:
            at: the time of the activation: seconds since 1970.
            stimuli: what has happened, in order.
            recorded: the commands that history holds for this activation; None to run it for the
                first time.
            each: whether the code rests after each stimulus, so that it does not see which ones
                travelled together. False: it runs when all are there, as in release 0.1.
            limits: bound what the code asks for. If that is enough after one stimulus, the others
                are not handed over; `handed` is how many were.

        Returns:
            The commands that the code gave, in order.

        Raises:
            NonDeterminismError: the code asks for something else than history holds.
            WorkflowCodeError: the code cannot be run.
            PayloadUnavailable: a codec could not encode or decode a payload now.
            TooMuchTogether: some of the stimuli need an activation of their own.
        """
        self.loop.now = at
        recorder = self._recorder
        again, self.rerun = self.rerun, None
        commands = recorder.begin(recorded, limits) if again is None else again.begin(recorder, limits)
        try:
            if self._object is None:
                self._create()
            if each:
                self._hand_over(stimuli)
            else:
                recorder.begin_stimuli(len(stimuli))
                for stimulus in stimuli:
                    self._apply(stimulus)
                self._rest()
            if self._background is not None or self.loop.failed:
                background = self._failures()
                background.collect()
                self.failures = background.lines
        except TooManySteps as error:
            recorder.blame(
                f"The code never stops: {error}; it is at {list_waiting_lines(self.loop.pending(), error.task)}"
            )
        except (StopActivation, Discarded):
            pass
        except DecodingError as error:
            recorder.blame(str(error))
        except SystemExit as error:
            recorder.blame_escape(error)
        finally:
            recorder.mode = IDLE
        self.activations += 1
        if recorded or again is not None:
            recorder.end()
        if recorder.fault is not None:
            raise recorder.fault
        return commands if again is None else again.finish(recorder, commands)

    @property
    def carry(self) -> Carry | None:
        """What the next run gets; None: the first method has asked for none."""
        return self._methods.make_carry(self._channels, self.tags, self.custom_id)

    def query(self, name: str, arguments: Raw) -> bytes:
        """Ask something of the code, which rests. For all else see `ask`."""
        return ask(self, self._recorder, self._object, name, arguments)

    @property
    def handed(self) -> int:
        """How many stimuli the latest activation handed to the code."""
        return self._recorder.handed

    @property
    def replaying(self) -> bool:
        """True while the instance repeats what its history holds."""
        return self._recorder.replaying

    @property
    def at_end(self) -> bool:
        """True if all its methods have ended, and it waits for no task and no timer."""
        return not self._methods and not self._open

    def close(self) -> None:
        """Discard the instance: its coroutines are closed here and now.

        Nothing that they do then is recorded.
        """
        self.loop.close_dead()
        self._open.clear()

    def _hand_over(self, stimuli: Sequence[Stimulus]) -> None:
        """Hand over one stimulus after another, and run the code after each until it waits.

        Stop once the code has asked for as much as fits into one activation.
        """
        recorder = self._recorder
        last = len(stimuli)
        for stimulus in stimuli:
            recorder.begin_stimuli()
            self._apply(stimulus)
            self._rest()
            if recorder.handed == last or recorder.fault is not None or not recorder.end_stimulus():
                return

    def _rest(self) -> None:
        """Run until the code rests."""
        self.loop.run_ready()
        if self._conditions.waiting:
            self._conditions.run()
        recorder = self._recorder
        if len(recorder.commands) > MAX_COMMANDS and recorder.mode is RECORD:
            recorder.check_count()

    def _create(self) -> None:
        self._channels = {name: BoundChannel(channel, self) for name, channel in self.spec.channels.items()}
        attributes = {INSTANCE: self, **self._channels}
        try:
            if self.spec.plain:
                self._object = make_object(self.spec, attributes)
            else:
                self._object = Context().run(self.loop.enter, lambda: make_object(self.spec, attributes))
        except (StopActivation, Discarded):
            raise
        except Exception as error:
            self._recorder.blame(f"The constructor of {self.spec.cls.__qualname__} raised {describe(error)}", error)
            raise StopActivation from error

    def _apply(self, stimulus: Stimulus) -> None:
        match stimulus:
            case TaskResult():
                deferred = self._open.pop(stimulus.position, None)
                if isinstance(deferred, TaskDeferred) and not deferred.done():
                    value = stimulus.value
                    data = value if self.spec.coder is None else self._recorder.decode_payload(value)
                    deferred.set_result(deferred.stub.spec.signature.decode_result(data))
            case MethodStarted():
                self._methods.start(stimulus, self._object)
            case TimerFired():
                waiting = self._open.pop(stimulus.position, None)
                if isinstance(waiting, TimerDeferred):
                    if not waiting.done():
                        waiting.set_result(to_datetime(waiting.due))
                elif waiting is not None:
                    self.loop.fire(waiting)
            case TaskError() | TaskTimeout() | TaskCanceled():
                self._fail_task(stimulus)
            case SignalReceived():
                self._signal(stimulus)
            case CancelRequested():
                if self.cleanup is None and not stimulus.method_id:
                    self.cleanup = self._recorder.position
                self._methods.cancel(stimulus.method_id)
            case RemoteResult() | RemoteError():
                remote = self._open.pop(stimulus.position, None)
                if isinstance(remote, RemoteDeferred) and not remote.done():
                    remote.settle(self._recorder, stimulus)
            case _:
                assert_never(stimulus)

    def _fail_task(self, why: TaskError | TaskTimeout | TaskCanceled) -> None:
        deferred = self._open.pop(why.position, None)
        if isinstance(deferred, TaskDeferred) and not deferred.done():
            deferred.fail_for(why)
        elif isinstance(deferred, RemoteDeferred) and not deferred.done() and isinstance(why, TaskTimeout):
            deferred.time_out()

    def _signal(self, signal: SignalReceived) -> None:
        channel = self._channels.get(signal.channel)
        if channel is None:
            self.note("%s has no channel '%s': its signal is dropped", self.spec.name, signal.channel)
        else:
            channel.offer(bytes(self._recorder.decode_payload(signal.value)), signal)

    # Asked for by the code.

    def dispatch(self, method: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Deferred[Any]:
        """Ask for a task, a child, or a method of another instance.

        Args:
            method: a method of a stub of this workflow.
            args: its positional arguments.
            kwargs: its other arguments.

        Returns:
            A deferred of its result.

        Raises:
            UsageError: `method` is something else, or cannot be called so.
        """
        if isinstance(method, RemoteMethod) and method.home is self:
            return self.request(method, method.spec.signature.encode_arguments(args, kwargs))
        if not isinstance(method, TaskStub) or method.instance is not self:
            raise UsageError(
                f"dispatch takes a method of a stub, as in self.dispatch(self.hotels.book, …), got {method!r}"
            )
        return self.schedule(method, method.spec.signature.encode_arguments(args, kwargs))

    def schedule(self, stub: TaskStub, arguments: bytes) -> TaskDeferred:
        """Ask for a task whose arguments are encoded already.

        Args:
            stub: the task.
            arguments: its arguments as JSON text.

        Returns:
            A deferred of its result.
        """
        recorder = self._recorder
        if recorder.mode is not RECORD:
            recorder.check()
            recorder.check_open(len(self._open))
        elif len(self._open) >= MAX_OPEN:
            recorder.check_open(len(self._open))
        data = arguments if self.spec.coder is None else recorder.encode_payload(arguments)
        size = len(data)
        if stub.tags or stub.meta:
            size += measure_extra(stub.tags, stub.meta)
        deep = size > SHALLOW_BYTES and is_deeper(data, MAX_VALUE_DEPTH)
        if deep or not recorder.budget.take(size):
            what = f"The arguments of {stub.service}.{stub.spec.name}"
            recorder.make_room(what, size, lambda: describe_largest_argument(arguments), deep=deep)
        position = recorder.next_position()
        timeout_at = None if stub.total_timeout is None else self.loop.now + stub.total_timeout
        command = ScheduleTask(position, stub.service, stub.spec.name, Raw(data), stub.tags, stub.meta, timeout_at)
        recorder.record(command)
        deferred = self._open[position] = TaskDeferred(self, position, stub)
        return deferred

    def timer(self, due: float) -> Deferred[Any]:
        """Ask for a timer. One that is due in the past is no command: it completes at once.

        Args:
            due: when it is due: seconds since 1970.

        Returns:
            A deferred of the instant at which it was due.

        Raises:
            UsageError: no datetime can hold that instant.
        """
        try:
            instant = to_datetime(due)
        except (ValueError, OverflowError) as error:
            raise UsageError("A timer is due in the years 1 to 9999") from error
        if due <= self.loop.now:
            self._recorder.check()
            passed = TimerDeferred(self, -1, due)
            passed.set_result(instant)
            return passed
        self._recorder.check_open(len(self._open))
        position = self._recorder.next_position()
        command = self._recorder.record(StartTimer(position, due, self._name_method()))
        due = command.due if isinstance(command, StartTimer) else due
        deferred = self._open[position] = TimerDeferred(self, position, due)
        return deferred

    def _name_method(self) -> str:
        """Name the method whose code runs, as timers do: the first one has no name."""
        method_id = METHOD.get()[0]
        return "" if method_id == self.id else method_id

    def start_timer(self, due: float, handle: object, *, sleeps: bool) -> int:
        """Ask for a timer that fires a handle of the loop.

        Args:
            due: when it is due: seconds since 1970.
            handle: what the loop runs then.
            sleeps: whether the code does nothing but wait for it.

        Returns:
            The position of the timer.
        """
        self._recorder.check_open(len(self._open))
        position = self._recorder.next_position()
        self._recorder.record(StartTimer(position, due, self._name_method() if sleeps else None))
        self._open[position] = handle
        return position

    def cancel_position(self, position: int) -> None:
        """Say that nobody waits for this position any more."""
        if self.loop.dead or position not in self._open:
            return
        self._recorder.check()
        del self._open[position]
        self._recorder.record(CancelPosition(position))

    def inline(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function once and record what came of it; in replay, give what was recorded.

        Args:
            function: a plain function.
            args: its positional arguments.
            kwargs: its other arguments.
        """
        return call_once(self, self.loop, self._recorder, function, args, kwargs)

    def combine(self, parts: Sequence[Waitable[Any]], *, every: bool) -> Deferred[Any]:
        """Make one deferred of several.

        Args:
            parts: deferreds and receivers.
            every: whether all of them must complete (`all_of`), or one (`any_of`).
        """
        return Combination(self, parts, every=every)

    def continue_as_new(self, method: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """End the first method, and begin the next run with another call."""
        self._methods.continue_run(self._object, self.id, method, args, kwargs)

    def patched(self, change_id: str) -> bool:
        """Whether the instance has a change of its code."""
        return self._recorder.ask_patch(check_name("The id of a change", change_id))

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Wait until a condition over the attributes holds."""
        await self._conditions.wait_until(predicate)

    @property
    def context(self) -> WorkflowContext:
        """What the code may know about its workflow, and which method runs."""
        method_id, method_name, given = METHOD.get()
        meta = {**self.meta, **given} if given else self.meta
        return WorkflowContext(self.id, self.spec.name, self.spec.version, method_id, method_name, meta, self.tags)

    @property
    def random(self) -> random.Random:
        """Random numbers that depend on nothing but the id of the instance."""
        if self._recorder.mode is INLINE:
            raise UsageError("The function of inline() must not use self.random: replay does not call the function")
        if self.loop.runs_query:
            self._recorder.refuse_in_query()
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

    def refuse(self, what: str, instead: str = "Put I/O and threads into a task of a service") -> NoReturn:
        """Refuse what workflow code must not do; the error has the line.

        Args:
            what: what the code did.
            instead: what to do instead, for the error.

        Raises:
            WorkflowCodeError: always, but for the cleanup code of a closed instance.
        """
        self._recorder.refuse(what, instead)

    def report(self, context: dict[str, Any]) -> None:
        """Log an exception that nobody handles. `context` is that of asyncio's handlers."""
        self._failures().report(context)

    def _failures(self) -> BackgroundFailures:
        if self._background is None:
            who = f"{self.spec.name} {self.id}"
            self._background = BackgroundFailures(who, self.loop, self._recorder, self.logger)
        return self._background
