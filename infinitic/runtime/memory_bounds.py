"""How much a worker keeps in memory: `cache_size`, `cache_bytes` and `buffer_bytes`."""

from __future__ import annotations

from typing import NamedTuple

from infinitic.errors import UsageError

DEFAULT_CACHE_SIZE = 1000
DEFAULT_CACHE_BYTES = 64 * 1024 * 1024
DEFAULT_BUFFER_BYTES = 16 * 1024 * 1024

SMALLEST = {"cache_size": 0, "cache_bytes": 0, "buffer_bytes": 1}
"""The smallest values. No instance has to stay in memory; a consumer holds at least one message."""


class MemoryBounds(NamedTuple):
    """How much one component of a worker keeps in memory.

    Args:
        cache_size: how many workflow instances stay live.
        cache_bytes: how many bytes of history these instances have together.
        buffer_bytes: how many bytes of messages each consumer holds.
    """

    cache_size: int = DEFAULT_CACHE_SIZE
    cache_bytes: int = DEFAULT_CACHE_BYTES
    buffer_bytes: int = DEFAULT_BUFFER_BYTES

    def check(self) -> MemoryBounds:
        """Return the bounds unchanged if they make sense.

        Raises:
            UsageError: a bound is not a whole number, or is too small to work with.
        """
        for name, least in SMALLEST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"{name} must be a whole number, {least} or more, got {value!r}")
        return self


def is_above(held: int, bound: int, instances: int) -> bool:
    """True if an instance must go because of the bytes that all of them hold.

    The last one stays, unless none may.

    Args:
        held: how many bytes they hold.
        bound: how many they may hold; 0: no instance stays.
        instances: how many they are.
    """
    return held > bound and instances > (1 if bound else 0)
