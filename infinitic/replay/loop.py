"""The private event loop of one workflow instance.

It has what asyncio's tasks, futures, timeouts and locks need, and nothing else: whatever reaches for the world outside
is refused at the line that asked. It never waits: `run_ready` runs until nothing is ready.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple
from weakref import ReferenceType, ref

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_STEPS = 100_000


class TooManySteps(BaseException):
    """An activation ran more callbacks than any sane one does: it never comes to rest."""


class Owner(Protocol):
    """What the loop asks of its instance."""

    def start_timer(self, due: float, waiting: object) -> int:
        """Ask for a durable timer, and return its position."""
        ...

    def cancel_position(self, position: int) -> None:
        """Say that nobody waits for this position any more."""
        ...

    def refuse(self, what: str) -> NoReturn:
        """Refuse something that workflow code must not do, with the line that did it."""
        ...

    def report(self, context: dict[str, Any]) -> None:
        """Take note of an exception that nobody handles."""
        ...


_known_outer: tuple[ReferenceType[asyncio.AbstractEventLoop], tuple[Any, Any]] | None = None


def _hooks_of(outer: asyncio.AbstractEventLoop | None) -> tuple[Any, Any]:
    """The hooks for asynchronous generators to go back to. A loop sets its own once, and asking each time is slow."""
    global _known_outer
    known = _known_outer
    if known is not None and outer is not None and known[0]() is outer:
        return known[1]
    hooks = sys.get_asyncgen_hooks()
    if outer is not None:
        _known_outer = (ref(outer), hooks)
    return hooks


class _Ready(asyncio.Handle):
    """A handle without the parts that only debugging needs: half the cost of asyncio's own."""

    __slots__ = ()

    _callback: Callable[..., object]
    _args: Sequence[Any]
    _context: Context
    _cancelled: bool

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self._repr = None

    def cancel(self) -> None:
        self._cancelled = True

    def __repr__(self) -> str:
        return f"<ready {self._callback!r}>"


class _Timer(asyncio.TimerHandle):
    """A handle that a durable timer stands behind, at `position`; None: it is due at once, or never."""

    __slots__ = ("position",)

    _callback: Callable[..., object]
    _args: Sequence[Any]
    _context: Context
    _cancelled: bool
    position: int | None


class WorkflowTask(asyncio.Task[T]):
    """A task that hashes by its creation number, so that sets of tasks iterate alike in every process."""

    __slots__ = ("_number",)

    _log_destroy_pending: bool

    def __init__(self, number: int, coro: Coroutine[Any, Any, T], loop: WorkflowLoop, context: Context | None) -> None:
        self._number = number
        super().__init__(coro, loop=loop, name="workflow", context=context)

    def __hash__(self) -> int:
        return self._number


class WorkflowLoop(asyncio.AbstractEventLoop):
    """The loop of one instance. `salt` spreads hashes of tasks over instances, and is the same in every process."""

    def __init__(self, owner: Owner, salt: int) -> None:
        self.owner = owner
        self._ready: deque[_Ready | _Timer] = deque()
        self._number = salt << 32
        self._generators: set[AsyncGenerator[Any, Any]] = set()
        self._tasks: list[WorkflowTask[Any]] = []
        self._prune_at = 64
        self.now = 0.0
        self.dead = False

    def next_number(self) -> int:
        """The creation number of a task or future: what it hashes by."""
        self._number += 1
        return self._number

    def run_ready(self) -> None:
        """Run until nothing is ready. Raises `TooManySteps`, and `BaseException` that workflow code let escape."""
        ready = self._ready
        outer = asyncio._get_running_loop()
        hooks = _hooks_of(outer)
        sys.set_asyncgen_hooks(self._generators.add, self._generators.discard)
        asyncio._set_running_loop(self)
        steps = 0
        try:
            while ready:
                handle = ready.popleft()
                if not handle._cancelled:  # pyright: ignore[reportPrivateUsage]  # loops run asyncio's handles so
                    handle._context.run(handle._callback, *handle._args)  # pyright: ignore[reportPrivateUsage]  # as above
                steps += 1
                if steps > MAX_STEPS:
                    raise TooManySteps(f"more than {MAX_STEPS:,} callbacks in one activation")
        finally:
            asyncio._set_running_loop(outer)
            sys.set_asyncgen_hooks(*hooks)

    @property
    def idle(self) -> bool:
        """True if nothing is ready."""
        return not self._ready

    def close_dead(self) -> None:
        """Close every coroutine that still waits, here and now; what its cleanup asks for is not recorded."""
        self.dead = True
        self._ready.clear()
        pending = [task for task in self._tasks if not task.done()]
        self._tasks.clear()
        if not pending and not self._generators:
            return
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            for task in pending:
                task._log_destroy_pending = False  # pyright: ignore[reportPrivateUsage]  # gather does so too
                _close(task.get_coro().close)
            for generator in list(self._generators):
                _close(generator.aclose().send, None)
        finally:
            asyncio._set_running_loop(outer)
        self._generators.clear()
        self._ready.clear()

    # What asyncio's tasks, futures and primitives call.

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Ready(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Timer(when, callback, args, self, context)
        handle.position = None
        if when <= self.now:
            self._ready.append(handle)
        elif when != float("inf"):
            handle.position = self.owner.start_timer(when, handle)
        return handle

    def fire(self, handle: object) -> None:
        """The durable timer behind this handle is due."""
        assert isinstance(handle, _Timer)
        handle.position = None
        self._ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """`TimerHandle.cancel` calls this, also for one that has fired: `sleep` cleans up so. That is no command."""
        if isinstance(handle, _Timer) and handle.position is not None and not self.dead:
            position, handle.position = handle.position, None
            self.owner.cancel_position(position)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **options: Any
    ) -> WorkflowTask[Any]:
        if self.dead:
            coro.close()
            self.owner.refuse("create_task")
        task = WorkflowTask(self.next_number(), coro, self, context)
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = [each for each in self._tasks if not each.done()]
            self._prune_at = max(64, 2 * len(self._tasks))
        return task

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.owner.report(context)

    default_exception_handler = call_exception_handler


def _close(close: Callable[[*Ts], object], *args: *Ts) -> None:
    """Close a coroutine of a discarded instance. Whatever its cleanup does then concerns nobody."""
    try:
        close(*args)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refused(self: WorkflowLoop, *args: Any, **kwargs: Any) -> NoReturn:
        self.owner.refuse(f"loop.{name}")

    refused.__name__ = name
    return refused


# The rest of an event loop is refused, also what later versions of Python add to it.
_SUPPORTED = set(vars(WorkflowLoop))
for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in _SUPPORTED:
        setattr(WorkflowLoop, _name, _refusing(_name))
