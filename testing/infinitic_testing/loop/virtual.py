"""An event loop in virtual time: a month takes no time, and a hang is an error that says who waits.

It runs callbacks in the order in which they were added. It has no threads, sockets, signals or
subprocesses: a call that needs one raises at once. It injects no faults.
"""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import nullcontext
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from itertools import count
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

from infinitic.errors import InfiniticError, UsageError
from infinitic_testing.choices import Choices
from infinitic_testing.loop.errors import DeadlockError, LivelockError
from infinitic_testing.loop.garbage import STEPS_TO_COLLECT, SteadyCollector
from infinitic_testing.loop.handles import ReadyHandle, VirtualTimer
from infinitic_testing.loop.owners import OWNER, Holder, find_process
from infinitic_testing.loop.refusals import NO_THREADS, explain_refusal, refuse_methods
from infinitic_testing.loop.remains import silence
from infinitic_testing.loop.reports import OnDeadlock, RunningList, explain_deadlock
from infinitic_testing.loop.residents import Residents
from infinitic_testing.loop.stepping import Stepping
from infinitic_testing.loop.tasks import NumberedTask, OrderedWeakSet, never_log_destroy
from infinitic_testing.loop.trace import Trace
from infinitic_testing.tracebacks import make_traceback

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# So many of the last steps are remembered when a livelock is near.
_STEPS_LISTED = 100


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio event loop whose time begins at 0.0 seconds and moves only when nothing can run.

    Then it jumps to the earliest timer. Timers of the same time fire in the order of their
    creation. A timer at `math.inf` never fires, and the loop does not wait for it.

    Args:
        choices: chooses which of the callbacks that can run is next. None: the oldest.
        trace: True: keep a digest of all steps, see `trace_digest`.
        on_deadlock: called when nothing can run and no timer is left. It explains why: its text
            is added to the message of the `DeadlockError`. If it returns an exception, this also
            becomes the ``__cause__``.
        max_steps_per_instant: how many callbacks may run while time stands still. One more raises
            `LivelockError`.
    """

    # BaseEventLoop has these, but its type stubs do not.
    if TYPE_CHECKING:
        _closed: bool
        _debug: bool
        _ready: deque[Any]
        _stopping: bool

        def _check_callback(self, callback: object, method: str) -> None: ...
        def _check_closed(self) -> None: ...

    def __init__(
        self,
        *,
        choices: Choices | None = None,
        trace: bool = False,
        on_deadlock: OnDeadlock | None = None,
        max_steps_per_instant: int = 1_000_000,
    ) -> None:
        super().__init__()
        self.on_deadlock = on_deadlock
        self.is_internal: Callable[[asyncio.Task[Any]], bool] = _show_all
        """Returns true for a task that a `DeadlockError` does not list."""
        self.look_at_calls: Callable[[FrameType, str, Any], object] | None = None
        """Called for each call that workflow code makes, with the arguments of `sys.setprofile`."""
        self.adopt_workflow: Callable[[Any], object] | None = None
        """Called with the loop of each workflow instance that comes into memory."""
        self.max_steps_per_instant = max_steps_per_instant
        self._now = 0.0
        # How many callbacks ran at this instant.
        self._steps = 0
        self._running = RunningList()
        # A heap. Cancelled timers stay in it until it has grown to the limit.
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._timers_limit = 100
        self._sequence = count()
        # How many timers there are for which time moves.
        self._wake_sources = 0
        self._idle_waiters: deque[asyncio.Future[None]] = deque()
        self._asyncgens = OrderedWeakSet[object]()
        self._main: asyncio.Future[Any] | None = None
        self._thread = threading.get_ident()
        self._residents = Residents()
        self._stepping = Stepping(self._ready)
        # True: callbacks know their owners, and each one is looked at before it runs.
        self._is_careful = False
        self._is_silent = False
        self._garbage: SteadyCollector | None = None
        self._steps_to_collect = STEPS_TO_COLLECT
        if choices is not None or trace:
            self.make_repeatable(choices, trace=trace)

    def time(self) -> float:
        """Return the virtual time: seconds since the loop was made."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Do as asyncio does."""
        if self._closed or self._debug:
            return super().call_soon(callback, *args, context=context)
        handle = ReadyHandle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Do as asyncio does.

        Raises:
            ValueError: `when` is not a number (NaN).
        """
        return self._add_timer(when, callback, args, context, wakes=when < math.inf)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Do as asyncio does.

        Raises:
            ValueError: `delay` is not a number (NaN).
        """
        when = self._now + delay
        return self._add_timer(when, callback, args, context, wakes=when < math.inf)

    def call_background(self, when: float, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.TimerHandle:
        """Call `callback` at the time `when`, if the time gets there for another reason.

        This is for maintenance. The timer fires at its time, in order with the others. But time
        does not move for it, and with only such timers left the loop is idle or deadlocked.

        Args:
            when: seconds on the clock of this loop.
            callback: called with `args`.
            args: its arguments.
        """
        return self._add_timer(when, callback, args, None, wakes=False)

    async def wait_idle(self) -> None:
        """Wait until nothing else can run at this instant. Time does not move meanwhile.

        Several waiters resume one by one, in the order of their calls, each when nothing else can
        run again.
        """
        waiter: asyncio.Future[None] = self.create_future()
        self._idle_waiters.append(waiter)
        await waiter

    def create_task(self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:
        """Do as asyncio does, and remember the task in order of creation."""
        step = cast("Coroutine[Any, Any, T]", coro)
        task: asyncio.Task[T]
        if not self._is_careful:
            if self.get_task_factory() is None:
                self._check_closed()
                task = NumberedTask(step, self._residents.make_owner(None), loop=self, **options)
            else:
                task = super().create_task(step, **options)
            self._residents.tasks[task] = None
            return task
        context: Context | None = options.pop("context", None)
        own = copy_context() if context is None else context
        owner = self._residents.own_context(own, find_process(own))
        if self.get_task_factory() is None:
            self._check_closed()
            task = NumberedTask(step, owner, loop=self, context=own, **options)
        elif context is not None:
            task = super().create_task(step, context=context, **options)
        else:
            # The task copies this context. An old factory takes none as an argument.
            create = cast("Callable[..., asyncio.Task[T]]", super().create_task)
            task = own.run(create, step, **options)
        self._residents.tasks[task] = owner.process
        return task

    def start_task(self, coro: Coroutine[Any, Any, T], process: Holder, name: str | None) -> asyncio.Task[T]:
        """Start the first task of a process, or one more from outside. A `Process` calls this."""
        context = copy_context()
        owner = self._residents.own_context(context, process)
        task = NumberedTask(coro, owner, loop=self, name=name, context=context)
        self._residents.tasks[task] = process
        return task

    def make_repeatable(self, choices: Choices | None, *, trace: bool = True) -> None:
        """Put all that happens from now on into an order that depends on nothing but `choices`.

        Callbacks that a step makes ready are sorted by the number of their task. Do this before the
        tasks are made. Garbage is collected at fixed steps until the loop is closed.

        Args:
            choices: chooses which of the callbacks that can run is next. None: the oldest.
            trace: True: keep a digest of all steps, see `trace_digest`.
        """
        if self._garbage is None:
            self._garbage = SteadyCollector()
            self._residents.restart_numbers()
        self._is_careful = True
        self._stepping.choices = choices
        self._stepping.is_canonical = True
        if trace:
            self._stepping.trace = Trace()

    @property
    def has_trace(self) -> bool:
        """True if the loop keeps a digest of all steps."""
        return self._stepping.trace is not None

    def trace_digest(self) -> str:
        """Return a digest of all steps so far: the same for each run of the same seed.

        It is also the same on other versions of Python, unless the program uses a part of asyncio
        that takes more or fewer steps there.

        Raises:
            UsageError: the loop keeps no trace.
        """
        if self._stepping.trace is None:
            raise UsageError("This loop keeps no trace: make it by VirtualLoop(trace=True)")
        return self._stepping.trace.digest()

    def trace_marks(self) -> list[tuple[float, str]]:
        """Return virtual times, each with the digest of all steps until then.

        They tell when two runs of a seed begin to differ. A loop without a trace has none.
        """
        return [] if self._stepping.trace is None else list(self._stepping.trace.marks)

    def pending_tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, in the order of their creation.

        Tasks of killed processes are not among them.
        """
        tasks = self._list_tasks()
        return [task for task, process in tasks if not task.done() and (process is None or process.is_alive)]

    def _list_tasks(self) -> list[tuple[asyncio.Task[Any], Holder | None]]:
        # Some tasks are made by `asyncio.Task(…)`, not by `create_task`.
        return self._residents.list_tasks(asyncio.all_tasks(self), self._ready)

    def adopt(self, process: Holder) -> None:
        """Take care of a process. A `Process` calls this when it is made."""
        self._residents.adopt(process)
        self._is_careful = True
        if self._stepping.trace is not None:
            self._stepping.trace.add_text(process.name)

    def forget(self, process: Holder) -> list[object]:
        """Drop the timers of a process that was killed. It must keep all that is returned.

        Returns:
            Its timers, tasks and asynchronous generators.
        """
        timers = [entry[2] for entry in self._timers if entry[2].process is process]
        if timers:
            self._timers = [entry for entry in self._timers if entry[2].process is not process]
            heapify(self._timers)
        for timer in timers:
            self._timer_handle_cancelled(timer)
        # Also those that count as cancelled: their code may not have ended.
        tasks = [task for task, owner in self._list_tasks() if owner is process]
        generators = [each for each, owner in self._asyncgens.items() if owner is process]
        return [*timers, *tasks, *generators]

    def run_soon(self, handles: Iterable[asyncio.Handle]) -> None:
        """Run callbacks that were held back, in their order."""
        self._ready.extend(handles)

    def resume_processes(self) -> None:
        """End all pauses."""
        for process in self._residents.processes:
            process.resume()

    async def shutdown_asyncgens(self) -> None:
        """Do as asyncio does, but leave the generators of killed processes alone."""
        for generator, process in list(self._asyncgens.items()):
            if process is not None and not process.is_alive:
                self._asyncgens.discard(generator)
        await super().shutdown_asyncgens()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Do as asyncio does. What the clean-up of killed processes raises is nobody's error."""
        if not self._is_silent:
            super().call_exception_handler(context)

    def close(self) -> None:
        """Do as asyncio does. What is left of killed processes ends now, and nobody hears of it."""
        if self.is_running() or self.is_closed():
            # This raises the error of asyncio, or does nothing.
            super().close()
            return
        killed = self._residents.list_killed()
        try:
            if killed:
                # What living tasks lost is reported now. Later, nothing is.
                gc.collect()
                self._is_silent = True
            with silence(self) if killed else nullcontext():
                for process in killed:
                    process.close_remains()
                # This drops what the clean-up has started, and what therefore never runs.
                super().close()
        finally:
            if self._garbage is not None:
                self._garbage.end()

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Do what `call_soon` does.

        Raises:
            UsageError: it is called in another thread. Virtual time does not wait for threads.
        """
        if threading.get_ident() != self._thread:
            raise UsageError(explain_refusal("call_soon_threadsafe() from another thread", NO_THREADS))
        return self.call_soon(callback, *args, context=context)

    def run_forever(self) -> None:
        """Run until `stop` is called.

        Raises:
            DeadlockError: nothing can run, and no timer is left.
            LivelockError: time cannot move.
        """
        self._thread = threading.get_ident()
        self._steps = 0
        self._running.clear()
        super().run_forever()

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run until `future` is done, and return its result.

        Other tasks stay as they are, as in asyncio.

        Args:
            future: a future, or a coroutine.

        Raises:
            DeadlockError: nothing can run, and no timer is left.
            LivelockError: time cannot move. Before either error, `future` is cancelled and runs
                its `finally` blocks. If they fail, a note on the error says so.
        """
        future = cast("Awaitable[T]", future)
        if asyncio._get_running_loop() is not None:
            # This raises the error of asyncio.
            return super().run_until_complete(future)
        self._main = main = asyncio.ensure_future(future, loop=self)
        if main is not future:
            # As in asyncio: the caller cannot reach this task.
            never_log_destroy(main)
        try:
            return super().run_until_complete(main)
        except (DeadlockError, LivelockError) as error:
            if not main.done():
                self._give_up(main, error)
            raise
        finally:
            if main.done() and not main.cancelled():
                # The caller gets the error, so do not log that it "was never retrieved".
                main.exception()

    def _run_once(self) -> None:
        """Run rounds until the loop is stopped.

        Each round fires the timers that are due, then runs what is ready. If nothing is, it moves
        the time.
        """
        ready, stepping = self._ready, self._stepping
        while True:
            timers, now = self._timers, self._now
            while timers and timers[0][0] <= now:
                timer = heappop(timers)[2]
                self._wake_sources -= timer.wakes
                timer.wakes = False
                ready.append(timer)
            if not ready and not self._stopping:
                self._on_quiescence()
                continue
            steps = len(ready)
            self._steps += steps
            if self._steps > self.max_steps_per_instant - _STEPS_LISTED:
                self._running.look(ready, now, self._steps, self.max_steps_per_instant)
            if self._is_careful:
                stepping.run(steps, now)
                self._steps_to_collect -= steps
                if self._steps_to_collect < 0 and self._garbage is not None:
                    self._steps_to_collect = STEPS_TO_COLLECT
                    self._garbage.collect()
            else:
                self._run_plainly(steps)
            if self._stopping:
                break

    def _run_plainly(self, steps: int) -> None:
        ready = self._ready
        for _ in range(steps):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _add_timer(
        self, when: float, callback: Any, args: tuple[Any, ...], context: Context | None, *, wakes: bool
    ) -> VirtualTimer:
        if self._closed:
            self._check_closed()
        if self._debug:
            self._check_callback(callback, "call_at")
        # NaN is unequal to itself, and to compare is faster than to call a function.
        if when != when:
            raise ValueError("The time of a timer is not a number")
        if len(self._timers) >= self._timers_limit:
            self._timers = [entry for entry in self._timers if not entry[2]._cancelled]
            heapify(self._timers)
            self._timers_limit = 2 * len(self._timers) + 100
        process: Holder | None = None
        if self._is_careful:
            owner = OWNER.get() if context is None else context.get(OWNER)
            if owner is not None and owner.process is not None:
                process = owner.process
                if not process.is_alive:
                    # A process that has just killed itself. Time does not move for it.
                    wakes = False
        timer = VirtualTimer(when, callback, args, self, context, process, wakes)
        self._wake_sources += wakes
        heappush(self._timers, (when, next(self._sequence), timer))
        return timer

    def _timer_handle_cancelled(self, timer: VirtualTimer) -> None:
        """Called by `TimerHandle.cancel`."""
        self._wake_sources -= timer.wakes
        timer.wakes = False

    def _on_quiescence(self) -> None:
        """Nothing can run. Resume the next one that waits for this, or else move the time."""
        while self._idle_waiters:
            waiter = self._idle_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        if not self._wake_sources:
            raise self._make_deadlock()
        # If this timer is cancelled, nothing runs, and the time is moved again.
        self._now = self._timers[0][0]
        if self._steps > self.max_steps_per_instant - _STEPS_LISTED:
            self._running.clear()
        self._steps = 0

    def _make_deadlock(self) -> DeadlockError:
        shown = [task for task in self.pending_tasks() if task is self._main or not self.is_internal(task)]
        tasks = sorted(shown, key=lambda task: task is not self._main)
        paused = [process.name for process in self._residents.processes if process.is_paused]
        error = explain_deadlock(self._now, tasks, paused, self.on_deadlock)
        if isinstance(self._main, asyncio.Task):
            error.__traceback__ = make_traceback(self._main.get_coro())
        return error

    def _give_up(self, main: asyncio.Future[Any], error: InfiniticError) -> None:
        hook, self.on_deadlock = self.on_deadlock, None
        main.cancel()
        try:
            super().run_until_complete(main)
        except asyncio.CancelledError:
            pass
        except (DeadlockError, LivelockError) as again:
            error.add_note(f"The main task was cancelled, but did not end. {again}")
            # The errors name these tasks already.
            for task in self.pending_tasks():
                never_log_destroy(task)
        except Exception as failure:  # noqa: BLE001 - the first error is what counts
            error.add_note(f"The main task was cancelled, and raised {failure!r}")
        finally:
            self.on_deadlock = hook


def _show_all(task: asyncio.Task[Any]) -> bool:
    """Without a simulation, no task is internal."""
    return False


refuse_methods(VirtualLoop)
