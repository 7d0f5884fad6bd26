"""An event loop in virtual time: a month passes in no time, and a hang is an error that says who waits.

It schedules and tells the time. It has no threads, sockets, signals or subprocesses: asking for one is an
error at the call. It draws no schedules and injects no faults: callbacks run first in, first out.
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
from infinitic_testing.tracebacks import is_users, traceback_of, waiting_frames

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
OnDeadlock = Callable[[], Exception | str | None]

EPOCH = 1_893_456_000.0
"""2030-01-01T00:00:00Z, in seconds since the Unix epoch: what a `VirtualClock` shows at the start."""

_LISTED = 20  # tasks that an error names


class DeadlockError(InfiniticError):
    """Nothing can run, no timer is left, and the program is not finished. The message lists who waits."""


class LivelockError(InfiniticError):
    """Callbacks run on and on at one instant, so time cannot move. The message lists what ran last."""


class _Timer(asyncio.TimerHandle):
    __slots__ = ("wakes",)
    wakes: bool  # time moves for it; false once it has fired or is cancelled


class _InOrder(WeakKeyDictionary[T, None]):
    """A weak set in order of creation. Those of asyncio go by address, which no two runs have in common."""

    def add(self, item: T) -> None:
        self[item] = None

    def discard(self, item: T) -> None:
        self.pop(item, None)


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio event loop whose time starts at 0.0 and moves only when nothing can run.

    It then goes straight to the earliest timer; equal times fire in the order of their creation. A timer at
    `math.inf` never fires, and nothing waits for it.

    Args:
        on_deadlock: called when a run is stuck. What it returns, text or an exception, explains the
            `DeadlockError`: it ends the message, and an exception becomes the ``__cause__``.
        max_steps_per_instant: callbacks that may run without time moving; one more raises `LivelockError`.
    """

    if TYPE_CHECKING:  # what BaseEventLoop has and its type stubs have not
        _asyncgens: object
        _ready: deque[asyncio.Handle]
        _stopping: bool

        def _check_callback(self, callback: object, method: str) -> None: ...
        def _check_closed(self) -> None: ...

    def __init__(self, *, on_deadlock: OnDeadlock | None = None, max_steps_per_instant: int = 1_000_000) -> None:
        super().__init__()
        self.on_deadlock = on_deadlock
        self.is_internal: Callable[[asyncio.Task[Any]], bool] = _is_of_the_user
        """Tells which waiting tasks a `DeadlockError` need not list."""
        self.look_at_calls: Callable[[FrameType, str, Any], object] | None = None
        """Called, as `sys.setprofile` does, for each call in the code of workflows."""
        self.max_steps_per_instant = max_steps_per_instant
        self._now = 0.0
        self._steps = 0  # callbacks run at this instant
        self._running: dict[object, str] = {}  # the last of them, once a livelock is near
        self._timers: list[tuple[float, int, _Timer]] = []  # a heap; cancelled ones stay for a while
        self._timers_limit = 100  # where the cancelled ones are swept out
        self._sequence = count()
        self._wake_sources = 0  # timers for which time moves
        self._idle_waiters: deque[asyncio.Future[None]] = deque()
        self._tasks: _InOrder[asyncio.Task[Any]] = _InOrder()
        self._asyncgens = _InOrder[object]()
        self._main: asyncio.Future[Any] | None = None
        self._owner = threading.get_ident()

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio. Raises `ValueError` if `when` is not a number."""
        return self._add_timer(when, callback, args, context, wakes=when < math.inf)

    def call_background(self, when: float, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.TimerHandle:
        """Call `callback` at the time `when`, provided that time gets there for another reason.

        For maintenance: the timer fires at its own time, in order with the others, but time does not move for
        it, and it keeps nobody from being idle or deadlocked.
        """
        return self._add_timer(when, callback, args, None, wakes=False)

    async def wait_idle(self) -> None:
        """Wait until nothing else can run at this instant. Time does not move meanwhile.

        Several waiters resume first in, first out, each when nothing can run again.
        """
        waiter: asyncio.Future[None] = self.create_future()
        self._idle_waiters.append(waiter)
        await waiter

    def create_task(self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:
        """As in asyncio."""
        task = super().create_task(cast("Coroutine[Any, Any, T]", coro), **options)
        self._tasks.add(task)
        return task

    def pending_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, in the order of their creation."""
        tasks = [task for task in self._tasks if not task.done()]
        strays = asyncio.all_tasks(self).difference(tasks)  # made by `asyncio.Task(…)`
        return tasks + sorted(strays, key=lambda task: task.get_name())

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """`call_soon`, for code that does not know its thread. Raises `UsageError` in another thread."""
        if threading.get_ident() != self._owner:
            raise UsageError(_refusal("call_soon_threadsafe() from another thread", _NO_THREADS))
        return self.call_soon(callback, *args, context=context)

    def run_forever(self) -> None:
        """Run until `stop` is called. Raises `DeadlockError`, `LivelockError`."""
        self._owner = threading.get_ident()
        self._steps = 0
        self._running.clear()
        super().run_forever()

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run until `future` is done, and return its result.

        Raises `DeadlockError` or `LivelockError`, after `future` has been cancelled and has cleaned up. What
        goes wrong with that is noted on the error. Other tasks are left to the caller, as in asyncio.
        """
        future = cast("Awaitable[T]", future)
        if asyncio._get_running_loop() is not None:
            return super().run_until_complete(future)  # which raises
        self._main = main = asyncio.ensure_future(future, loop=self)
        if main is not future:
            _never_log_destroy(main)  # as in asyncio: the caller has no hold of this task
        try:
            return super().run_until_complete(main)
        except (DeadlockError, LivelockError) as error:
            if not main.done():
                self._give_up(main, error)
            raise
        finally:
            if main.done() and not main.cancelled():
                main.exception()  # the caller has it: do not log that it "was never retrieved"

    def _run_once(self) -> None:
        """One round, called by `BaseEventLoop`: what is due fires, what is ready by then runs."""
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
    ) -> _Timer:
        self._check_closed()
        if self.get_debug():
            self._check_callback(callback, "call_at")
        if math.isnan(when):
            raise ValueError("The time of a timer is not a number")
        if len(self._timers) >= self._timers_limit:
            self._timers = [entry for entry in self._timers if not entry[2]._cancelled]
            heapify(self._timers)
            self._timers_limit = 2 * len(self._timers) + 100
        timer = _Timer(when, callback, args, self, context)
        timer.wakes = wakes
        self._wake_sources += wakes
        heappush(self._timers, (when, next(self._sequence), timer))
        return timer

    def _timer_handle_cancelled(self, timer: _Timer) -> None:
        """Called by `TimerHandle.cancel`."""
        self._wake_sources -= timer.wakes
        timer.wakes = False

    def _on_quiescence(self) -> None:
        """Nothing can run: resume one who waits for just that, or else move time."""
        while self._idle_waiters:
            waiter = self._idle_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        if not self._wake_sources:
            raise self._deadlock()
        self._now = self._timers[0][0]  # if it is a cancelled one, nothing runs and the next round goes on
        self._steps = 0
        self._running.clear()

    def _deadlock(self) -> DeadlockError:
        shown = [task for task in self.pending_tasks() if task is self._main or not self.is_internal(task)]
        tasks = sorted(shown, key=lambda task: task is not self._main)
        head = f"Nothing can run and no timer is left at {self._now} s. Waiting tasks"
        message = _list(head, [_describe(task) for task in tasks])
        try:
            reason = self.on_deadlock and self.on_deadlock()
        except Exception as failure:  # noqa: BLE001 - a broken explanation must not hide the deadlock
            reason = failure
        text = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else reason
        error = DeadlockError(f"{message}\n{text}" if text else message)
        if isinstance(reason, Exception):
            error.__cause__ = reason
        if isinstance(self._main, asyncio.Task):
            error.__traceback__ = traceback_of(self._main.get_coro())
        return error

    def _watch_for_livelock(self) -> None:
        for handle in islice(self._ready, _LISTED):
            owner: Any = getattr(getattr(handle, "_callback", None), "__self__", None)
            if hasattr(owner, "get_coro"):  # the callback is a step of a task
                self._running[owner] = _describe(owner)
            else:
                self._running[repr(handle)] = repr(handle)
        if self._steps > self.max_steps_per_instant:
            head = f"More than {self.max_steps_per_instant} steps at {self._now} s: time cannot move. Running"
            raise LivelockError(_list(head, list(self._running.values())))

    def _give_up(self, main: asyncio.Future[Any], error: InfiniticError) -> None:
        hook, self.on_deadlock = self.on_deadlock, None
        main.cancel()
        try:
            super().run_until_complete(main)
        except asyncio.CancelledError:
            pass
        except (DeadlockError, LivelockError) as again:
            error.add_note(f"The main task was cancelled, but did not end. {again}")
            for task in self.pending_tasks():  # the errors name them; no "Task was destroyed" on top
                _never_log_destroy(task)
        except Exception as failure:  # noqa: BLE001 - the first error is what counts
            error.add_note(f"The main task was cancelled, and raised {failure!r}")
        finally:
            self.on_deadlock = hook


def _is_of_the_user(task: asyncio.Task[Any]) -> bool:
    return False


def _never_log_destroy(task: Any) -> None:
    """No "Task was destroyed but it is pending": the caller knows it from an error already."""
    task._log_destroy_pending = False


def _list(head: str, lines: list[str]) -> str:
    rest = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n  ".join([f"{head}: {len(lines)}", *lines[:_LISTED], *rest])


def _describe(task: asyncio.Task[Any]) -> str:
    """Name, coroutine, and where it waits: the outermost and innermost line that are no library's."""
    step: Any = task.get_coro()
    name = f"{task.get_name()} ({getattr(step, '__qualname__', step)})"
    library, places = "", list[str]()
    for frame, _, line in waiting_frames(step):
        place = f"{frame.f_code.co_filename}:{line}"
        if frame.f_code.co_name == "run_sync_in_worker_thread":
            name += f" waits for a thread, which cannot come back in virtual time: {_NO_THREADS};"
        if is_users(frame):
            places.append(place)
        else:
            library = place
    where = " → ".join(dict.fromkeys([places[0], places[-1]])) if places else library
    return f"{name} at {where}" if where else name


