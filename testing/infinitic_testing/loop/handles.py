"""The callbacks of a loop in virtual time: those that are ready, and timers.

A run makes thousands of them, so they are made with as few calls as can be.
"""

from __future__ import annotations

import asyncio
from asyncio import format_helpers
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from infinitic_testing.loop.owners import Holder


class ReadyHandle(asyncio.Handle):
    """A callback that is ready to run. Only for a loop that is not in debug mode.

    Args:
        callback: called with `args`.
        args: its arguments.
        loop: where it runs.
        context: in which it runs. None: a copy of the current one.
    """

    # BaseEventLoop reads these, but the type stubs do not have all of them.
    if TYPE_CHECKING:
        _callback: Any
        _context: Context
        _loop: Any
        _repr: str | None
        _source_traceback: Any

    __slots__ = ()

    def __init__(self, callback: Any, args: tuple[Any, ...], loop: Any, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class VirtualTimer(asyncio.TimerHandle):
    """A callback that becomes ready at a time.

    Attributes:
        process: who made it.
        wakes: True: time moves for it. False once it has fired or is cancelled.

    Args:
        when: seconds on the clock of the loop.
        callback: called with `args`.
        args: its arguments.
        loop: where it runs.
        context: in which it runs. None: a copy of the current one.
        process: see above.
        wakes: see above.
    """

    if TYPE_CHECKING:
        _callback: Any
        _context: Context
        _loop: Any
        _repr: str | None
        _source_traceback: Any
        _when: float
        _scheduled: bool

    __slots__ = ("process", "wakes")

    process: Holder | None
    wakes: bool

    def __init__(
        self,
        when: float,
        callback: Any,
        args: tuple[Any, ...],
        loop: Any,
        context: Context | None,
        process: Holder | None,
        wakes: bool,
    ) -> None:
        self.process = process
        self.wakes = wakes
        if loop._debug:
            super().__init__(when, callback, args, loop, context)
            return
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = False


def report_error(handle: Any, error: BaseException) -> None:
    """Tell the loop what a callback has raised, as asyncio does."""
    source = format_helpers._format_callback_source(handle._callback, handle._args)  # pyright: ignore[reportPrivateUsage]  # as Handle does
    report = {"message": f"Exception in callback {source}", "exception": error, "handle": handle}
    if handle._source_traceback:
        report["source_traceback"] = handle._source_traceback
    handle._loop.call_exception_handler(report)
