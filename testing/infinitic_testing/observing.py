"""What an observer of a simulation is told: all that takes effect at the broker and the storage."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.storage import Change, Claim, Outcome, Published, TagChange
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message


class Observer:
    """Is called at the instant at which something takes effect, before anybody else learns of it.

    Its methods do nothing: override those that you need. They must not call broker or storage in a
    way that changes something. An error that they raise ends the run.

    In all of them, `who` is the name of the process that did it: "client", a worker, "broker" for
    what the broker does by itself, or "simulation" for messages that a fault has sent.
    """

    def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        """The broker has accepted messages."""

    def delivered(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        """The broker has handed messages to the consumer of a process."""

    def acknowledged(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        """The broker has been told that these deliveries are done."""

    def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        """The storage has decided on changes. `outcomes` says which of them were written."""

    def purged(self, who: str, now: float, count: int) -> None:
        """The storage has removed what had expired at `now`, in seconds since the Unix epoch."""

    def tagged(self, who: str, changes: Sequence[TagChange]) -> None:
        """The storage has taken changes of tags. Of each member, the newest one counts."""

    def claimed(self, who: str, asked: TagChange, claim: Claim) -> None:
        """The storage has decided on the claim of a custom id. `asked` is what it would write."""

    def ended(self, who: str, how: str) -> None:
        """A process has ended: "killed" or "stopped"."""