_NO_THREADS = "call the function directly, or mock the service that blocks"
_FENCES = {
    _NO_THREADS: "run_in_executor set_default_executor",
    "use the in-memory transport and storage, or mock the service": """
        add_reader add_writer remove_reader remove_writer connect_accepted_socket connect_read_pipe
        connect_write_pipe create_connection create_datagram_endpoint create_server create_unix_connection
        create_unix_server getaddrinfo getnameinfo sendfile sock_accept sock_connect sock_recv sock_recv_into
        sock_recvfrom sock_recvfrom_into sock_sendall sock_sendfile sock_sendto start_tls""",
    "mock the service that starts the process": "subprocess_exec subprocess_shell",
    "cancel the task, or call the handler directly": "add_signal_handler remove_signal_handler",
}


def _refusal(what: str, instead: str) -> str:
    return f"{what} does not work in virtual time, where a run must be repeatable: {instead}"


def _fence(name: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(self: VirtualLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise UsageError(_refusal(f"loop.{name}()", instead))

    return refuse


for _instead, _names in _FENCES.items():
    for _name in _names.split():
        setattr(VirtualLoop, _name, _fence(_name, _instead))


class VirtualClock(Clock):
    """The time of a loop as a time of day: `start` (seconds since the Unix epoch) plus ``loop.time()``.

    With None it follows the `VirtualLoop` that runs, and `now` raises `UsageError` if none does.
    """

    __slots__ = ("_loop", "_start")

    def __init__(self, loop: VirtualLoop | None = None, start: float = EPOCH) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> float:
        loop = self._loop or asyncio._get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise UsageError("VirtualClock() tells the time of the VirtualLoop that runs, and none runs")
        return self._start + loop.time()


def run(main: Coroutine[Any, Any, T], *, on_deadlock: OnDeadlock | None = None) -> T:
    """Run `main` in a fresh `VirtualLoop`, and return what it returns.

    In the end the tasks left over are cancelled in the order of their creation, then asynchronous generators
    and the loop are closed. The event loop policy is never touched.

    Raises `DeadlockError` and `LivelockError`, also when a task left over does not end; `UsageError` where an
    event loop already runs.
    """
    if asyncio._get_running_loop() is not None:
        main.close()
        raise UsageError("run() does not work where an event loop runs: await the coroutine instead")
    loop = VirtualLoop(on_deadlock=on_deadlock)
    try:
        try:
            return loop.run_until_complete(main)
        finally:
            cancel_leftovers(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def cancel_leftovers(loop: VirtualLoop) -> None:
    tasks = loop.pending_tasks()
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    for task in tasks:
        if not task.cancelled() and (failure := task.exception()):
            context = {"message": "A task left over raised", "exception": failure, "task": task}
            loop.call_exception_handler(context)
