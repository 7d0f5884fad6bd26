"""A broker and a database of a simulation, and the ways of all processes to them.

Each call takes time on its way there and back, and may fail. All is drawn from the choices of the
run, and faults happen only while the plan allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from infinitic.clock import Clock
from infinitic.storage import Storage
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message, Transport, UnknownTopic
from infinitic_storages.memory import DEFAULT_DEDUPLICATION_WINDOW, DEFAULT_MAX_VALUE, Database, InMemoryStorage
from infinitic_testing.choices import Choices
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.faults.profiles import ONE_DATABASE
from infinitic_testing.intercepting import InterceptedStorage, Operation
from infinitic_testing.memory_pair import PairedTransport
from infinitic_testing.network.broker_choices import BrokerChoices
from infinitic_testing.network.consumer import NetworkConsumer
from infinitic_testing.network.fates import LATENCIES, Fates
from infinitic_testing.network.link import Link
from infinitic_testing.network.sides import HasConnections, Path, Server, run_far
from infinitic_testing.network.transport import NetworkTransport
from infinitic_testing.network.watch import Watch
from infinitic_testing.observing import Observer
from infinitic_transports.memory import (
    DEFAULT_MAX_PAYLOAD,
    InMemoryTransport,
    PulsarLikeBroker,
    SeededBroker,
    make_broker,
)

CLIENT = "client"
"""Who a user's client is, for observers."""

BROKER = "broker"
"""Who the broker itself is, for observers."""

SMALL_PAYLOAD = 1024 * 1024
"""Bytes of one message, in a run with the fault "small-limits"."""

SMALL_VALUE = 2 * 1024 * 1024
"""Bytes of one value in the database, in a run with the fault "small-limits"."""

_LONGEST_IGNORANCE = 30.0
"""Seconds after which a process learns that the broker takes it for dead, at most."""

_LONGEST_CONFLICT = 10.0
"""Seconds for which the process of a held commit gets no messages, so that others get them."""

_LATEST_DUPLICATE = 60.0
"""Seconds after which a message is delivered a second time, at most."""


