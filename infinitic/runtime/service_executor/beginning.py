"""Runs the first part of a coroutine on the spot, in the name of another asyncio task.

Local tasks begin so: most wait for nothing, and have ended then, without a turn of the loop. What
they do in this part is done in the name of the member of the pool that goes on with them if they do
wait. So `asyncio.timeout` and task groups cancel that member, and not who has called them.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


def begin_as(member: asyncio.Task[Any], coroutine: Coroutine[Any, Any, None]) -> Any:
    """Run a coroutine until it waits for something, as if `member` ran it.

    Args:
        member: an asyncio task that waits, of the loop that runs.
        coroutine: it has not begun.

    Returns:
        What it waits for, for `go_on`.

    Raises:
        StopIteration: it has ended.
    """
    loop = asyncio.get_running_loop()
    caller = asyncio.current_task()
    tasks = asyncio.tasks
    # These are for whoever makes tasks of his own: asyncio documents them for that.
    if caller is not None:
        tasks._leave_task(loop, caller)
    tasks._enter_task(loop, member)
    try:
        return coroutine.send(None)
    finally:
        tasks._leave_task(loop, member)
        if caller is not None:
            tasks._enter_task(loop, caller)


@types.coroutine
def go_on(coroutine: Coroutine[Any, Any, None], waiting: Any, *, cancelled: bool) -> Generator[Any, Any, None]:
    """Go on with a coroutine that has begun by `begin_as`, in the asyncio task that awaits this.

    Args:
        coroutine: the coroutine.
        waiting: what it waits for.
        cancelled: whether it was cancelled since it has begun.
    """
    error: BaseException | None = asyncio.CancelledError() if cancelled else None
    try:
        while True:
            value: Any = None
            if error is None:
                try:
                    value = yield waiting
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as thrown:  # noqa: BLE001 (handed on into the coroutine)
                    error = thrown
            given, error = error, None
            waiting = coroutine.send(value) if given is None else coroutine.throw(given)
    except StopIteration:
        return
