"""The instances that a worker holds in memory: heads, and the live ones among them. Least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from infinitic.engines.state import WorkflowHead
from infinitic.messages.events import Stimulus
from infinitic.replay.instance import Instance
from infinitic.runtime.memory_bounds import DEFAULT_CACHE_BYTES, DEFAULT_CACHE_SIZE, is_above
from infinitic.storage import StateKey


class Held:
    """One instance in memory. `version` guards its next change; None: it does not exist yet.

    `live` is its object on its loop, if it is there, and `pending` the stimuli in history that it was not handed yet.
    `sent` says that all of the last outbox was published, `published` that storage knows it. `vouched` is how many of
    the deliveries that wait had come before the head was loaded: it holds all that led to them. A head from memory
    vouches for none: the key may have been with another worker meanwhile. `bytes` is how much history the live instance
    was handed: it may hold all of it, and `cached` how much of that its cache has counted.
    """

    __slots__ = ("bytes", "cached", "head", "key", "live", "pending", "published", "sent", "version", "vouched")

    def __init__(self, key: StateKey, head: WorkflowHead | None, version: int | None, *, published: bool) -> None:
        self.key = key
        self.head = head
        self.version = version
        self.published = published
        self.sent = published
        self.live: Instance | None = None
        self.pending: list[Stimulus] = []
        self.vouched = 0
        self.bytes = 0
        self.cached = 0

    def discard_live(self) -> None:
        """Close the live instance: it has done something that is not in history, or must make room."""
        if self.live is not None:
            self.live.close()
            self.live = None
            self.pending = []
        self.bytes = 0


class Cache:
    """Held instances by id, at most `size` with at most `max_bytes` of history, besides those in use.

    One whose history alone has more bytes stays while it is the last one used: it would be replayed at each step, which
    takes time and more memory than it takes to keep it. With `max_bytes` 0 none stays.
    """

    def __init__(self, size: int = DEFAULT_CACHE_SIZE, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._held: OrderedDict[str, Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, key: str) -> Held | None:
        """Take an instance out, to work on it: nobody evicts it meanwhile. Give it back with `put`."""
        held = self._held.pop(key, None)
        if held is not None:
            self._bytes -= held.cached
        return held

    def put(self, held: Held) -> None:
        """Give an instance back, as the one most recently used."""
        key = held.key.id
        if key in self._held:
            self.take(key)
        self._held[key] = held
        held.cached = held.bytes
        self._bytes += held.bytes

    def evict(self) -> Iterator[Held]:
        """Instances to let go, so that the bounds hold."""
        while len(self._held) > self._size or is_above(self._bytes, self._max_bytes, len(self._held)):
            held = self._held.popitem(last=False)[1]
            self._bytes -= held.cached
            yield held

    def clear(self) -> Iterator[Held]:
        """All instances, to let go."""
        self._bytes = 0
        while self._held:
            yield self._held.popitem(last=False)[1]
