"""Gives large blocks of memory back to the system at once, if the C library can do so."""

from __future__ import annotations

import ctypes
from contextlib import suppress

LARGE_BYTES = 1024 * 1024

_MMAP_THRESHOLD = -3
"""`M_MMAP_THRESHOLD` of glibc's malloc.h."""


def give_back_large_blocks() -> None:
    """Have blocks of 1 MiB and more mapped, and unmapped when they are freed. It cannot be undone.

    It costs little. Otherwise glibc raises that bound to the largest block that was ever freed.
    Messages of some megabytes come from the heap then, and the holes between them stay: 640 MiB
    were held where 430 were enough.
    """
    with suppress(OSError, TypeError, AttributeError):  # another system, or another C library
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
