"""A fault that the nemesis makes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infinitic_testing.cluster.nemesis import Nemesis


@dataclass(frozen=True)
class Action:
    """How a fault is made.

    Attributes:
        fault: its name in the catalog.
        act: makes it. It may take time, but returns soon when the faults of the run are over.
        is_possible: true if it can be made now.
        factor: how much more often than its rate it happens, each time that it is drawn.
        counts_itself: true if `act` may do nothing. Then it counts what it has done.
    """

    fault: str
    act: Callable[[Nemesis], Coroutine[Any, Any, None]]
    is_possible: Callable[[Nemesis], bool]
    factor: float = 1.0
    counts_itself: bool = False


def some_live(nemesis: Nemesis) -> bool:
    """True if a worker is alive."""
    return bool(nemesis.cluster.living())
