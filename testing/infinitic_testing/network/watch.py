"""Tells all observers of a run what takes effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from infinitic.shared_commit import Unsent
from infinitic.storage import Change, Lost, Outcome, Published, Written
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.intercepting import Happened, Operation
from infinitic_testing.observing import Observer


class Watch:
    """Sees all that takes effect, and tells the observers, in order.

    Attributes:
        observers: who is told. It may be changed at any time.
        count: how much has taken effect so far.
        violation: the first error that an observer has raised; None if there is none.

    Args:
        plan: the faults of the run. Conflicts are counted here, when a commit is lost.
        observers: see above.
        on_violation: called once with the first error of an observer.
    """

    def __init__(
        self, plan: FaultPlan, observers: Iterable[Observer], on_violation: Callable[[Exception], object] | None
    ) -> None:
        self.observers = list(observers)
        self.count = 0
        self.violation: Exception | None = None
        self._plan = plan
        self._on_violation = on_violation

    def notify(self, who: str, operation: Operation, result: Any) -> Exception | None:
        """Tell of an operation that a process has performed.

        Args:
            who: the name of the process.
            operation: what it has done.
            result: what the adapter has returned.

        Returns:
            The error that an observer has raised, if any.
        """
        topic = operation.topic
        match operation.verb:
            case "publish" if topic is not None:
                return self._tell(lambda each: each.published(who, topic, operation.messages))
            case "receive" if topic is not None:
                return self._tell(lambda each: each.delivered(who, topic, result))
            case "ack" if topic is not None and result:
                return self._tell(lambda each: each.acknowledged(who, topic, result))
            case "commit" if operation.happened is not None:
                return self._tell_of_steps(who, operation, operation.happened, result)
            case "commit":
                if any(isinstance(outcome, Lost) for outcome in result):
                    self._plan.count("conflicts")
                return self._tell(lambda each: each.committed(who, operation.changes, result))
            case "purge":
                return self._tell(lambda each: each.purged(who, operation.now, result))
            case "update_tags":
                return self._tell(lambda each: each.tagged(who, operation.tag_changes))
            case "claim":
                return self._tell(lambda each: each.claimed(who, operation.tag_changes[0], result))
            case _:
                return None

    def _tell_of_steps(
        self, who: str, operation: Operation, happened: Sequence[Happened], results: Sequence[Outcome | Unsent]
    ) -> Exception | None:
        """Tell of steps that were committed as a whole, as if each part had come in its order.

        So the rules are the same: nothing is published before it is written, nothing acknowledged
        before it is published, and nothing said to be published that is not.
        """
        changes: list[Change] = []
        outcomes: list[Outcome] = []
        marks: list[Published] = []
        for change, outcome in zip(operation.changes, results, strict=True):
            if isinstance(change, Published) or isinstance(outcome, Unsent):
                continue
            if change.published and change.segment is not None and change.segment.outbox is not None:
                change = replace(change, published=False)
                if isinstance(outcome, Written):
                    marks.append(Published(change.key, change.version))
            changes.append(change)
            outcomes.append(outcome)
        if any(isinstance(outcome, Lost) for outcome in outcomes):
            self._plan.count("conflicts")
        wrong = self._tell(lambda each: each.committed(who, changes, outcomes))
        for step in happened:
            for topic, messages in step.sent:
                wrong = wrong or self._tell(partial(_tell_published, who, topic, messages))
        for step in happened:
            if step.settled:
                wrong = wrong or self._tell(partial(_tell_acknowledged, who, step.topic, step.settled))
        if marks:
            written = [Written(mark.version) for mark in marks]
            wrong = wrong or self._tell(lambda each: each.committed(who, marks, written))
        return wrong

    def note_end(self, who: str, how: str) -> None:
        """Tell that a process has ended.

        Args:
            who: the name of the process.
            how: "killed" or "stopped".
        """
        self._tell(lambda each: each.ended(who, how))

    def _tell(self, call: Callable[[Observer], object]) -> Exception | None:
        self.count += 1
        try:
            for observer in self.observers:
                call(observer)
        except Exception as error:  # noqa: BLE001 - whatever an observer raises ends the run
            if self.violation is None:
                self.violation = error
                if self._on_violation is not None:
                    self._on_violation(error)
            return error
        return None


def _tell_published(who: str, topic: Topic, messages: Sequence[Message], observer: Observer) -> None:
    observer.published(who, topic, messages)


def _tell_acknowledged(who: str, topic: Topic, deliveries: Sequence[Delivery], observer: Observer) -> None:
    observer.acknowledged(who, topic, deliveries)
