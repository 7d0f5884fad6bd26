"""Tells all observers of a run what takes effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from infinitic.storage import Lost
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.intercepting import Operation
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
