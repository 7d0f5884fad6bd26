"""The private event loop of one workflow instance.

It has what asyncio's tasks, futures, timeouts and locks need, and nothing else: whatever reaches
for the world outside is refused at the line that asked. It never waits: `run_ready` runs until
nothing is ready.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from itertools import count
from types import CodeType, FrameType
from typing import Any, NoReturn, TypeVar, TypeVarTuple, cast

from infinitic.clock import add_seconds
from infinitic.definitions.home import Home, HomeLoop
from infinitic.errors import UsageError
from infinitic.replay import forbidden, generators
from infinitic.replay.generators import MAX_CLOSES, Generators

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

UNNAMED = "workflow"
"""The name of tasks that the code gives none."""
MAX_STEPS = 100_000

# Who starts coroutines in the order of a set, that of their addresses, and what its argument is
# called.
_AS_COMPLETED: CodeType = (
    asyncio.as_completed if sys.version_info < (3, 13) else vars(asyncio.tasks)["_AsCompletedIterator"].__init__
).__code__
_ITS_ARGUMENT = "fs" if sys.version_info < (3, 13) else "aws"
_STARTERS = {
    id(vars(asyncio.tasks)[name].__code__)
    for name in ("ensure_future", "_ensure_future")
    if hasattr(asyncio.tasks, name)
}


class TooManySteps(BaseException):
    """An activation ran so many callbacks that it seems never to stop.

    `task` is what ran last.
    """

    def __init__(self, task: asyncio.Task[Any] | None = None) -> None:
        super().__init__(f"more than {MAX_STEPS:,} callbacks in one activation")
        self.task = task


_END_OF_SLEEP: object = vars(asyncio.futures)["_set_result_unless_cancelled"]
"""What `asyncio.sleep` has called when its time is over."""

_Look = Callable[[FrameType, str, Any], object]


# The collector waits while workflow code runs. It closes coroutines that somebody has left behind,
# wherever it happens to run. What their `finally` blocks ask of the running loop would become
# commands of the instance, at another place in each run.


class _Ready(asyncio.Handle):
    """A handle without the parts that only debugging needs: half the cost of asyncio's own."""

    __slots__ = ()

    _callback: Callable[..., object]
    _args: Sequence[Any]
    _context: Context
    _cancelled: bool

    def cancel(self) -> None:
        self._cancelled = True

    def __repr__(self) -> str:
        return f"<ready {self._callback!r}>"


_new_handle: Callable[[type[_Ready]], _Ready] = object.__new__


class _Timer(asyncio.TimerHandle):
    """A handle for which the durable timer at `position` was started.

    None if it is due at once, or never.
    """

    __slots__ = ("position",)

    _callback: Callable[..., object]
    _args: Sequence[Any]
    _context: Context
    _cancelled: bool
    position: int | None


class WorkflowTask(asyncio.Task[T]):
    """A task that hashes by its creation number.

    So sets of tasks iterate alike in every process.
    """

    __slots__ = ("_number", "context")

    _log_destroy_pending: bool

    def __init__(
        self, number: int, coro: Coroutine[Any, Any, T], loop: WorkflowLoop, name: str, context: Context
    ) -> None:
        self._number = number
        self.context = context
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number


def has_news(task: WorkflowTask[Any]) -> bool:
    """True if a task raised and nobody has asked for its exception."""
    return task._log_traceback  # asyncio's own mark


def news_of(task: WorkflowTask[Any]) -> BaseException | None:
    """What a task raised. Unlike `exception`, this does not count as asking."""
    return task._exception  # there is no other way


def name_of(task: WorkflowTask[Any]) -> str:
    """The name that the code gave a task, else that of its function."""
    name = task.get_name()
    return str(getattr(task.get_coro(), "__qualname__", name)) if name == UNNAMED else name


def forget(task: WorkflowTask[Any] | None) -> None:
    """Nobody is to be told of what a task raised."""
    if task is not None:
        task._log_traceback = False  # gather does so too


