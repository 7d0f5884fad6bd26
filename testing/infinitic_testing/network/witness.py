"""Tells the observers of a run what takes effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from infinitic.storage import Lost
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.intercepting import Operation
from infinitic_testing.observing import Observer


class Witness:
    """Sees each operation that takes effect, and tells the observers.

    Args:
        plan: the faults of the run. Conflicts are counted here, when a commit is lost.
        observers: who is told.
        on_violation: called once with the first error of an observer.

    Attributes:
        violation: the first error that an observer has raised; None if there is none.
    """

    def __init__(
        self, plan: FaultPlan, observers: Iterable[Observer], on_violation: Callable[[Exception], object] | None
    ) -> None:
        self.violation: Exception | None = None
        self._plan = plan
        self._observers = tuple(observers)
        self._on_violation = on_violation

    def notify(self, who: str, operation: Operation, result: Any) -> Exception | None:
        """Tell the observers.

        Args:
            who: the name of the process.
            operation: what it has done.
            result: what the adapter has returned.

        Returns:
            The error that an observer has raised, if any.
        """
        if operation.verb == "commit" and any(isinstance(outcome, Lost) for outcome in result):
            self._plan.count("conflicts")
        try:
            for observer in self._observers:
                _tell(observer, who, operation, result)
        except Exception as error:  # noqa: BLE001 - whatever an observer raises ends the run
            if self.violation is None:
                self.violation = error
                if self._on_violation is not None:
                    self._on_violation(error)
            return error
        return None


def _tell(observer: Observer, who: str, operation: Operation, result: Any) -> None:
    topic = operation.topic
    match operation.verb:
        case "publish" if topic is not None:
            observer.published(who, topic, operation.messages)
        case "receive" if topic is not None:
            observer.delivered(who, topic, result)
        case "ack" if topic is not None and result:
            observer.acknowledged(who, topic, result)
        case "commit":
            observer.committed(who, operation.changes, result)
        case "purge":
            observer.purged(who, operation.now, result)
        case _:
            pass
