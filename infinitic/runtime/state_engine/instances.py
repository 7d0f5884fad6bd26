"""The instances that a state engine holds in memory.

Those that were not used for longest go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from infinitic.runtime.memory_bounds import is_above
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.group_commit import GroupCommit
from infinitic.storage import StateKey


class Instances:
    """Instances between two steps: in a cache with bounds, or on their way out of it.

    On its way out is an instance whose last outbox has been published, but the storage does not
    know it yet. Whoever loaded it from there would publish the outbox once more. So it can be
    taken back until the storage knows.

    An instance whose history alone is above the bound stays while it is the last one used.
    Otherwise it would be replayed at each step, which costs time and more memory than to keep it.

    Args:
        name: the workflow.
        size: how many instances stay at most; 0: none. Those in use are taken out and do not count.
        max_bytes: how many bytes of history they have together at most; 0: no instance stays.
        group_commit: writes that outboxes have been published.
    """

    def __init__(self, name: str, size: int, max_bytes: int, group_commit: GroupCommit) -> None:
        self._name = name
        self._size = size
        self._max_bytes = max_bytes
        self._group_commit = group_commit
        self._bytes = 0
        self._by_id: OrderedDict[str, CachedInstance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def count_held(self) -> Mapping[str, int]:
        """Count what is here, but should not: closed instances, and those above the bounds."""
        closed = sum(each.head is not None and each.head.closed for each in self._by_id.values())
        held = sum(each.counted_bytes for each in self._by_id.values())
        return {
            "closed instances": closed,
            "instances above the bound": max(len(self._by_id) - self._size, 0),
            "miscounted bytes of instances": abs(held - self._bytes),
        }

    def take(self, workflow_id: str) -> CachedInstance | None:
        """Take an instance out, to work on it: nobody evicts it meanwhile.

        None: it has to be loaded.
        """
        instance = self._by_id.pop(workflow_id, None)
        if instance is None:
            return self._group_commit.take_back(StateKey(self._name, workflow_id))
        self._bytes -= instance.counted_bytes
        return instance

    def keep(self, instance: CachedInstance) -> None:
        """Give an instance back, as the one most recently used.

        Its last outbox has been published.
        """
        workflow_id = instance.key.id
        if workflow_id in self._by_id:
            self._remove(workflow_id)
        self._by_id[workflow_id] = instance
        size = instance.counted_bytes = instance.bytes
        self._bytes += size

    def evict(self) -> list[CachedInstance]:
        """Release instances until the bounds hold, and return them."""
        evicted: list[CachedInstance] = []
        while len(self._by_id) > self._size or is_above(self._bytes, self._max_bytes, len(self._by_id)):
            instance = self._by_id.popitem(last=False)[1]
            self._bytes -= instance.counted_bytes
            self.release(instance)
            evicted.append(instance)
        return evicted

    def release(self, instance: CachedInstance) -> None:
        """Forget an instance that is taken out.

        Whoever loads it need not publish again what was published.
        """
        instance.discard_live()
        if instance.sent and not instance.published and instance.head is not None and not instance.head.closed:
            self._group_commit.mark_published(instance)

    def release_closed(self, instance: CachedInstance, *, sends_tasks: bool) -> None:
        """Forget an instance that has closed: only questions and repeats come for it.

        Args:
            instance: it is taken out.
            sends_tasks: whether its last outbox has tasks. If it has not, whoever loads the
                tombstone only answers once more, and that need not be avoided.
        """
        instance.discard_live()
        if sends_tasks:
            self._group_commit.mark_published(instance)

    def abandon(self, instances: Iterable[CachedInstance], error: BaseException) -> None:
        """Forget instances whose step was cut by an error. What is in memory may be wrong."""
        for instance in instances:
            self._remove(instance.key.id)
            instance.discard_live()
            if isinstance(error, Exception):
                self.release(instance)

    def forget(self, workflow_id: str) -> None:
        """Release what is here of an instance. It is loaded again."""
        instance = self._remove(workflow_id)
        if instance is not None:
            self.release(instance)

    def release_all(self) -> None:
        """Release all instances."""
        while self._by_id:
            self.release(self._by_id.popitem(last=False)[1])
        self._bytes = 0

    def discard_all(self) -> None:
        """Forget all instances at once. Whoever loads one publishes its last outbox again."""
        while self._by_id:
            self._by_id.popitem(last=False)[1].discard_live()
        self._bytes = 0

    def _remove(self, workflow_id: str) -> CachedInstance | None:
        instance = self._by_id.pop(workflow_id, None)
        if instance is not None:
            self._bytes -= instance.counted_bytes
        return instance
