"""Ends what is left of killed processes, when their loop is closed and nobody hears of it.

Python runs the `finally` blocks of a coroutine that it throws away, and there is no way around
that. So this happens as late as possible: after the run. Then these blocks reach nothing. What they
await never comes, logging is off, and `current_process` is a dead process.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import Context
from types import AsyncGeneratorType
from typing import Any, cast

from infinitic_testing.loop.owners import OWNER, Holder, Owner

# How often a coroutine is told to end. One that still runs then is kept for ever.
_TRIES = 10
_undying: list[object] = []


def close_remains(process: Holder, remains: Iterable[object]) -> None:
    """Close the coroutines of a killed process. Nothing that they do then is seen.

    Args:
        process: the process.
        remains: what is left of it. Tasks and callbacks are looked at, the rest is only dropped.
    """
    context = Context()
    context.run(OWNER.set, Owner(0, process))
    for each in remains:
        get_coroutine: Callable[[], object] | None = getattr(each, "get_coro", None)
        if get_coroutine is not None:
            _end(get_coroutine(), context)
        for argument in getattr(each, "_args", None) or ():
            if asyncio.iscoroutine(argument):
                _end(argument, context)


@contextmanager
def silence(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Switch off logging, warnings, and reports of errors that nobody can catch.

    Args:
        loop: the loop that code finds meanwhile. It runs nothing. Without one, each `await` would
            raise at once, and code that tries again would never end.
    """
    hook, level = sys.unraisablehook, logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.unraisablehook = _ignore
        logging.disable(logging.CRITICAL)
        asyncio._set_running_loop(loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)
            sys.unraisablehook = hook
            logging.disable(level)


def _ignore(report: object) -> None:
    """An error in the clean-up of a dead process is nobody's error."""


def _end(coroutine: object, context: Context) -> None:
    """Close a coroutine and those that it awaits, the innermost one first.

    Clean-up may await something new: then that is closed in the next round.
    """
    left: list[Any] = [coroutine]
    for _ in range(_TRIES):
        chain: dict[int, Any] = {}
        for start in left:
            step: Any = start
            while step is not None and id(step) not in chain:
                chain[id(step)] = step
                step = _find_awaited(step)
        left = [each for each in chain.values() if _is_suspended(each)]
        if not left:
            return
        for each in reversed(left):
            try:
                context.run(each.close)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - its process is dead: nobody hears of it
                pass
    _undying.extend(left)


def _find_awaited(step: object) -> object:
    """Find what a coroutine or generator awaits. None: nothing that could be closed."""
    for attribute in ("cr_await", "gi_yieldfrom", "ag_await"):
        if (found := getattr(step, attribute, None)) is not None:
            return cast("object", found)
    if type(step).__name__ in ("async_generator_asend", "async_generator_athrow"):
        # A step of an asynchronous generator does not say whose step it is.
        referents: list[object] = gc.get_referents(step)
        return next((each for each in referents if each.__class__ is AsyncGeneratorType), None)
    return None


def _is_suspended(coroutine: Any) -> bool:
    return getattr(coroutine, "cr_frame", None) is not None or getattr(coroutine, "gi_frame", None) is not None
