"""The observer that checks the rules while a run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from infinitic.clock import Clock
from infinitic.storage import Change, Claim, Outcome, Published, Storage, TagChange
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic.worker.listeners import Listener, read_event_type
from infinitic_storages.memory import Database
from infinitic_testing.choices import Choices
from infinitic_testing.explaining import FindSpecs
from infinitic_testing.invariants.book import RunBook
from infinitic_testing.invariants.commits import CommitChecks
from infinitic_testing.invariants.healed import HoldsMemory, check_healed
from infinitic_testing.invariants.listening import ListenerChecks
from infinitic_testing.invariants.logs import LogWatch
from infinitic_testing.invariants.messages import MessageChecks
from infinitic_testing.invariants.tags import TagChecks
from infinitic_testing.invariants.violation import InvariantViolated
from infinitic_testing.observing import Observer
from infinitic_transports.memory import Broker

IN_FLIGHT_SECONDS = 60.0
"""For so long after its end, requests of a killed process may still arrive."""


class Invariants(Observer):
    """Checks all rules of `SAFETY` in one run, at the instant at which something takes effect.

    It has to see the run from its beginning, when broker and database are empty.

    Attributes:
        evaluated: how often each rule was checked. In a campaign, a rule that was never checked is
            a mistake of the campaign.
        violation: the first violation; None if all rules hold so far. After it nothing more is
            checked.

    Args:
        database: where all workers write.
        broker: what all workers use.
        clock: the time of the simulation.
        specs: returns the hosted versions of a workflow by its name, as `Worker.workflow_specs`.
        choices: choose which closed instances are replayed at once; None: all are.
        replayed: the share of them, from 0.0 to 1.0.
        is_ordered: tells whether the broker has kept the order of each key so far. None: it always
            does.
        on_violation: called with the first violation, instead of raising it.

    Raises:
        InvariantViolated: out of each method, if a rule does not hold, and there is no
            `on_violation`.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        clock: Clock,
        specs: FindSpecs,
        choices: Choices | None = None,
        replayed: float = 1.0,
        is_ordered: Callable[[], bool] | None = None,
        on_violation: Callable[[InvariantViolated], None] | None = None,
    ) -> None:
        self.violation: InvariantViolated | None = None
        self._on_violation = on_violation
        self._book = RunBook(database, broker, clock, specs, is_ordered, self._note_violation)
        self._tags = TagChecks(self._book)
        self._listening = ListenerChecks(self._book)
        self._commits = CommitChecks(self._book, self._tags, self._listening, choices, replayed)
        self._messages = MessageChecks(self._book, self._tags, self._listening)

    @property
    def evaluated(self) -> Counter[str]:
        """How often each rule was checked."""
        return self._book.evaluated

    def _note_violation(self, violation: InvariantViolated) -> None:
        is_first = self.violation is None
        if is_first:
            self.violation = violation
        if self._on_violation is None:
            raise violation
        if is_first:
            self._on_violation(violation)

    def watch_listener(self, name: str, listener: Listener, types: Collection[str] | None) -> Listener:
        """Wrap an event listener, to note what it is told.

        Args:
            name: that of the listener.
            listener: the function.
            types: the types of events that it gets; None: all.
        """
        full = None if types is None else frozenset(read_event_type(each) for each in types)
        return self._listening.watch(name, listener, full)

    def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        """Check messages that the broker has accepted."""
        if self.violation is None:
            self._check_silent(who, f"it publishes to {topic.name}")
            self._messages.publish(who, topic, messages)

    def delivered(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        """Check messages that the broker has handed out."""
        if self.violation is None:
            self._messages.deliver(topic, deliveries)

    def acknowledged(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        """Check deliveries of which the broker is told that they are done."""
        if self.violation is None:
            self._messages.acknowledge(topic, deliveries)

    def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        """Check changes that the storage has decided on."""
        if self.violation is None:
            self._check_silent(who, "it writes")
            self._commits.commit(changes, outcomes)

    def purged(self, who: str, now: float, count: int) -> None:
        """Note what was purged."""
        if self.violation is None and count:
            self._commits.purge(now)

    def tagged(self, who: str, changes: Sequence[TagChange]) -> None:
        """Note changes of tags that the storage has taken."""
        if self.violation is None:
            self._check_silent(who, "it writes tags")
            self._tags.note_changes(changes)

    def claimed(self, who: str, asked: TagChange, claim: Claim) -> None:
        """Check a claim that the storage has decided on."""
        if self.violation is None:
            self._check_silent(who, "it claims a custom id")
            self._tags.note_claim(asked, claim)

    def ended(self, who: str, how: str) -> None:
        """Note that a process has ended."""
        if how == "killed":
            self._book.killed[who] = self._book.clock.now()

    async def check_healed(
        self,
        storage: Storage,
        *,
        workers: Iterable[HoldsMemory] = (),
        services: Collection[str] | None = None,
        log: LogWatch | None = None,
        faults: Collection[str] = (),
    ) -> None:
        """Check all rules of `HEALED`, when all faults are over and all work is done.

        The outcome is not checked: see `find_outcome_difference`.

        Args:
            storage: a connection without faults.
            workers: those that live.
            services: the services that somebody hosts. None: all are.
            log: of the run. None: nobody watched it.
            faults: those that the run may have had.

        Raises:
            InvariantViolated: a rule does not hold, and there is no `on_violation`.
        """
        await check_healed(self._book, self._tags, storage, workers=workers, services=services, log=log, faults=faults)
        self._listening.check_healed()

    def _check_silent(self, who: str, what: str) -> None:
        ended = self._book.killed.get(who)
        if ended is not None:
            passed = self._book.clock.now() - ended
            wrong = f"{who} was killed {passed:.3f} s ago, and {what}" if passed > IN_FLIGHT_SECONDS else None
            self._book.judge("dead-silent", wrong)
