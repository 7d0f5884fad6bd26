"""What the checks know of one instance, and of the step that is just written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infinitic import ids
from infinitic.engines import effects
from infinitic.engines.effects import Effect
from infinitic.engines.state import WorkflowHead
from infinitic.messages.events import Event
from infinitic.storage import Change, StateKey
from infinitic_testing.invariants.history import ObservedHistory

Sending = tuple[object, ...]
"""What tells that a message is the one that an effect wants to be sent.

It begins with "task", "answer", "wake", "activation", "tags", "remote", "probe" or "reopened".
"""


class ObservedInstance:
    """One instance, as its commits have made it.

    Attributes:
        key: its name and id.
        created: the version of its first change.
        version: that of its last change.
        written: that of its last change with a segment.
        head: its head.
        history: what follows from its events.
        taken: the deduplication ids of its inputs, with the version that took each.
        sent: the attempts of tasks that were in an outbox: position, retry sequence, retry index.
        wakes: the times for which wakes were armed.
        settled: the version that closed a position, by position and retry sequence.
        counted: the version that counted a failed attempt, by position, retry sequence and index.
        woken: the version that used a wake up, by its time.
        decided: the version that took a decision, by activation and epoch.
        had_outbox: whether its last segment has an outbox.
        unpublished: what of the last outbox was not published yet.
        senders: the number of the last signal that was taken, by its sender.
        head_checksum: the CRC-32 of its head as it was written.
        checksums: the CRC-32 of the events of each segment as it was written.
        started_at: when it was created by the clock of the simulation.
        expires_at: when it may be purged; None while it runs.
        purged: True once it was purged.
        told_reopened: who was told that it runs again, with the id of the message.
        reopened_at: when it was re-opened last by the clock of the simulation; before all time if
            it never was.
    """

    __slots__ = (
        "checksums",
        "counted",
        "created",
        "decided",
        "expires_at",
        "had_outbox",
        "head",
        "head_checksum",
        "history",
        "key",
        "purged",
        "reopened_at",
        "senders",
        "sent",
        "settled",
        "started_at",
        "taken",
        "told_reopened",
        "unpublished",
        "version",
        "wakes",
        "woken",
        "written",
    )

    def __init__(self, key: StateKey, head: WorkflowHead, version: int, now: float) -> None:
        self.key = key
        self.created = self.version = self.written = version
        self.head = head
        self.history = ObservedHistory()
        self.taken: dict[str, int] = {}
        self.sent: set[tuple[int, int, int]] = set()
        self.wakes: set[float] = set()
        self.settled: dict[tuple[int, int], int] = {}
        self.counted: dict[tuple[int, int, int], int] = {}
        self.woken: dict[float, int] = {}
        self.decided: dict[tuple[int, int], int] = {}
        self.had_outbox = False
        self.unpublished: dict[Sending, None] = {}
        self.senders: dict[str, int] = {}
        self.head_checksum = 0
        self.checksums: list[int] = []
        self.started_at = now
        self.expires_at: float | None = None
        self.purged = False
        self.told_reopened: set[tuple[StateKey, str]] = set()
        self.reopened_at = float("-inf")

    @property
    def is_over(self) -> bool:
        """True if it is closed. It may be purged, too."""
        return self.purged or self.head.closed


@dataclass(slots=True)
class WrittenStep:
    """A change that was written.

    Attributes:
        key: the instance.
        instance: the instance before the step; None: the step creates it.
        change: what was written.
        head: the new head.
        events: of the new segment.
        outbox: of the new segment.
    """

    key: StateKey
    instance: ObservedInstance | None
    change: Change
    head: WorkflowHead
    events: Sequence[Event]
    outbox: Sequence[Effect]


def name_sending(effect: Effect, head: WorkflowHead) -> Sending:
    """Name the message that an effect wants to be sent.

    Args:
        effect: out of an outbox.
        head: the head that was written with it.
    """
    match effect:
        case effects.SendTask():
            return ("task", effect.position, effect.retry_sequence, effect.retry_index)
        case effects.Answer() | effects.Confirm() | effects.Refuse() | effects.TellCanceled() | effects.Reject():
            return ("answer", effect.reply_to.client, effect.reply_to.request)
        case effects.ArmWake():
            return ("wake", effect.due)
        case effects.TellReopened(reply_to=to):
            return ("reopened", ids.reopened_id(head.id, head.epoch, to.request))
        case effects.ProbeElsewhere():
            return ("probe", "" if head.probe is None else head.probe.request_id)
        case effects.ActivateElsewhere():
            return ("activation", effect.activation, head.epoch)
        case effects.CancelSent():
            return ("cancel", effect.blocks)
        case effects.ClaimCustomId():
            return ("claim", effect.request)
        case effects.Tag():
            return ("tags", effect)
        case effects.TellListeners():
            return ("events", head.sequence)
        case effects.SendRemote():
            return ("remote", ids.remote_id(head.id, head.run, effect.position, effect.retry_sequence))
