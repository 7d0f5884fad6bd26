"""The last events of a run, for the report of a failure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from infinitic.clock import Clock
from infinitic.storage import Change, Outcome, Published
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic_testing.loop import EPOCH
from infinitic_testing.observing import Observer

LENGTH = 4000
"""How many entries are kept."""


class RunLogEntry(msgspec.Struct, frozen=True):
    """One thing that took effect.

    Attributes:
        at: virtual time, in seconds since the beginning of the run.
        who: the process that did it.
        what: "published", "delivered", "acknowledged", "committed", "purged", or what the
            simulation did to a process, such as "killed".
        topic: the topic. Empty if there is none.
        id: of the message.
        key: of the message, or the id of the instance that was committed.
        detail: more, in words.
    """

    at: float
    who: str
    what: str
    topic: str = ""
    id: str = ""
    key: str = ""
    detail: str = ""

    def __str__(self) -> str:
        words = [f"{self.at:.3f} s", self.who, self.what, self.topic, self.id, self.detail]
        if self.key and self.key not in self.id:
            words.insert(-1, f"of {self.key}")
        return " ".join(word for word in words if word)


class RunLog(Observer):
    """Keeps the last entries. They are written down only when somebody reads them.

    Args:
        clock: of the run.
        length: how many entries are kept.
    """

    def __init__(self, clock: Clock, length: int = LENGTH) -> None:
        self._now = clock.now
        self._raw: deque[tuple[float, str, str, str, object, str]] = deque(maxlen=length)

    def note(self, who: str, what: str, detail: str = "") -> None:
        """Add what the simulation did.

        Args:
            who: the process that it was done to.
            what: one word.
            detail: more, in words.
        """
        self._raw.append((self._now(), who, what, "", None, detail))

    def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        now = self._now()
        for message in messages:
            self._raw.append((now, who, "published", topic.name, message, ""))

    def delivered(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        now = self._now()
        for delivery in deliveries:
            self._raw.append((now, who, "delivered", topic.name, delivery, ""))

    def acknowledged(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        now = self._now()
        for delivery in deliveries:
            self._raw.append((now, who, "acknowledged", topic.name, delivery, ""))

    def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        now = self._now()
        for change, outcome in zip(changes, outcomes, strict=False):
            self._raw.append((now, who, "committed", "", change, type(outcome).__name__.lower()))

    def purged(self, who: str, now: float, count: int) -> None:
        if count:
            self._raw.append((self._now(), who, "purged", "", None, f"{count} instances"))

    def ended(self, who: str, how: str) -> None:
        self._raw.append((self._now(), who, how, "", None, ""))

    def keep_all(self) -> None:
        """Keep all entries from now on."""
        self._raw = deque(self._raw)

    def entries(self) -> list[RunLogEntry]:
        """Return what is kept, oldest first."""
        return [_describe(*each) for each in self._raw]

    def find_ancestors(self, keys: Iterable[str], limit: int = 20) -> list[RunLogEntry]:
        """Find the entries that led to the end of the run.

        From the end backwards, these are the entries of some keys: ids of instances, and ids of
        messages. What such a message was published for counts, too.

        Args:
            keys: ids of instances or messages.
            limit: how many entries at most.

        Returns:
            The entries, oldest first.
        """
        wanted = set(keys)
        found: list[RunLogEntry] = []
        for entry in reversed(self.entries()):
            if entry.key in wanted or entry.id in wanted:
                found.append(entry)
                wanted.add(entry.id)
                if len(found) == limit:
                    break
        return found[::-1]


def _describe(at: float, who: str, what: str, topic: str, subject: object, detail: str) -> RunLogEntry:
    message = key = ""
    match subject:
        case Delivery():
            message, key = subject.message.id, subject.message.key or ""
            if subject.attempt > 1:
                detail = f"attempt {subject.attempt}"
        case Message():
            message, key = subject.id, subject.key or ""
            if subject.deliver_at is not None:
                detail = f"for {subject.deliver_at - EPOCH:.3f} s"
        case Change():
            key, detail = subject.key.id, f"{subject.key.name}, {detail}"
        case _:
            pass
    return RunLogEntry(round(at - EPOCH, 6), who, what, topic, message, key, detail)
