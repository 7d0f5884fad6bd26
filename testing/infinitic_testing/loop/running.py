"""Runs a coroutine on a fresh loop in virtual time, and cleans up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from infinitic.errors import UsageError
from infinitic_testing.choices import Choices
from infinitic_testing.loop.reports import OnDeadlock
from infinitic_testing.loop.virtual import VirtualLoop

T = TypeVar("T")


def run(
    main: Coroutine[Any, Any, T],
    *,
    choices: Choices | None = None,
    trace: bool = False,
    on_deadlock: OnDeadlock | None = None,
) -> T:
    """Run a coroutine in a fresh `VirtualLoop`, and return its result.

    At the end, the remaining tasks are cancelled in the order of their creation. Then asynchronous
    generators and the loop are closed. The event loop policy is not changed.

    Args:
        main: what to run.
        choices: chooses the order in which callbacks run, see `VirtualLoop`.
        trace: True: the loop keeps a digest of all steps, see `VirtualLoop.trace_digest`.
        on_deadlock: explains a deadlock, see `VirtualLoop`.

    Raises:
        DeadlockError: nothing can run, and no timer is left. Also if a remaining task does not end.
        LivelockError: time cannot move. Also if a remaining task does not end.
        UsageError: an event loop already runs in this thread.
    """
    if asyncio._get_running_loop() is not None:
        main.close()
        raise UsageError("run() does not work while an event loop runs: await the coroutine instead")
    loop = VirtualLoop(choices=choices, trace=trace, on_deadlock=on_deadlock)
    try:
        try:
            return loop.run_until_complete(main)
        finally:
            cancel_remaining_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def cancel_remaining_tasks(loop: VirtualLoop) -> None:
    """Cancel all tasks of a loop, wait until they end, and report what they raise to the loop.

    Paused processes are resumed. Tasks of killed processes stay as they are.
    """
    loop.resume_processes()
    tasks = loop.pending_tasks()
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    for task in tasks:
        if not task.cancelled() and (failure := task.exception()):
            context = {"message": "A task that was cancelled at the end raised", "exception": failure, "task": task}
            loop.call_exception_handler(context)
