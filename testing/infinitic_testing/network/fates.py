"""What becomes of a call on its way: how long it takes, and whether it fails."""

from __future__ import annotations

from enum import Enum, auto

from infinitic.storage import StorageOutcomeUnknown, StorageUnavailable
from infinitic.transport import TransportUnavailable
from infinitic_testing.choices import Choices
from infinitic_testing.faults.plan import FaultPlan, Phase

_TAG_VERBS = frozenset({"update_tags", "list_members", "count_members", "claim", "purge_tags"})

STORAGE_VERBS = _TAG_VERBS | {"prepare", "load", "history", "commit", "find", "count", "purge"}
"""The operations of a storage. All others are those of a broker."""

LATENCIES = (0.0005, 0.005, 0.05)
"""The longest usual latencies of a run, in seconds, on one way. Each run has one of them."""

_LONGEST_TAIL = 20.0
"""Seconds that a slow message takes at most."""

_LONGEST_TIMEOUT = 10.0
"""Seconds after which a caller is told that its call has failed, at most."""

_LONGEST_LATENESS = 5.0
"""Seconds after which a commit with an unknown outcome may still be written, at most."""

_LONGEST_HAND = 20.0
"""Seconds after its first delivery at which a message comes again too early, at most."""

_WINDOW = (0.5, 20.0)
"""The shortest and the longest seconds of a state of the broker, such as back-pressure."""


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
    HELD = auto()
    """It takes effect seconds later. Meanwhile its inputs are with others, who may be faster."""


_UNKNOWN = (Fate.REPLY_LOST, Fate.LOST, Fate.LATE)

_STALE = frozenset({"find", "count", "count_members", "stats"})
"""Reads that need not see what was written a moment before."""

_READS = frozenset({"load", "history", "find", "count", "list_members", "count_members"})

_TAG_WRITES = frozenset({"update_tags", "claim"})


