"""How a loop runs its callbacks when they are looked at one by one: order, choice, trace.

- Callbacks of a process that is paused or dead are held.
- What a step makes ready is put into a canonical order: by the number of the task. Without this, a
  step that walks a set of objects makes another order in each run, because most objects are hashed
  by their address.
- With `Choices`, any of the ready callbacks may be next. Only plain callbacks of one process keep
  their order among each other, as asyncio promises for `call_soon`.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import islice
from types import BuiltinFunctionType, MethodType
from typing import Any

from infinitic_testing.choices import Choices
from infinitic_testing.loop.handles import report_error
from infinitic_testing.loop.owners import OWNER, Owner, find_process
from infinitic_testing.loop.tasks import read_number
from infinitic_testing.loop.trace import CHUNK, TASK_STEP, Trace

SCHEDULE = "schedule"
"""The label of the choice which callback runs next."""


class Stepping:
    """Runs the callbacks of one loop.

    Attributes:
        choices: chooses which callback is next. None: the oldest.
        trace: takes each step. None: no trace is kept.
        is_canonical: what a step makes ready is sorted.

    Args:
        ready: the callbacks that can run, oldest first. The loop adds to its end.
    """

    __slots__ = ("_ready", "choices", "is_canonical", "trace")

    def __init__(self, ready: deque[Any]) -> None:
        self._ready = ready
        self.choices: Choices | None = None
        self.trace: Trace | None = None
        self.is_canonical = False

    def run(self, steps: int, now: float) -> None:
        """Run callbacks. Those of a process that does not run are held.

        Args:
            steps: how many; not more than are ready.
            now: the virtual time, in seconds.
        """
        # This runs for each step, so what it calls is written out where it can be.
        ready, choices, trace, is_canonical = self._ready, self.choices, self.trace, self.is_canonical
        numbers: list[float] = [] if trace is None else trace.numbers
        for _ in range(steps):
            handle = ready.popleft() if choices is None or len(ready) == 1 else self._choose(choices)
            callback = handle._callback
            if callback is None:
                # Cancelled.
                continue
            context = handle._context
            owner: Owner | None = context.get(OWNER)
            if owner is not None and owner.process is not None and not owner.process.runs:
                owner.process.hold(handle)
                continue
            if trace is not None:
                numbers += (now, 0.0 if owner is None else owner.mark)
                is_plain = callback.__class__ is partial or not is_task_step(callback)
                numbers.append(trace.number_callback(callback) if is_plain else TASK_STEP)
            before = len(ready)
            try:
                context.run(callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 (as in asyncio)
                report_error(handle, error)
            if is_canonical and len(ready) > before + 1:
                self._sort(before)
        if trace is not None and len(numbers) > CHUNK:
            trace.flush(now)

    def _choose(self, choices: Choices) -> Any:
        """Take one of the ready callbacks."""
        ready = self._ready
        index = choices.pick(SCHEDULE, len(ready))
        if not index:
            return ready.popleft()
        handle = ready[index]
        if not is_task_step(handle._callback):
            process = find_process(handle._context)
            for earlier, other in enumerate(islice(ready, index)):
                if not is_task_step(other._callback) and find_process(other._context) is process:
                    handle, index = other, earlier
                    break
        del ready[index]
        return handle

    def _sort(self, before: int) -> None:
        """Sort what the last step has made ready: all but the first `before` callbacks."""
        ready = self._ready
        new = [ready.pop() for _ in range(len(ready) - before)]
        new.reverse()
        new.sort(key=_rank)
        ready.extend(new)


def is_task_step(callback: Any) -> bool:
    """True if a callback is a step of a task, False if it is a plain function.

    ``task.cancel`` is plain, too.
    """
    kind = callback.__class__
    if kind is BuiltinFunctionType:
        return bool(callback.__name__ == "task_wakeup")
    if kind is MethodType:
        # The tasks of asyncio that are written in Python.
        return callback.__name__ in ("__step", "__wakeup")
    return bool(kind.__name__ == "TaskStepMethWrapper")


def _rank(handle: Any) -> tuple[int, int]:
    """The place of a callback among those that one step has made ready.

    A plain callback comes where its owner is: the task whose code has registered it.
    """
    callback = handle._callback
    if is_task_step(callback):
        task: Any = callback.__self__
        owner: Owner | None = getattr(task, "owner", None)
        if isinstance(owner, Owner):
            return owner.number, 0
        # Made by `asyncio.Task(…)`, in a context of its creator. Its name has a number.
        return _number_of(handle), read_number(task)
    return _number_of(handle), -1


def _number_of(handle: Any) -> int:
    owner: Owner | None = handle._context.get(OWNER)
    return 0 if owner is None else owner.number