class WorkflowFuture(asyncio.Future[T]):
    """A future that hashes by its creation number, as tasks do."""

    __slots__ = ("_number",)

    def __init__(self, number: int, loop: WorkflowLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class WorkflowLoop(HomeLoop):
    """The loop of one instance.

    `salt` spreads hashes of tasks over instances, and is the same in every process.
    """

    def __init__(self, home: Home, salt: int) -> None:
        forbidden.install(WorkflowLoop)
        self.home = home
        self._ready: deque[_Ready | _Timer] = deque()
        self.next_number: Callable[[], int] = count((salt << 32) + 1).__next__
        """Gives the creation number of a task or future: what it hashes by."""
        self._generators: Generators | None = None
        self._tasks: list[WorkflowTask[Any]] = []
        self._tasks_limit = 64  # where those that are done are let go
        self._ahead: dict[object, WorkflowTask[Any]] = {}
        self.failed: list[WorkflowTask[Any]] = []
        """Tasks that raised, and whose exception nobody had asked for by then."""
        self.now = 0.0
        self.dead = False
        self.runs_inline = False  # while a function of `inline` runs
        self.runs_query = False  # while a query runs
        adopt: Callable[[WorkflowLoop], object] | None
        adopt = getattr(asyncio._get_running_loop(), "adopt_workflow", None)  # in a simulation
        if adopt is not None:
            adopt(self)

    def run_ready(self) -> None:
        """Run until nothing is ready.

        Raises `TooManySteps`, and `BaseException` that workflow code let escape.
        """
        ready = self._ready
        outer = asyncio._get_running_loop()
        look: _Look | None = getattr(outer, "look_at_calls", None)  # in a simulation
        hooks = generators.watch()
        asyncio._set_running_loop(self)
        collects = gc.isenabled()
        if collects:
            gc.disable()
        watched = look is not None and self._watch(look)
        steps = 0
        try:
            while ready:
                handle = ready.popleft()
                if not handle._cancelled:  # pyright: ignore[reportPrivateUsage]  # loops run asyncio's handles so
                    try:
                        handle._context.run(handle._callback, *handle._args)  # pyright: ignore[reportPrivateUsage]  # as above
                    except Exception as error:  # noqa: BLE001 (as in asyncio: a callback that raises stops nothing)
                        self.call_exception_handler({"message": f"Exception in {handle!r}", "exception": error})
                owner: Any = getattr(handle._callback, "__self__", None)  # pyright: ignore[reportPrivateUsage]  # as above
                # has_news, without the call
                if owner.__class__ is WorkflowTask and owner._log_traceback and not self._is_told(owner):
                    self.failed.append(owner)
                steps += 1
                if steps > MAX_STEPS:
                    raise TooManySteps(owner if owner.__class__ is WorkflowTask else None)
        finally:
            if watched:
                sys.setprofile(None)
            asyncio._set_running_loop(outer)
            if outer is None:
                sys.set_asyncgen_hooks(*hooks)
            if collects:
                gc.enable()

    @property
    def is_ready(self) -> bool:
        """True if something waits to be run."""
        return bool(self._ready)

    def _is_told(self, task: WorkflowTask[Any]) -> bool:
        """True if somebody is called back with a task that has just ended.

        That is `gather`, `wait`, a group, or an await.
        """
        last = self._ready[-1]._args if self._ready else ()  # pyright: ignore[reportPrivateUsage]  # as in run_ready
        return bool(last) and last[0] is task

    def enter(self, call: Callable[[], T]) -> T:
        """Call workflow code that is no coroutine: a constructor, a condition."""
        outer = asyncio._get_running_loop()
        look: _Look | None = getattr(outer, "look_at_calls", None)  # in a simulation
        asyncio._set_running_loop(self)
        collects = gc.isenabled()
        if collects:
            gc.disable()
        watched = look is not None and self._watch(look)
        try:
            return call()
        finally:
            if watched:
                sys.setprofile(None)
            asyncio._set_running_loop(outer)
            if collects:
                gc.enable()

    def _watch(self, look: _Look) -> bool:
        """In a simulation, have the calls of workflow code looked at.

        Not if somebody else profiles this thread.
        """
        if self.home.replaying or sys.getprofile() is not None:
            return False
        sys.setprofile(look)
        return True

    def keep_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """The code of the instance iterates a generator for the first time."""
        if self._generators is None:
            self._generators = Generators()
        self._generators.add(generator)

    def pending(self) -> list[WorkflowTask[Any]]:
        """The tasks that are not done, in the order of their creation."""
        return [task for task in self._tasks if not task.done()]

    def close_dead(self) -> None:
        """Close every coroutine that still waits, here and now.

        What its cleanup asks for is not recorded.
        """
        self.dead = True
        self.failed.clear()
        self._ready.clear()
        pending = self.pending()
        self._tasks.clear()
        if not pending and not self._generators:
            return
        outer = asyncio._get_running_loop()
        hooks = generators.watch()
        asyncio._set_running_loop(self)
        collects = gc.isenabled()
        if collects:
            gc.disable()
        try:
            for task in pending:
                task._log_destroy_pending = False  # pyright: ignore[reportPrivateUsage]  # gather does so too
                task.context.run(_close, task.get_coro())
            if self._generators is not None:
                self._generators.close()
        finally:
            asyncio._set_running_loop(outer)
            if outer is None:
                sys.set_asyncgen_hooks(*hooks)
            if collects:
                gc.enable()
        self._ready.clear()

    # What asyncio's tasks, futures and primitives call.

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        # Without a constructor, which would cost as much as all the rest.
        handle = _new_handle(_Ready)
        handle._callback = callback  # pyright: ignore[reportPrivateUsage]  # in place of its constructor
        handle._args = args  # pyright: ignore[reportPrivateUsage]  # as above
        handle._context = copy_context() if context is None else context  # pyright: ignore[reportPrivateUsage]  # as above
        handle._cancelled = False  # pyright: ignore[reportPrivateUsage]  # as above
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(add_seconds(self.now, delay), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Timer(when, callback, args, self, context)
        handle.position = None
        if when <= self.now:
            self._ready.append(handle)
        elif when < math.inf:
            handle.position = self.home.start_timer(when, handle, sleeps=callback is _END_OF_SLEEP)
        elif when != math.inf:
            raise ValueError("The time of a timer is not a number")
        return handle

    def fire(self, handle: object) -> None:
        """The durable timer behind this handle is due."""
        assert isinstance(handle, _Timer)
        handle.position = None
        self._ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Take back the durable timer of a handle. `TimerHandle.cancel` calls this.

        `asyncio.sleep` cancels its timer even after it has fired. That gives no command.
        """
        if isinstance(handle, _Timer) and handle.position is not None and not self.dead:
            position, handle.position = handle.position, None
            self.home.cancel_position(position)

    def create_future(self) -> asyncio.Future[Any]:
        return WorkflowFuture(self.next_number(), self)

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **options: Any
    ) -> WorkflowTask[Any]:
        if self.dead:
            coro.close()
            self.home.refuse("create_task")
        if self.runs_inline:
            coro.close()
            raise UsageError("The function of inline() must not start tasks")
        if self.runs_query:
            coro.close()
            self.next_number()  # refuses it
        starter = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # documented
        # A code object hashes all that is in it.
        if id(starter.f_code) in _STARTERS:
            if (given := _find_awaitables(starter.f_back)) is not None:
                self._start_ahead(coro, given)
            if self._ahead and (task := self._ahead.pop(coro, None)) is not None:
                return task
        return self._start(coro, UNNAMED if name is None else str(name), copy_context() if context is None else context)

    def _start(self, coro: Any, name: str, context: Context) -> WorkflowTask[Any]:
        task = WorkflowTask(self.next_number(), coro, self, name, context)
        self._tasks.append(task)
        if len(self._tasks) > self._tasks_limit:
            self._tasks = self.pending()
            self._tasks_limit = max(64, 2 * len(self._tasks))
        return task

    def _start_ahead(self, coro: Any, given: Any) -> None:
        """Start all coroutines of an `as_completed` that asks for the first one.

        They start in the order in which they were given to it.
        """
        if coro in self._ahead:
            return
        if not isinstance(cast(object, given), Sequence):
            coro.close()
            raise UsageError(
                "asyncio.as_completed starts coroutines in the order of a set, which is another one in each run: "
                "give it a list of them, or tasks"
            )
        if any(coro is each for each in given):  # else it is a wrapper of an awaitable: those have an order
            for each in filter(asyncio.iscoroutine, dict.fromkeys(given)):
                self._ahead[each] = self._start(each, UNNAMED, copy_context())

    def get_task_factory(self) -> None:
        """There is none: anyio asks before it starts a task."""

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.home.report(context)

    default_exception_handler = call_exception_handler


def _find_awaitables(frame: FrameType | None) -> object:
    """What `asyncio.as_completed` was given, if it is what starts a coroutine; else None."""
    for _ in range(3):
        if frame is None:
            return None
        if frame.f_code is _AS_COMPLETED:
            return frame.f_locals[_ITS_ARGUMENT]
        frame = frame.f_back
    return None


def _close(coroutine: Any) -> None:
    """Close a coroutine of a discarded instance, also one that awaits in its cleanup.

    What it does concerns nobody.
    """
    for _ in range(MAX_CLOSES):
        try:
            coroutine.close()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
        if getattr(coroutine, "cr_frame", None) is None:
            return


def _make_refusal(name: str) -> Callable[..., NoReturn]:
    def refused(self: WorkflowLoop, *args: Any, **kwargs: Any) -> NoReturn:
        self.home.refuse(f"loop.{name}")

    refused.__name__ = name
    return refused


# The rest of an event loop is refused, also what later versions of Python add to it.
_SUPPORTED = set(vars(WorkflowLoop))
for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in _SUPPORTED:
        setattr(WorkflowLoop, _name, _make_refusal(_name))
