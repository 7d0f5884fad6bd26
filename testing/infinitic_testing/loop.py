"""An event loop in virtual time: a month takes no time, and a hang is an error that says who waits.

It runs callbacks in the order in which they were added. It has no threads, sockets, signals or
subprocesses: a call that needs one raises at once. It does not choose random orders and does not
inject faults.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from heapq import heapify, heappop, heappush
from itertools import count, islice
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple, cast
from weakref import WeakKeyDictionary

from infinitic.clock import Clock
from infinitic.errors import InfiniticError, UsageError
from infinitic_testing.tracebacks import find_waiting_frames, is_user_frame, make_traceback

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
OnDeadlock = Callable[[], Exception | str | None]

EPOCH = 1_893_456_000.0
"""Where a `VirtualClock` begins: 2030-01-01T00:00:00Z, in seconds since the Unix epoch."""

# How many tasks an error names.
_MAX_LISTED = 20


class DeadlockError(InfiniticError):
    """The program waits for something that can never come.

    Nothing can run, no timer is left, and the main task is not done. In production this would be a
    hang. The message lists the waiting tasks with their lines. In a simulation it also lists what
    each workflow waits for, and services and workflows that nobody hosts.
    """


class LivelockError(InfiniticError):
    """Code runs on and on without waiting, so time cannot move.

    An example is a loop around ``await asyncio.sleep(0)``. The message lists what ran last.
    """


class _VirtualTimer(asyncio.TimerHandle):
    __slots__ = ("wakes",)
    # True: time moves for it. False once it has fired or is cancelled.
    wakes: bool


class _OrderedWeakSet(WeakKeyDictionary[T, None]):
    """A weak set in order of creation. The sets of asyncio have another order in each run."""

    def add(self, item: T) -> None:
        self[item] = None

    def discard(self, item: T) -> None:
        self.pop(item, None)


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio event loop whose time begins at 0.0 seconds and moves only when nothing can run.

    Then it jumps to the earliest timer. Timers of the same time fire in the order of their
    creation. A timer at `math.inf` never fires, and the loop does not wait for it.

    Args:
        on_deadlock: called when nothing can run and no timer is left. It explains why: its text
            is added to the message of the `DeadlockError`. If it returns an exception, this also
            becomes the ``__cause__``.
        max_steps_per_instant: how many callbacks may run while time stands still. One more raises
            `LivelockError`.
    """

    # BaseEventLoop has these, but its type stubs do not.
    if TYPE_CHECKING:
        _asyncgens: object
        _ready: deque[asyncio.Handle]
        _stopping: bool

        def _check_callback(self, callback: object, method: str) -> None: ...
        def _check_closed(self) -> None: ...

    def __init__(self, *, on_deadlock: OnDeadlock | None = None, max_steps_per_instant: int = 1_000_000) -> None:
        super().__init__()
        self.on_deadlock = on_deadlock
        self.is_internal: Callable[[asyncio.Task[Any]], bool] = _show_all
        """Returns true for a task that a `DeadlockError` does not list."""
        self.look_at_calls: Callable[[FrameType, str, Any], object] | None = None
        """Called for each call that workflow code makes, with the arguments of `sys.setprofile`."""
        self.max_steps_per_instant = max_steps_per_instant
        self._now = 0.0
        # How many callbacks ran at this instant.
        self._steps = 0
        # The last of them by name, once a livelock is near.
        self._running: dict[object, str] = {}
        # A heap. Cancelled timers stay in it until it has grown to the limit.
        self._timers: list[tuple[float, int, _VirtualTimer]] = []
        self._timers_limit = 100
        self._sequence = count()
        # How many timers there are for which time moves.
        self._wake_sources = 0
        self._idle_waiters: deque[asyncio.Future[None]] = deque()
        self._tasks: _OrderedWeakSet[asyncio.Task[Any]] = _OrderedWeakSet()
        self._asyncgens = _OrderedWeakSet[object]()
        self._main: asyncio.Future[Any] | None = None
        self._owner = threading.get_ident()

    def time(self) -> float:
        """Return the virtual time: seconds since the loop was made."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Do as asyncio does.

        Raises:
            ValueError: `when` is not a number (NaN).
        """
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
        task = super().create_task(cast("Coroutine[Any, Any, T]", coro), **options)
        self._tasks.add(task)
        return task

    def pending_tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, in the order of their creation."""
        tasks = [task for task in self._tasks if not task.done()]
        # Some tasks are made by `asyncio.Task(…)`, not by `create_task`.
        strays = asyncio.all_tasks(self).difference(tasks)
        return tasks + sorted(strays, key=lambda task: task.get_name())

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Do what `call_soon` does.

        Raises:
            UsageError: it is called in another thread. Virtual time does not wait for threads.
        """
        if threading.get_ident() != self._owner:
            raise UsageError(_explain_refusal("call_soon_threadsafe() from another thread", _NO_THREADS))
        return self.call_soon(callback, *args, context=context)

    def run_forever(self) -> None:
        """Run until `stop` is called.

        Raises:
            DeadlockError: nothing can run, and no timer is left.
            LivelockError: time cannot move.
        """
        self._owner = threading.get_ident()
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
            _never_log_destroy(main)
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
        """Run one round: fire the timers that are due, then run what is ready."""
        ready, timers = self._ready, self._timers
        while timers and timers[0][0] <= self._now:
            timer = heappop(timers)[2]
            self._wake_sources -= timer.wakes
            timer.wakes = False
            ready.append(timer)
        if not ready and not self._stopping:
            self._on_quiescence()
        steps = len(ready)
        self._steps += steps
        if self._steps > self.max_steps_per_instant - 100:
            self._watch_for_livelock()
        for _ in range(steps):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _add_timer(
        self, when: float, callback: Any, args: tuple[Any, ...], context: Context | None, *, wakes: bool
    ) -> _VirtualTimer:
        self._check_closed()
        if self.get_debug():
            self._check_callback(callback, "call_at")
        if math.isnan(when):
            raise ValueError("The time of a timer is not a number")
        if len(self._timers) >= self._timers_limit:
            self._timers = [entry for entry in self._timers if not entry[2]._cancelled]
            heapify(self._timers)
            self._timers_limit = 2 * len(self._timers) + 100
        timer = _VirtualTimer(when, callback, args, self, context)
        timer.wakes = wakes
        self._wake_sources += wakes
        heappush(self._timers, (when, next(self._sequence), timer))
        return timer

    def _timer_handle_cancelled(self, timer: _VirtualTimer) -> None:
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
        # If this timer is cancelled, nothing runs, and the next round moves the time again.
        self._now = self._timers[0][0]
        self._steps = 0
        self._running.clear()

    def _make_deadlock(self) -> DeadlockError:
        shown = [task for task in self.pending_tasks() if task is self._main or not self.is_internal(task)]
        tasks = sorted(shown, key=lambda task: task is not self._main)
        head = f"Nothing can run and no timer is left at {self._now} s. Waiting tasks"
        message = _format_list(head, [_describe_task(task) for task in tasks])
        try:
            reason = self.on_deadlock and self.on_deadlock()
        except Exception as failure:  # noqa: BLE001 - a broken explanation must not hide the deadlock
            reason = failure
        text = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else reason
        error = DeadlockError(f"{message}\n{text}" if text else message)
        if isinstance(reason, Exception):
            error.__cause__ = reason
        if isinstance(self._main, asyncio.Task):
            error.__traceback__ = make_traceback(self._main.get_coro())
        return error

    def _watch_for_livelock(self) -> None:
        for handle in islice(self._ready, _MAX_LISTED):
            owner: Any = getattr(getattr(handle, "_callback", None), "__self__", None)
            if hasattr(owner, "get_coro"):
                # The callback is a step of this task.
                self._running[owner] = _describe_task(owner)
            else:
                self._running[repr(handle)] = repr(handle)
        if self._steps > self.max_steps_per_instant:
            head = f"More than {self.max_steps_per_instant} steps at {self._now} s: time cannot move. Running"
            raise LivelockError(_format_list(head, list(self._running.values())))

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
                _never_log_destroy(task)
        except Exception as failure:  # noqa: BLE001 - the first error is what counts
            error.add_note(f"The main task was cancelled, and raised {failure!r}")
        finally:
            self.on_deadlock = hook


