"""The live instances of an executor, between two activations.

The one that was not used for longest is closed first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from infinitic.replay.instance import Instance
from infinitic.runtime.memory_bounds import is_above
from infinitic.runtime.workflow_executor.stimuli import Unread
from infinitic.transport import Outgoing


class LiveInstance(msgspec.Struct, frozen=True, eq=False):
    """A live instance, with the decision of its last activation: it may be asked for once more.

    Attributes:
        instance: the object of the user's class on its loop.
        epoch: the epoch of that activation.
        digest: the digest of that decision. The next activation says which decision the engine
            took.
        decision: the message.
        handed: how many bytes of history it may hold: what it was handed, and what it asked for.
        unread: stimuli that were read for that activation, but left to the next one; None: there
            are none.
        is_partial: whether that activation left stimuli to the next one.
    """

    instance: Instance
    epoch: int
    digest: str
    decision: Outgoing
    handed: int
    unread: Unread | None
    is_partial: bool = False

    @property
    def bytes(self) -> int:
        """About how much memory it takes."""
        return self.handed + len(self.decision.message.body)


class LiveInstances:
    """Live instances by their id, within bounds. Those in use are taken out, and do not count.

    Args:
        size: how many stay at most.
        max_bytes: how many bytes they have together at most.
    """

    def __init__(self, size: int, max_bytes: int) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._by_id: OrderedDict[str, LiveInstance] = OrderedDict()

    def count_held(self) -> Mapping[str, int]:
        """Count what is here, but should not: instances above the bound."""
        held = sum(each.bytes for each in self._by_id.values())
        return {
            "instances above the bound": max(len(self._by_id) - self._size, 0),
            "miscounted bytes of instances": abs(held - self._bytes),
        }

    def take(self, workflow_id: str) -> LiveInstance | None:
        """Take an instance out: nobody closes it meanwhile. None: it has to be replayed."""
        live = self._by_id.pop(workflow_id, None)
        if live is not None:
            self._bytes -= live.bytes
        return live

    def keep(self, workflow_id: str, live: LiveInstance) -> None:
        """Give an instance back, as the one most recently used."""
        self._by_id[workflow_id] = live
        self._bytes += live.bytes

    def evict(self) -> None:
        """Close instances until the bounds hold."""
        while len(self._by_id) > self._size or is_above(self._bytes, self._max_bytes, len(self._by_id)):
            self._close_oldest()

    def close_all(self) -> None:
        """Close all instances."""
        while self._by_id:
            self._close_oldest()

    def _close_oldest(self) -> None:
        live = self.take(next(iter(self._by_id)))
        if live is not None:
            live.instance.close()
