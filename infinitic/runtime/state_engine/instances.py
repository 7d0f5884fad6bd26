"""The instances that a state engine holds in memory. Those that were not used for longest go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from infinitic.runtime.memory_bounds import DEFAULT_CACHE_BYTES, DEFAULT_CACHE_SIZE, is_above
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.group_commit import GroupCommit
from infinitic.storage import StateKey


class InstanceCache:
    """Instances by their id, within bounds. Those in use are taken out, and do not count.

    An instance whose history alone is above the bound stays while it is the last one used.
    Otherwise it would be replayed at each step, which costs time and more memory than to keep it.

    Args:
        size: how many instances stay at most; 0: none.
        max_bytes: how many bytes of history they have together at most; 0: no instance stays.
    """

    def __init__(self, size: int = DEFAULT_CACHE_SIZE, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._instances: OrderedDict[str, CachedInstance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._instances)

    def take(self, workflow_id: str) -> CachedInstance | None:
        """Take an instance out, to work on it: nobody evicts it meanwhile. Give it back with `put`."""
        instance = self._instances.pop(workflow_id, None)
        if instance is not None:
            self._bytes -= instance.counted_bytes
        return instance

    def put(self, instance: CachedInstance) -> None:
        """Give an instance back, as the one most recently used."""
        workflow_id, instances = instance.key.id, self._instances
        if workflow_id in instances:
            self.take(workflow_id)
        instances[workflow_id] = instance
        size = instance.counted_bytes = instance.bytes
        self._bytes += size

    def evict(self) -> Iterator[CachedInstance]:
        """Remove instances until the bounds hold, and give each of them."""
        while len(self._instances) > self._size or is_above(self._bytes, self._max_bytes, len(self._instances)):
            instance = self._instances.popitem(last=False)[1]
            self._bytes -= instance.counted_bytes
            yield instance

    def clear(self) -> Iterator[CachedInstance]:
        """Remove all instances, and give each of them."""
        self._bytes = 0
        while self._instances:
            yield self._instances.popitem(last=False)[1]


class Instances:
    """Where instances are between two steps: in the cache, or on their way out of it.

    On its way out is an instance whose last outbox has been published, but the storage does not
    know it yet. Whoever loaded it from there would publish the outbox once more. So it can be
    taken back until the storage knows.

    Args:
        name: the workflow.
        cache: the instances that stay.
        group_commit: writes that outboxes have been published.
    """

    def __init__(self, name: str, cache: InstanceCache, group_commit: GroupCommit) -> None:
        self._name = name
        self._cache = cache
        self._group_commit = group_commit

    def take(self, workflow_id: str) -> CachedInstance | None:
        """Take an instance out, to work on it; None: it has to be loaded."""
        instance = self._cache.take(workflow_id)
        if instance is not None:
            return instance
        return self._group_commit.take_back(StateKey(self._name, workflow_id))

    def keep(self, instance: CachedInstance) -> None:
        """Keep an instance whose last outbox has been published. Call `evict` soon."""
        self._cache.put(instance)

    def evict(self) -> None:
        """Let instances go until the bounds of the cache hold."""
        for evicted in self._cache.evict():
            self.release(evicted)

    def release(self, instance: CachedInstance) -> None:
        """Forget an instance. Whoever loads it next need not publish again what has been published."""
        instance.discard_live()
        if instance.sent and not instance.published and instance.head is not None and not instance.head.closed:
            self._group_commit.mark_published(instance)

    def release_closed(self, instance: CachedInstance, *, sends_tasks: bool) -> None:
        """Forget an instance that is closed: nothing but questions comes for it."""
        instance.discard_live()
        if sends_tasks:  # else whoever loads the tombstone only answers once more
            self._group_commit.mark_published(instance)

    def abandon(self, instances: Iterable[CachedInstance], error: BaseException) -> None:
        """Forget instances whose step was cut by an error: what memory holds of them may be wrong."""
        for instance in instances:
            self._cache.take(instance.key.id)
            instance.discard_live()
            if isinstance(error, Exception):
                self.release(instance)

    def forget(self, workflow_id: str) -> None:
        """Forget what the cache has of an instance, as `release` does. It is loaded again."""
        instance = self._cache.take(workflow_id)
        if instance is not None:
            self.release(instance)

    def release_all(self) -> None:
        """Forget all instances, as `release` does."""
        for instance in self._cache.clear():
            self.release(instance)

    def discard_all(self) -> None:
        """Forget all instances at once. Whoever loads one publishes its last outbox again."""
        for instance in self._cache.clear():
            instance.discard_live()