class Network:
    """One broker, one database, and all the ways to them.

    The network draws by itself, at each call: slow and lost calls, duplicates, early redeliveries,
    late messages, timer herds, conflicts, partitions, back-pressure and starvation. What concerns a
    whole server or process is done by verbs: `restart_broker`, `cut_broker`, `cut_storage`,
    `partition`, `lose_session` and `give_back`. A verb acts now, whatever the plan says, and does
    not count: whoever draws such a fault counts it, see `FaultPlan.fires`.

    Attributes:
        broker: the in-memory broker, without any way before it.
        database: the in-memory database, likewise.
        clock: the true time.
        watch: tells the observers what takes effect.

    Args:
        choices: of the run.
        plan: the faults of the run.
        clock: the true time. The clocks of processes may differ.
        profile: of the broker, see `PROFILES`.
        observers: are told what takes effect, at that instant.
        on_violation: called once with the first error of an observer. The call that caused it
            fails with the same error.
        deduplication_window: seconds for which the database keeps deduplication ids.
        max_payload: bytes of one message. The fault "small-limits" makes it smaller.
        max_value: bytes of one value in the database. The fault "small-limits" makes it smaller.
    """

    def __init__(
        self,
        *,
        choices: Choices,
        plan: FaultPlan,
        clock: Clock,
        profile: str = "seeded",
        observers: Iterable[Observer] = (),
        on_violation: Callable[[Exception], object] | None = None,
        deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW,
        max_payload: int = DEFAULT_MAX_PAYLOAD,
        max_value: int = DEFAULT_MAX_VALUE,
    ) -> None:
        self.profile = profile
        if plan.has("small-limits"):
            # This holds for the whole run, so it is counted at once.
            plan.fired["small-limits"] += 1
            max_payload, max_value = min(max_payload, SMALL_PAYLOAD), min(max_value, SMALL_VALUE)
        self._broker_choices = BrokerChoices(choices, plan)
        kind = "seeded" if profile == ONE_DATABASE else profile
        self.broker = make_broker(kind, choose=self._broker_choices.choose, max_payload=max_payload)
        self.database = Database(deduplication_window=deduplication_window, max_value=max_value)
        self._choices = choices
        self._plan = plan
        self.clock = clock
        self.watch = Watch(plan, observers, on_violation)
        self._broker_side = Server()
        self._storage_side = Server()
        # Whether the broker takes messages. Without it, there is back-pressure.
        self._intake = Server()
        latency = LATENCIES[choices.pick("latency/scale", len(LATENCIES))]
        self._sound = Fates(choices, plan, latency=latency, is_sound=True)
        self._faulty = Fates(choices, plan, latency=latency, is_sound=False)
        # Those of living processes, with the names of these.
        self._connections: dict[NetworkTransport, str] = {}
        # By the name of a process, to the broker and to the database.
        self._paths: dict[str, tuple[Path, Path]] = {}

    @property
    def violation(self) -> Exception | None:
        """The first error that an observer has raised; None if there is none."""
        return self.watch.violation

    def connect_transport(self, process: HasConnections) -> Transport:
        """Connect a process to the broker. When it is killed, the broker ends its consumers.

        Args:
            process: who connects.
        """
        transport = self._connect(process.name, self._faulty, process)
        self._connections[transport] = process.name
        process.on_kill(partial(self._end, transport))
        return transport

    def connect_storage(self, process: HasConnections) -> Storage:
        """Connect a process to the database.

        Args:
            process: who connects.
        """
        return self._connect_storage(process.name, self._faulty, process)

    def connect_client(self) -> Transport:
        """Connect a user's client to the broker: its calls take time, but never fail."""
        return self._connect(CLIENT, self._sound)

    def connect_client_storage(self) -> Storage:
        """Connect a user's client to the database: its calls take time, but never fail."""
        return self._connect_storage(CLIENT, self._sound)

    def lose_session(self, process: HasConnections) -> None:
        """Let the broker take a living process for dead, as after a long pause.

        All that it has in hand goes to others at once. It learns of it after seconds, or never.

        Args:
            process: one that has connected.
        """
        for consumer in self._list_consumers(process.name):
            seconds = self._choices.between("session/ignorance", 0.0, _LONGEST_IGNORANCE)
            consumer.lose(seconds, rejoins=self._choices.happens("session/rejoins", 0.5))

    def restart_broker(self, seconds: float = 1.0) -> None:
        """Let the broker end and start again. It loses nothing.

        All that workers have in hand is delivered again, here or elsewhere. Their consumers join
        again by themselves, when the broker is back. In the profile "pulsar", acknowledgements of
        the last second may be lost.

        Args:
            seconds: until it can be reached again.
        """
        self._lose_all()
        self._broker_side.cut(seconds)
        if isinstance(self.broker, PulsarLikeBroker) and self._choices.happens("restart/loses acks", 0.5):
            self.broker.give_back(self.broker.ack_durability, self.clock.now())

    def cut_broker(self, seconds: float) -> None:
        """Make the broker unreachable for a while. Calls fail meanwhile; those of clients wait.

        Args:
            seconds: how long. For some lengths, the broker ends the sessions of workers.
        """
        self._broker_side.cut(seconds)
        if self.profile == "pulsar" or self._choices.happens("cut/ends sessions", 0.5):
            self._lose_all()

    def cut_storage(self, seconds: float) -> None:
        """Make the database unreachable for a while. Calls fail meanwhile; those of clients wait.

        Args:
            seconds: how long.
        """
        self._storage_side.cut(seconds)

    def partition(self, process: HasConnections, seconds: float) -> None:
        """Cut one process off from broker and database for a while. Its calls fail meanwhile.

        Args:
            process: one that has connected.
            seconds: how long.
        """
        for path in self._find_paths(process.name):
            path.own.cut(seconds)

    def block_publishing(self, seconds: float) -> None:
        """Let the broker take no messages for a while. A publish waits, or fails.

        Args:
            seconds: how long.
        """
        self._intake.cut(seconds)

    def starve(self, seconds: float) -> None:
        """Let the broker deliver the newest messages first for a while. The oldest ones starve.

        Args:
            seconds: how long.
        """
        self._broker_choices.starve(seconds)

    def give_back(self, seconds: float) -> int:
        """Deliver messages again that were acknowledged, as after a crash of the broker.

        Args:
            seconds: how long ago they were acknowledged, at most.

        Returns:
            How many there are. None in other profiles than "pulsar": they promise too much.
        """
        if not isinstance(self.broker, PulsarLikeBroker):
            return 0
        self._lose_all()
        return self.broker.give_back(seconds, self.clock.now())

    def inject(self, who: str, topic: Topic, messages: Sequence[Message]) -> bool:
        """Publish to the broker itself: no way is between, and no fault.

        Args:
            who: publishes them, for observers.
            topic: where they go.
            messages: in this order.

        Returns:
            False if the topic no longer exists, as that of a client that has left.
        """
        try:
            self.broker.publish(topic, messages, self.clock.now())
        except UnknownTopic:
            return False
        self.watch.notify(who, Operation("publish", topic, messages=messages), None)
        return True

    def heal(self) -> None:
        """Make everything reachable, and all sessions sound, now."""
        self._broker_choices.feed()
        if isinstance(self.broker, SeededBroker):
            self.broker.hold_delayed(0.0)
        paths = [path.own for both in self._paths.values() for path in both]
        for server in (self._broker_side, self._storage_side, self._intake, *paths):
            server.come_up()
        for consumer in self._list_consumers():
            consumer.rejoin()

    def _connect(self, who: str, fates: Fates, process: HasConnections | None = None) -> NetworkTransport:
        link = Link(
            who,
            self._find_paths(who)[0],
            fates,
            self.watch.notify,
            process=process,
            intake=self._intake,
            contend=self._contend,
        )
        make = PairedTransport if self.profile == ONE_DATABASE else InMemoryTransport
        inner = make(self.broker, clock=self.clock)
        return NetworkTransport(inner, link, self._after_publish, groups_acks=self.profile == "pulsar")

    def _connect_storage(self, who: str, fates: Fates, process: HasConnections | None = None) -> Storage:
        link = Link(who, self._find_paths(who)[1], fates, self.watch.notify, process=process, contend=self._contend)
        return InterceptedStorage(InMemoryStorage(self.database), link)

    def _find_paths(self, who: str) -> tuple[Path, Path]:
        paths = self._paths.get(who)
        if paths is None:
            paths = self._paths[who] = (Path(self._broker_side), Path(self._storage_side))
        return paths

    def _end(self, transport: NetworkTransport) -> None:
        """The process of a connection has died."""
        self._connections.pop(transport, None)
        transport.crash()

    def _list_consumers(self, who: str | None = None) -> list[NetworkConsumer]:
        """The consumers of one process, or of all; in the order in which these connected."""
        return [
            consumer
            for transport, name in self._connections.items()
            if who is None or name == who
            for consumer in transport.consumers
        ]

    def _lose_all(self) -> None:
        """End all sessions of workers. They join again by themselves.

        Ephemeral subscriptions stay: real ones continue where they were, and these could not.
        """
        for consumer in self._list_consumers():
            if consumer.is_durable:
                seconds = self._choices.between("session/rejoins after", 0.0, 1.0)
                consumer.lose(seconds, rejoins=True)

    def _contend(self, who: str) -> None:
        """Give the inputs of a commit that is held to others, who may be faster."""
        for consumer in self._list_consumers(who):
            if consumer.topic.ordering is Ordering.KEYED:
                seconds = self._choices.between("session/held", 0.0, _LONGEST_CONFLICT)
                consumer.lose(seconds, rejoins=True)

    def _after_publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """Draw what the broker does with messages that it has just accepted."""
        if messages and self._plan.fires("duplicates"):
            message = messages[self._choices.pick("duplicates/which", len(messages))]
            seconds = self._choices.between("duplicates/after", 0.0, _LATEST_DUPLICATE)
            run_far(seconds, partial(self.inject, BROKER, topic, [message]))
        if isinstance(self.broker, SeededBroker) and any(each.deliver_at is not None for each in messages):
            held = self._faulty.draw_window("timer-herds", factor=3.0)
            if held is not None:
                self.broker.hold_delayed(self.clock.now() + held)
