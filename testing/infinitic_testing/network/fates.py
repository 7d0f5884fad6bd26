"""What becomes of a call on its way: how long it takes, and whether it fails."""

from __future__ import annotations

from enum import Enum, auto

from infinitic.storage import StorageOutcomeUnknown, StorageUnavailable
from infinitic.transport import TransportUnavailable
from infinitic_testing.choices import Choices
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.intercepting import Operation

STORAGE_VERBS = frozenset({"prepare", "load", "history", "commit", "find", "count", "purge"})
"""The operations of a storage. All others are those of a broker."""

_LATENCIES = (0.0005, 0.005, 0.05)
"""The longest usual latencies of a run, in seconds, on one way. Each run has one of them."""

_LONGEST_TAIL = 20.0
"""Seconds that a slow message takes at most."""

_LONGEST_TIMEOUT = 10.0
"""Seconds after which a caller is told that its call has failed, at most."""

_LONGEST_LATENESS = 5.0
"""Seconds after which a commit with an unknown outcome may still be written, at most."""

_FAULTS: dict[str, tuple[str, ...]] = {
    "publish": ("lost-publishes", "lost-replies"),
    "declare": ("lost-publishes", "lost-replies"),
    "commit": ("failed-commits", "unknown-commits"),
    "load": ("failed-reads",),
    "history": ("failed-reads",),
    "find": ("failed-reads",),
    "count": ("failed-reads",),
}
"""The faults that may happen to a call, by its verb."""


class Fate(Enum):
    """What becomes of a call that has arrived."""

    NORMAL = auto()
    REFUSED = auto()
    """It has no effect, and the caller is told so."""
    LOST = auto()
    """It has no effect, and the caller cannot know that."""
    REPLY_LOST = auto()
    """It takes effect, and the caller cannot know that."""
    LATE = auto()
    """It takes effect after the caller was told that the outcome is unknown."""


class Fates:
    """Draws latencies and failures for the calls to one server.

    Attributes:
        is_sound: True for a user's client: its calls are slow at times, but never fail.

    Args:
        choices: of the run.
        plan: the faults of the run.
        is_sound: see above.
    """

    __slots__ = ("_choices", "_latency", "_plan", "is_sound")

    def __init__(self, choices: Choices, plan: FaultPlan, *, is_sound: bool) -> None:
        self.is_sound = is_sound
        self._choices = choices
        self._plan = plan
        self._latency = _LATENCIES[choices.pick("latency/scale", len(_LATENCIES))]

    def draw_delay(self, operation: Operation, way: str) -> float:
        """Draw the seconds that a call or its reply is on its way.

        Args:
            operation: the call.
            way: "there" or "back".
        """
        delay = self._choices.between(_LABELS[operation.verb, way], 0.0, self._latency)
        if self._plan.fires("slow-storage" if operation.verb in STORAGE_VERBS else "slow-messages"):
            delay += self._choices.between("latency/tail", 0.1, _LONGEST_TAIL)
        return delay

    def draw_fate(self, operation: Operation) -> Fate:
        """Draw what becomes of a call that has arrived."""
        if self.is_sound:
            return Fate.NORMAL
        for fault in _FAULTS.get(operation.verb, ()):
            if self._plan.fires(fault):
                match fault:
                    case "lost-publishes" | "failed-reads" | "failed-commits":
                        return Fate.REFUSED
                    case "lost-replies":
                        return Fate.REPLY_LOST
                    case _:
                        return (Fate.REPLY_LOST, Fate.LOST, Fate.LATE)[self._choices.pick("fate/commit", 3)]
        return Fate.NORMAL

    def draw_doubt(self) -> bool:
        """Draw whether a caller whose call did not arrive cannot know that."""
        return self._choices.happens("fate/doubt", 0.5)

    def draw_timeout(self) -> float:
        """Draw the seconds after which a caller is told that its call has failed."""
        return self._choices.between("latency/timeout", 0.0, _LONGEST_TIMEOUT)

    def draw_lateness(self) -> float:
        """Draw the seconds after which a call takes effect that the caller has given up."""
        return self._choices.between("latency/late", 0.0, _LONGEST_LATENESS)


_LABELS = {
    (verb, way): f"latency/{verb}/{way}"
    for verb in (*STORAGE_VERBS, "declare", "publish", "subscribe", "stats", "receive", "ack", "nack")
    for way in ("there", "back")
}


def make_error(verb: str, *, is_outcome_unknown: bool) -> Exception:
    """Make the error that an adapter raises if an operation fails.

    Args:
        verb: of the operation.
        is_outcome_unknown: whether nobody knows if it has taken effect. It makes a difference for
            commits only.
    """
    if verb not in STORAGE_VERBS:
        return TransportUnavailable("The simulated broker could not be reached")
    if verb == "commit" and is_outcome_unknown:
        return StorageOutcomeUnknown("The reply of the simulated storage was lost")
    return StorageUnavailable("The simulated storage could not be reached")