def _show_all(task: asyncio.Task[Any]) -> bool:
    """Without a simulation, no task is internal."""
    return False


def _never_log_destroy(task: Any) -> None:
    """Do not log "Task was destroyed but it is pending" for a task."""
    task._log_destroy_pending = False


def _format_list(head: str, lines: list[str]) -> str:
    rest = [f"and {len(lines) - _MAX_LISTED} more"] if len(lines) > _MAX_LISTED else []
    return "\n  ".join([f"{head}: {len(lines)}", *lines[:_MAX_LISTED], *rest])


def _describe_task(task: asyncio.Task[Any]) -> str:
    """Give its name, its coroutine, and the outermost and innermost line of the user's code."""
    step: Any = task.get_coro()
    name = f"{task.get_name()} ({getattr(step, '__qualname__', step)})"
    library, places = "", list[str]()
    for frame, _, line in find_waiting_frames(step):
        place = f"{frame.f_code.co_filename}:{line}"
        if frame.f_code.co_name == "run_sync_in_worker_thread":
            name += f" waits for a thread, which does not work in virtual time: {_NO_THREADS};"
        if is_user_frame(frame):
            places.append(place)
        else:
            library = place
    where = " → ".join(dict.fromkeys([places[0], places[-1]])) if places else library
    return f"{name} at {where}" if where else name


