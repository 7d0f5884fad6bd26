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
        self._has_failed = False

    def _tell(self, call: Callable[[Observer], None]) -> None:
        if self._has_failed:
            return
        self.count += 1
        for observer in self.observers:
            try:
                call(observer)
            except Exception as error:  # noqa: BLE001 (whatever it is, it ends the run)
                self._has_failed = True
                self._fail(error)
                return

    def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        self._tell(lambda each: each.published(who, topic, messages))

    def delivered(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self._tell(lambda each: each.delivered(who, topic, deliveries))

    def acknowledged(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self._tell(lambda each: each.acknowledged(who, topic, deliveries))

    def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        self._tell(lambda each: each.committed(who, changes, outcomes))

    def purged(self, who: str, now: float, count: int) -> None:
        self._tell(lambda each: each.purged(who, now, count))

    def ended(self, who: str, how: str) -> None:
        self._tell(lambda each: each.ended(who, how))
