"""The digest of a run: the same seed gives the same digest, on every machine and Python version.

Each step of the loop adds the virtual time, the number of the task that ran, and the name of the
callback if it was no task. Names and numbers of processes are added when they appear. Addresses,
and the names of callbacks that asyncio makes for itself, are not in it.
"""

from __future__ import annotations

import sys
from array import array
from functools import partial
from hashlib import blake2b
from types import MethodType
from typing import Any

CHUNK = 768
"""So many numbers are hashed at once: those of about 256 steps."""

_MARK_DIGITS = 8

TASK_STEP = 0.0
"""Stands for a step of a task, instead of the number of a callback."""

_ASYNCIO = 1.0


class Trace:
    """What a loop has run so far, as a digest.

    Attributes:
        numbers: what is not hashed yet. Each step adds the time, the `mark` of the owner, and the
            number of the callback.
        marks: a virtual time and the digest until then, every few hundred steps. Where the marks of
            two runs begin to differ, the runs do.
    """

    __slots__ = ("_hash", "_known", "_names", "marks", "numbers")

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._names: dict[str, float] = {}
        # The numbers of methods, to find them without their names.
        self._known: dict[Any, float] = {}
        self.numbers: list[float] = []
        self.marks: list[tuple[float, str]] = []

    def number_callback(self, callback: Any) -> float:
        """Return the number of a callback that is no step of a task: that of its name."""
        method = callback.func if callback.__class__ is partial else callback
        if method.__class__ is not MethodType:
            return self._number_name(callback)
        number = self._known.get(method.__func__)
        if number is None:
            number = self._known[method.__func__] = self._number_name(callback)
        return number

    def _number_name(self, callback: Any) -> float:
        name = _name_callback(callback)
        number = self._names.get(name)
        if number is None:
            module = getattr(callback, "__module__", None) or ""
            number = _ASYNCIO if module.partition(".")[0] == "asyncio" else float(len(self._names) + 2)
            self._names[name] = number
            if number != _ASYNCIO:
                self.add_text(name)
        return number

    def add_text(self, text: str) -> None:
        """Add a text, for instance the name of a process."""
        self._hash_numbers()
        self._hash.update(text.encode(errors="backslashreplace") + b"\0")

    def flush(self, now: float) -> None:
        """Hash the numbers, and set a mark. Call this when there are more than `CHUNK`.

        Args:
            now: the virtual time, in seconds.
        """
        self._hash_numbers()
        self.marks.append((now, self._hash.hexdigest()[:_MARK_DIGITS]))

    def digest(self) -> str:
        """The digest of all steps so far: 32 hexadecimal digits."""
        self._hash_numbers()
        return self._hash.hexdigest()

    def _hash_numbers(self) -> None:
        numbers = array("d", self.numbers)
        if sys.byteorder == "big":
            numbers.byteswap()
        self._hash.update(numbers.tobytes())
        self.numbers.clear()


def _name_callback(callback: Any) -> str:
    """Name a callback, in the same way in every process."""
    while True:
        inner = getattr(callback, "func", None)
        if inner is None:
            break
        callback = inner
    name: str | None = getattr(callback, "__qualname__", None)
    return name or type(callback).__qualname__