_NO_THREADS = "call the function directly, or mock the service that blocks"
# What to do instead of the methods of a loop that do not work in virtual time.
_REFUSED_METHODS = {
    _NO_THREADS: "run_in_executor set_default_executor",
    "use the in-memory transport and storage, or mock the service": """
        add_reader add_writer remove_reader remove_writer connect_accepted_socket connect_read_pipe
        connect_write_pipe create_connection create_datagram_endpoint create_server create_unix_connection
        create_unix_server getaddrinfo getnameinfo sendfile sock_accept sock_connect sock_recv sock_recv_into
        sock_recvfrom sock_recvfrom_into sock_sendall sock_sendfile sock_sendto start_tls""",
    "mock the service that starts the process": "subprocess_exec subprocess_shell",
    "cancel the task, or call the handler directly": "add_signal_handler remove_signal_handler",
}


def _explain_refusal(what: str, instead: str) -> str:
    return f"{what} does not work in virtual time, because two runs could differ: {instead}"


def _make_refusal(name: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(self: VirtualLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise UsageError(_explain_refusal(f"loop.{name}()", instead))

    return refuse


for _instead, _names in _REFUSED_METHODS.items():
    for _name in _names.split():
        setattr(VirtualLoop, _name, _make_refusal(_name, _instead))


class VirtualClock(Clock):
    """The clock of a loop in virtual time: `start` plus ``loop.time()``.

    Args:
        loop: the loop. None: whichever `VirtualLoop` runs when `now` is called.
        start: what the clock shows at the time 0.0 of the loop, in seconds since the Unix epoch.

    Raises:
        UsageError: by `now`, if there is no `loop` and no `VirtualLoop` runs.
    """

    __slots__ = ("_loop", "_start")

    def __init__(self, loop: VirtualLoop | None = None, start: float = EPOCH) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> float:
        loop = self._loop or asyncio._get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise UsageError("VirtualClock() shows the time of the running VirtualLoop, and none is running")
        return self._start + loop.time()


def run(main: Coroutine[Any, Any, T], *, on_deadlock: OnDeadlock | None = None) -> T:
    """Run a coroutine in a fresh `VirtualLoop`, and return its result.

    At the end, the remaining tasks are cancelled in the order of their creation. Then asynchronous
    generators and the loop are closed. The event loop policy is not changed.

    Args:
        main: what to run.
        on_deadlock: explains a deadlock, see `VirtualLoop`.

    Raises:
        DeadlockError: nothing can run, and no timer is left. Also if a remaining task does not end.
        LivelockError: time cannot move. Also if a remaining task does not end.
        UsageError: an event loop already runs in this thread.
    """
    if asyncio._get_running_loop() is not None:
        main.close()
        raise UsageError("run() does not work while an event loop runs: await the coroutine instead")
    loop = VirtualLoop(on_deadlock=on_deadlock)
    try:
        try:
            return loop.run_until_complete(main)
        finally:
            cancel_remaining_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def cancel_remaining_tasks(loop: VirtualLoop) -> None:
    """Cancel all tasks of a loop, wait until they end, and report what they raise to the loop."""
    tasks = loop.pending_tasks()
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    for task in tasks:
        if not task.cancelled() and (failure := task.exception()):
            context = {"message": "A task that was cancelled at the end raised", "exception": failure, "task": task}
            loop.call_exception_handler(context)
