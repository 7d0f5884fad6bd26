"""Whether a worker publishes events for listeners."""

from __future__ import annotations


class EventSwitch:
    """Says whether a worker publishes events. All its engines and executors look at it.

    Attributes:
        on: whether events are published. It may change while the worker runs.
    """

    __slots__ = ("on",)

    def __init__(self, on: bool = False) -> None:
        self.on = on