class Fates:
    """Draws latencies and failures for the calls to one server.

    Attributes:
        is_sound: True for a user's client: its calls are slow at times, but never fail.
        latency: the longest usual seconds on one way.

    Args:
        choices: of the run.
        plan: the faults of the run.
        latency: see above.
        is_sound: see above.
    """

    __slots__ = ("_choices", "_plan", "is_sound", "latency")

    def __init__(self, choices: Choices, plan: FaultPlan, *, latency: float, is_sound: bool) -> None:
        self.is_sound = is_sound
        self.latency = latency
        self._choices = choices
        self._plan = plan

    def draw_way_there(self, verb: str) -> float:
        """Draw the seconds until a call arrives.

        Args:
            verb: of the operation.
        """
        delay = self._choices.between(_THERE[verb], 0.0, self.latency)
        if self._plan.phase is not Phase.FAULTY:
            return delay
        return delay + self._draw_tail(verb)

    def draw_way_back(self, verb: str) -> float:
        """Draw the seconds until a reply arrives.

        Args:
            verb: of the operation.
        """
        delay = self._choices.between(_BACK[verb], 0.0, self.latency)
        if self._plan.phase is not Phase.FAULTY:
            return delay
        if verb in _STALE and self._plan.fires("stale-reads", factor=20.0):
            delay += self._choices.between("latency/stale", 1.0, _LONGEST_TAIL)
        return delay + self._draw_tail(verb)

    def draw_fate(self, verb: str) -> Fate:
        """Draw what becomes of a call that has arrived.

        Args:
            verb: of the operation.
        """
        plan = self._plan
        if self.is_sound or plan.phase is not Phase.FAULTY:
            return Fate.NORMAL
        if verb == "commit":
            if plan.fires("failed-commits"):
                return Fate.REFUSED
            if plan.fires("unknown-commits"):
                return _UNKNOWN[self._choices.pick("fate/commit", len(_UNKNOWN))]
            if plan.draw("conflicts"):
                return Fate.HELD
        elif verb in _TAG_WRITES:
            if plan.fires("failed-commits"):
                return Fate.REFUSED
            if plan.fires("unknown-commits"):
                return _UNKNOWN[self._choices.pick("fate/tags", len(_UNKNOWN))]
        elif verb in _READS:
            if plan.fires("failed-reads"):
                return Fate.REFUSED
        elif verb in ("publish", "declare"):
            if plan.fires("lost-publishes"):
                return Fate.REFUSED
            if plan.fires("lost-replies"):
                return (Fate.REPLY_LOST, Fate.LATE)[self._choices.pick("fate/publish", 2)]
        return Fate.NORMAL

    def draw_partition(self) -> float | None:
        """Draw the seconds for which a process is cut off from now on. None: it is not."""
        return None if self.is_sound else self.draw_window("partitions", factor=0.1)

    def draw_doubt(self) -> bool:
        """Draw whether a caller whose call did not arrive cannot know that."""
        return self._choices.happens("fate/doubt", 0.5)

    def draw_patience(self) -> bool:
        """Draw whether a publish waits while the broker takes none, or else fails."""
        return self.is_sound or self._choices.happens("fate/patience", 0.5)

    def draw_timeout(self) -> float:
        """Draw the seconds after which a caller is told that its call has failed."""
        return self._choices.between("latency/timeout", 0.0, _LONGEST_TIMEOUT)

    def draw_lateness(self) -> float:
        """Draw the seconds after which a call takes effect that the caller has given up."""
        return self._choices.between("latency/late", 0.0, _LONGEST_LATENESS)

    def draw_hold(self) -> float:
        """Draw the seconds for which a commit is held, so that others may be faster."""
        return self._choices.between("latency/held", 1.0, 2 * _LONGEST_LATENESS)

    def draw_lost_ack(self) -> float | None:
        """Draw the seconds after which a message comes again whose acknowledgement is lost.

        None: it is not lost.
        """
        if self.is_sound or not self._plan.fires("lost-acks"):
            return None
        return self._choices.between("ack/comes again", 0.0, _LONGEST_HAND)

    def draw_early_redelivery(self) -> float | None:
        """Draw the seconds after which a message comes again that is still in hand.

        None: it does not.
        """
        if self.is_sound or not self._plan.fires("early-redeliveries"):
            return None
        return self._choices.between("redelivery/early", 0.0, _LONGEST_HAND)

    def draw_grouping(self, longest: float) -> float:
        """Draw the seconds for which acknowledgements are collected before they are sent.

        Args:
            longest: at most.
        """
        return self._choices.between("ack/grouping", 0.0, longest)

    def draw_window(self, name: str, *, factor: float) -> float | None:
        """Draw the seconds of a state of the broker that begins now. None: it does not begin.

        Args:
            name: of the fault.
            factor: how much more often than its rate; below 1.0 less often.
        """
        if not self._plan.fires(name, factor=factor):
            return None
        return self._choices.between(f"window/{name}", *_WINDOW)

    def _draw_tail(self, verb: str) -> float:
        if self._plan.fires("slow-storage" if verb in STORAGE_VERBS else "slow-messages"):
            return self._choices.between("latency/tail", 0.1, _LONGEST_TAIL)
        return 0.0


_VERBS = (*sorted(STORAGE_VERBS), "declare", "publish", "subscribe", "stats", "peek", "receive", "ack", "nack")
_THERE = {verb: f"latency/{verb}/there" for verb in _VERBS}
_BACK = {verb: f"latency/{verb}/back" for verb in _VERBS}


def make_error(verb: str, *, is_outcome_unknown: bool) -> Exception:
    """Make the error that an adapter raises if an operation fails.

    Args:
        verb: of the operation.
        is_outcome_unknown: whether nobody knows if it has taken effect. It makes a difference for
            commits, and for what writes tags, only.
    """
    if verb not in STORAGE_VERBS:
        return TransportUnavailable("The simulated broker could not be reached")
    if is_outcome_unknown and (verb == "commit" or verb in _TAG_WRITES):
        return StorageOutcomeUnknown("The reply of the simulated storage was lost")
    return StorageUnavailable("The simulated storage could not be reached")
