"""Tells all observers of a run what takes effect, and ends the run when one of them objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infinitic.storage import Change, Outcome, Published
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic_testing.observing import Observer


class Watch(Observer):
    """Passes everything on to other observers, in order.

    Attributes:
        observers: who is told. More may be added at any time.
        count: how much has taken effect so far.

    Args:
        fail: called with the error that an observer raised. After that, nobody is told anything.
    """

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        self.observers: list[Observer] = []
        self.count = 0
        self._fail = fail

    def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        self.count += 1
        try:
            for observer in self.observers:
                observer.published(who, topic, messages)
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends the run)
            self._end(error)

    def delivered(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self.count += 1
        try:
            for observer in self.observers:
                observer.delivered(who, topic, deliveries)
        except Exception as error:  # noqa: BLE001 (as above)
            self._end(error)

    def acknowledged(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self.count += 1
        try:
            for observer in self.observers:
                observer.acknowledged(who, topic, deliveries)
        except Exception as error:  # noqa: BLE001 (as above)
            self._end(error)

    def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        self.count += 1
        try:
            for observer in self.observers:
                observer.committed(who, changes, outcomes)
        except Exception as error:  # noqa: BLE001 (as above)
            self._end(error)

    def purged(self, who: str, now: float, count: int) -> None:
        self.count += 1
        try:
            for observer in self.observers:
                observer.purged(who, now, count)
        except Exception as error:  # noqa: BLE001 (as above)
            self._end(error)

    def ended(self, who: str, how: str) -> None:
        try:
            for observer in self.observers:
                observer.ended(who, how)
        except Exception as error:  # noqa: BLE001 (as above)
            self._end(error)

    def _end(self, error: Exception) -> None:
        """End the run. After that, nobody is told anything."""
        self.observers = []
        self._fail(error)
