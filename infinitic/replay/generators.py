"""Whose asynchronous generator is it?

Those that workflow code iterates are kept by the loop of their instance.

Python tells two hooks of each asynchronous generator: when it is first iterated, and when it is
collected unfinished. The hooks are those of the thread, and the loop around has set its own. To set
others for each activation, and the old ones again, raises eight audit events: 9,000 of the 350,000
instructions of a step. So hooks that look which loop runs are put in front of those of the loop
around, once. When that loop ends, it sets what was there before it began.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from typing import Any

_Generator = AsyncGenerator[Any, Any]
_Hook = Callable[[_Generator], None] | None

MAX_CLOSES = 1000
_BEGUN = 64

_ids: set[int] = set()
"""The `id` of each generator that an instance keeps.

A generator may be collected with an instance that nobody has closed: that of a worker that lost its
power, in a simulation. It must not be handed to the loop around, which would run its cleanup.
"""


class Generators:
    """The generators that the code of one instance has begun.

    One that has ended may go; one that is left in the middle stays until the instance is closed.
    Its end would come whenever the collector finds it, at another time in each process.
    """

    __slots__ = ("_begun", "_limit")

    def __init__(self) -> None:
        self._begun: list[Any] = []
        self._limit = _BEGUN  # where those that ended are let go

    def __bool__(self) -> bool:
        return bool(self._begun)

    def add(self, generator: _Generator) -> None:
        """A generator is iterated for the first time."""
        _ids.add(id(generator))
        self._begun.append(generator)
        if len(self._begun) > self._limit:
            self._let_go()
            self._limit = max(_BEGUN, 2 * len(self._begun))

    def close(self) -> None:
        """Close them here and now, the last one first.

        Also those that the cleanup of others begins.
        """
        for _ in range(MAX_CLOSES):
            if not self._begun:
                return
            generator = self._begun.pop()
            Context().run(_close, generator)
            _ids.discard(id(generator))  # Python calls no hook for one that somebody has closed, or tried to

    def _let_go(self) -> None:
        """Forget those that have ended."""
        _ids.difference_update(id(each) for each in self._begun if each.ag_frame is None)
        self._begun = [each for each in self._begun if each.ag_frame is not None]

    def __del__(self) -> None:
        self._let_go()


def _close(generator: _Generator) -> None:
    """Close a generator, also one that awaits in its cleanup. What it does concerns nobody."""
    closing = generator.aclose()
    try:
        for _ in range(MAX_CLOSES):
            closing.send(None)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise


class _Begin:
    """The hook for generators that are iterated for the first time.

    `others` is the one of the loop around.
    """

    __slots__ = ("_others",)

    def __init__(self, others: _Hook) -> None:
        self._others = others

    def __call__(self, generator: _Generator) -> None:
        keep = getattr(asyncio._get_running_loop(), "keep_generator", None)
        if keep is not None:
            keep(generator)
        elif self._others is not None:
            self._others(generator)


class _End:
    """The hook for generators that are collected unfinished. Those of workflows run no further."""

    __slots__ = ("_others",)

    def __init__(self, others: _Hook) -> None:
        self._others = others

    def __call__(self, generator: _Generator) -> None:
        if id(generator) in _ids:
            _ids.discard(id(generator))
        elif self._others is not None:
            self._others(generator)


def watch() -> tuple[_Hook, _Hook]:
    """Have the running `WorkflowLoop` told of the generators that are begun.

    Returns the hooks that were set.
    """
    hooks = sys.get_asyncgen_hooks()
    first: object = hooks.firstiter
    if not isinstance(first, _Begin):
        sys.set_asyncgen_hooks(_Begin(hooks.firstiter), _End(hooks.finalizer))
    return hooks
