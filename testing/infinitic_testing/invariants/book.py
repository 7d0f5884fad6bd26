"""What the checks of a run share: what is known, and how a violation is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from infinitic import topics
from infinitic.clock import Clock
from infinitic.messages.client import ReplyTo
from infinitic.storage import StateKey
from infinitic_storages.memory import Database
from infinitic_testing.explaining import FindSpecs
from infinitic_testing.invariants.instances import ObservedInstance
from infinitic_testing.invariants.traffic import Traffic
from infinitic_testing.invariants.violation import InvariantViolated
from infinitic_transports.memory import Broker


class RunBook:
    """All that is known of a run.

    Attributes:
        instances: those that were ever written, by key.
        traffic: the messages so far.
        evaluated: how often each rule was checked.
        killed: when a process was killed, by its name.
        requesters: the instance that asked something of another one, and its position, by the id of
            what it asked for.

    Args:
        database: where all workers write.
        broker: what all workers use.
        clock: the time of the simulation.
        specs: finds the code of workflows.
        is_ordered: tells whether the broker has kept the order of each key so far; None: it always
            does.
        on_violation: called with each violation. If it does not raise, the run goes on.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        clock: Clock,
        specs: FindSpecs,
        is_ordered: Callable[[], bool] | None,
        on_violation: Callable[[InvariantViolated], None],
    ) -> None:
        self.database = database
        self.broker = broker
        self.clock = clock
        self.specs = specs
        self.instances: dict[StateKey, ObservedInstance] = {}
        self.traffic = Traffic()
        self.evaluated: Counter[str] = Counter()
        self.killed: dict[str, float] = {}
        self.requesters: dict[str, tuple[StateKey, int]] = {}
        self._is_ordered = is_ordered
        self._on_violation = on_violation

    @property
    def is_ordered(self) -> bool:
        """True if the broker has kept the order of each key so far."""
        return self._is_ordered is None or self._is_ordered()

    def judge(self, rule: str, wrong: str | None, key: StateKey | None = None) -> None:
        """Count that a rule was checked.

        Args:
            rule: its name.
            wrong: what is wrong; None: it holds.
            key: the instance that it was checked for.
        """
        self.evaluated[rule] += 1
        if wrong is not None:
            self._on_violation(InvariantViolated(rule, wrong, key))

    def is_told(self, reply_to: ReplyTo) -> bool:
        """True if a request was answered, or its client is gone."""
        if (reply_to.client, reply_to.request) in self.traffic.answers:
            return True
        return self.is_gone(reply_to.client, reply_to.request)

    def is_gone(self, client: str, request: str) -> bool:
        """True if a client is gone that waited for an answer (S37).

        It may have come back since then. So it has lost what was sent meanwhile. An instance that
        waits is never gone: its topic keeps what is sent.
        """
        sent = self.traffic.requests.get((client, request))
        reply_to: ReplyTo | None = None if sent is None else getattr(sent.asked, "reply_to", None)
        if reply_to is not None and reply_to.workflow:
            return False
        topic = self.broker.find_record(topics.client(client))
        return topic is None or (sent is not None and sent.topic is not topic)

    def drop_gone_clients(self, instance: ObservedInstance) -> None:
        """Forget answers that cannot be sent since their clients are gone (S37)."""
        gone = [
            sending
            for sending in instance.unpublished
            if sending[0] == "answer" and self.is_gone(str(sending[1]), str(sending[2]))
        ]
        for sending in gone:
            del instance.unpublished[sending]
