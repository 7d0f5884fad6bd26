"""The program of another process that writes to a storage.

It reads a pickled function that makes a connection. It writes one instance, again and again, prints
what it has written, one line each, and is killed in the end.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import Callable

from infinitic.storage import Change, Lost, Segment, StateKey, StateStorage, Storage, StorageUnavailable, Written

KEY = StateKey("Trip", "contended")


async def try_to_write(states: StateStorage, name: str, parity: int) -> str | None:
    """Write the next segment of the instance, and return it; None if somebody else was first.

    Args:
        states: of the connection.
        name: of the process.
        parity: 0 or 1. Its versions are even or odd, so that no two processes choose the same.
    """
    try:
        stored = (await states.load([KEY]))[KEY]
        version = stored.version + 1 + (stored.version + 1 + parity) % 2
        written = f"{name} {version}"
        change = Change(
            KEY,
            stored.version,
            version,
            b"head",
            stored.version,
            segment=Segment(stored.sequence + 1, written.encode()),
        )
        (outcome,) = await states.commit([change])
    except StorageUnavailable:
        # It is busy, and certainly nothing was written.
        return None
    assert isinstance(outcome, Written | Lost), outcome
    return written if isinstance(outcome, Written) else None


async def run(connect: Callable[[], Storage]) -> None:
    """Write, and say so, for ever."""
    storage = connect()
    await storage.prepare()
    while True:
        written = await try_to_write(storage.states, "other", 1)
        if written is not None:
            sys.stdout.write(written + "\n")
            sys.stdout.flush()


def main() -> None:
    """Write to the storage whose connector can be read."""
    asyncio.run(run(pickle.load(sys.stdin.buffer)))
