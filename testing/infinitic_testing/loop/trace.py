"""The digest of a run: the same seed gives the same digest, on every machine and Python version.

Each step of the loop adds the virtual time, the number of the task that ran, and the name of the
callback if it was no task. Names and numbers of processes are added when they appear. Addresses,
and the names of callbacks that asyncio makes for itself, are not in it.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

# So many numbers are hashed at once.
_CHUNK = 8192
_TASK = 0.0
_ASYNCIO = 1.0


class Trace:
    """What a loop has run so far, as a digest.

    Args:
        observe: called for each step with a line of text: time, process, task and callback. To
            find the first difference of two runs. None: no text is made.
    """

    def __init__(self, observe: Callable[[str], object] | None = None) -> None:
        self._hash = blake2b(digest_size=16)
        self._numbers = array("d")
        self._names: dict[str, float] = {}
        self._observe = observe
        self.add = self._numbers.append
        """Adds a number."""

    def add_step(self, now: float, mark: float, callback: Any, *, is_task: bool) -> None:
        """Add one step.

        Args:
            now: the virtual time, in seconds.
            mark: the number of the owner, see `Owner`.
            callback: what runs.
            is_task: true if the callback is a step of a task.
        """
        add = self.add
        add(now)
        add(mark)
        add(_TASK if is_task else self._number_callback(callback))
        if len(self._numbers) > _CHUNK:
            self._flush()
        if self._observe is not None:
            name = "" if is_task else f" {_name_callback(callback)}"
            self._observe(f"{now} {mark:.0f}{name}")

    def add_text(self, text: str) -> None:
        """Add a text, for instance the name of a process."""
        self._flush()
        self._hash.update(text.encode(errors="backslashreplace") + b"\0")
        if self._observe is not None:
            self._observe(text)

    def digest(self) -> str:
        """The digest of all steps so far: 32 hexadecimal digits."""
        self._flush()
        return self._hash.hexdigest()

    def _number_callback(self, callback: Any) -> float:
        name = _name_callback(callback)
        number = self._names.get(name)
        if number is None:
            module = getattr(callback, "__module__", None) or ""
            number = _ASYNCIO if module.partition(".")[0] == "asyncio" else float(len(self._names) + 2)
            self._names[name] = number
            if number != _ASYNCIO:
                self.add_text(name)
        return number

    def _flush(self) -> None:
        if sys.byteorder == "big":
            self._numbers.byteswap()
        self._hash.update(self._numbers.tobytes())
        del self._numbers[:]


def _name_callback(callback: Any) -> str:
    """Name a callback, in the same way in every process."""
    while True:
        inner = getattr(callback, "func", None)
        if inner is None:
            break
        callback = inner
    name: str | None = getattr(callback, "__qualname__", None)
    return name or type(callback).__qualname__
