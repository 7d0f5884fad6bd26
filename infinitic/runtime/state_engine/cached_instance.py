"""One workflow instance in memory."""

from __future__ import annotations

from infinitic.engines.state import WorkflowHead
from infinitic.messages.events import Stimulus
from infinitic.replay.instance import Instance
from infinitic.storage import Change, StateKey


class CachedInstance:
    """One instance in memory: what is stored of it, and perhaps its live object.

    Args:
        key: of the instance.
        head: its head; None: there is no such instance yet.
        version: what the next change expects in the storage; None: the instance must not exist.
        published: whether the storage knows that the last outbox has been published.

    Attributes:
        sent: whether the last outbox has been published, also if the storage does not know it.
        live: the object of the user's class on its loop; None if it is not here.
        pending: stimuli in the history that the live object was not handed yet.
        bytes: how many bytes of history the live object was handed. It may hold all of them.
        counted_bytes: how many of these bytes its cache has counted.
    """

    __slots__ = ("bytes", "counted_bytes", "head", "key", "live", "pending", "published", "sent", "version")

    def __init__(self, key: StateKey, head: WorkflowHead | None, version: int | None, *, published: bool) -> None:
        self.key = key
        self.head = head
        self.version = version
        self.published = published
        self.sent = published
        self.live: Instance | None = None
        self.pending: list[Stimulus] = []
        self.bytes = 0
        self.counted_bytes = 0

    def apply(self, change: Change, head: WorkflowHead, version: int) -> None:
        """Take over what was written.

        Args:
            change: the change that is durable now.
            head: the head in it, decoded.
            version: the version that the storage gave it.
        """
        self.head = head
        self.version = version
        self.published = self.sent = change.published
        if self.live is not None and change.segment is not None:
            self.bytes += len(change.segment.events)

    def discard_live(self) -> None:
        """Close the live object. It has done what is not in the history, or must make room."""
        if self.live is not None:
            self.live.close()
            self.live = None
            self.pending = []
        self.bytes = 0
