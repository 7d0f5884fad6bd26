"""Reads the document of a run from the storage. It needs no worker, and disturbs none."""

from __future__ import annotations

from infinitic.replay.run import Run
from infinitic.replay.run_reader import RunReader
from infinitic.runtime.history import decode_head, feed_history
from infinitic.storage import DamagedState, StateKey, Storage
from infinitic.storage.integrity import ensure_checked


async def read_run(storage: Storage, key: StateKey, *, payloads: bool = True) -> Run | None:
    """Read what an instance did.

    Args:
        storage: the database.
        key: the instance.
        payloads: whether arguments and values are part of it. They may be large.

    Returns:
        The document; None if the storage does not know the instance.

    Raises:
        DamagedState: what is stored is not what was written.
        NewerSchema: a newer release has written it.
    """
    states = ensure_checked(storage).states
    stored = (await states.load([key])).get(key)
    if stored is None:
        return None
    head = decode_head(key, stored)
    reader = RunReader(head, payloads=payloads)
    try:
        check = await feed_history(reader, key, head.sequence, states, head.base)
        check.finish(head)
    except DamagedState:
        if key in await states.load([key]):
            raise
        # The instance was purged meanwhile.
        return None
    return reader.finish()
