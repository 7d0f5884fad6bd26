"""The instances that a worker holds in memory: heads, and the live ones among them. Least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from infinitic.engines.state import WorkflowHead
from infinitic.messages.events import Stimulus
from infinitic.replay.instance import Instance
from infinitic.storage import StateKey

DEFAULT_SIZE = 1000


class Held:
    """One instance in memory. `version` guards its next change; None: it does not exist yet.

    `live` is its object on its loop, if it is there, and `pending` the stimuli in history that it was not handed yet.
    `published` says that storage knows the last outbox to have been published. `vouched` is how many of the deliveries
    that wait had come before the head was loaded: it holds all that led to them. A head from memory vouches for none:
    the key may have been with another worker meanwhile.
    """

    __slots__ = ("head", "key", "live", "pending", "published", "version", "vouched")

    def __init__(self, key: StateKey, head: WorkflowHead | None, version: int | None, *, published: bool) -> None:
        self.key = key
        self.head = head
        self.version = version
        self.published = published
        self.live: Instance | None = None
        self.pending: list[Stimulus] = []
        self.vouched = 0

    def discard_live(self) -> None:
        """Close the live instance: it has done something that is not in history, or must make room."""
        if self.live is not None:
            self.live.close()
            self.live = None
            self.pending = []


class Cache:
    """Held instances by id, at most `size` besides those in use."""

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        self._size = size
        self._held: OrderedDict[str, Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, key: str) -> Held | None:
        """Take an instance out, to work on it: nobody evicts it meanwhile. Give it back with `put`."""
        return self._held.pop(key, None)

    def put(self, held: Held) -> None:
        """Give an instance back, as the one most recently used."""
        self._held[held.key.id] = held

    def evict(self) -> Iterator[Held]:
        """Instances to let go, so that the bound holds."""
        while len(self._held) > self._size:
            yield self._held.popitem(last=False)[1]

    def clear(self) -> Iterator[Held]:
        """All instances, to let go."""
        while self._held:
            yield self._held.popitem(last=False)[1]
