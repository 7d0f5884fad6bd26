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
from typing import Any

from infinitic_testing.loop.owners import OWNER, Holder, Owner

# How often a coroutine is told to end. One that still runs then is kept for ever.
_TRIES = 100
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
def silence(loop: Any) -> Generator[None]:
    """Switch off logging, warnings, and reports of errors that nobody can catch.

    Args:
        loop: the loop that code finds meanwhile. It runs nothing. Without one, each `await` would
            raise at once, and code that tries again would never end.
    """
    hook, level = sys.unraisablehook, logging.root.manager.disable
    generator_hooks = sys.get_asyncgen_hooks()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.unraisablehook = _ignore
        logging.disable(logging.CRITICAL)
        asyncio._set_running_loop(loop)
        # As in a run. A generator without them runs its `finally` wherever it is collected.
        sys.set_asyncgen_hooks(loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook)
        try:
            yield
        finally:
            sys.set_asyncgen_hooks(*generator_hooks)
            asyncio._set_running_loop(None)
            sys.unraisablehook = hook
            logging.disable(level)


def _ignore(report: object) -> None:
    """An error in the clean-up of a dead process is nobody's error."""


def _end(coroutine: object, context: Context) -> None:
    """Close a coroutine and all that it awaits, the innermost first.

    Clean-up may await something new: then that is closed next. What awaits it comes later: closed
    too early, it would lose an asynchronous generator, which then ends wherever it is collected.
    """
    chain: list[Any] = [coroutine]
    tries = _TRIES
    while chain:
        step = chain[-1]
        awaited = _find_awaited(step)
        if awaited is not None and _is_suspended(awaited):
            chain.append(awaited)
            continue
        try:
            context.run(_close, step)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - its process is dead: nobody hears of it
            pass
        if not _is_suspended(step):
            chain.pop()
            continue
        tries -= 1
        if not tries:
            _undying.append(coroutine)
            return


def _close(step: Any) -> None:
    if _is_generator_step(step):
        # Before Python 3.13, its `close` does not reach the generator.
        step.throw(GeneratorExit)
    else:
        step.close()


def _find_awaited(step: object) -> object:
    """Find what a coroutine, a generator, or a step of a generator awaits. None: nothing."""
    found: Any
    if _is_generator_step(step):
        found = _find_generator(step).ag_await
    else:
        found = getattr(step, "cr_await", getattr(step, "gi_yieldfrom", None))
    while type(found).__name__ in ("coroutine_wrapper", "anext_awaitable"):
        # What `coroutine.__await__()` and ``anext(generator, default)`` return.
        found = gc.get_referents(found)[0]
    return found


def _is_suspended(step: Any) -> bool:
    if _is_generator_step(step):
        return _find_generator(step).ag_await is not None
    return getattr(step, "cr_frame", None) is not None or getattr(step, "gi_frame", None) is not None


def _is_generator_step(step: object) -> bool:
    """True for what ``anext(generator)`` and the like return."""
    return type(step).__name__ in ("async_generator_asend", "async_generator_athrow")


def _find_generator(step: object) -> Any:
    # It does not say whose step it is.
    return next(each for each in gc.get_referents(step) if each.__class__ is AsyncGeneratorType)
