"""A broker and a database of a simulation, and the ways of all processes to them.

Each call takes time on its way there and back, and may fail. All is drawn from the choices of the
run, and faults happen only while the plan allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from infinitic.clock import Clock
from infinitic.storage import Storage
from infinitic.topics import Topic
from infinitic.transport import Message, Transport
from infinitic_storages.memory import DEFAULT_DEDUPLICATION_WINDOW, DEFAULT_MAX_VALUE, Database, InMemoryStorage
from infinitic_testing.choices import Choices
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.intercepting import InterceptedStorage, Operation
from infinitic_testing.network.fates import Fates
from infinitic_testing.network.link import Link
from infinitic_testing.network.sides import HasConnections, Server, run_far
from infinitic_testing.network.transport import NetworkTransport
from infinitic_testing.observing import Observer
from infinitic_transports.memory import DEFAULT_MAX_PAYLOAD, Broker, InMemoryTransport

CLIENT = "client"
"""Who a user's client is, for observers."""

_LONGEST_IGNORANCE = 30.0
"""Seconds after which a process learns that the broker takes it for dead, at most."""


class Network:
    """One broker, one database, and all the ways to them.

    The verbs `lose_session`, `cut_broker`, and so on let something happen now, whatever the plan
    says. They do not count it: whoever draws a fault counts it, see `FaultPlan.fires`.

    Attributes:
        broker: the in-memory broker, without any way before it.
        database: the in-memory database, likewise.
        violation: the first error that an observer has raised; None if there is none.

    Args:
        choices: of the run.
        plan: the faults of the run.
        clock: the true time. The clocks of processes may differ.
        profile: of the broker: "fifo", "seeded" or "pulsar".
        observers: are told what takes effect, at that instant.
        on_violation: called once with the first error of an observer. The call that caused it
            fails with the same error.
        deduplication_window: seconds for which the database keeps deduplication ids.
        max_payload: bytes of one message.
        max_value: bytes of one value in the database.
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
        self.broker = Broker(max_payload=max_payload, choose=None if profile == "fifo" else self._choose)
        self.database = Database(deduplication_window=deduplication_window, max_value=max_value)
        self.violation: Exception | None = None
        self._choices = choices
        self._plan = plan
        self._clock = clock
        self._observers = tuple(observers)
        self._on_violation = on_violation
        self._broker_side = Server()
        self._storage_side = Server()
        self._sound = Fates(choices, plan, is_sound=True)
        self._faulty = Fates(choices, plan, is_sound=False)
        self._connections: dict[str, list[NetworkTransport]] = {}

    def connect_transport(self, process: HasConnections) -> Transport:
        """Connect a process to the broker. When it is killed, the broker ends its consumers.

        Args:
            process: who connects.
        """
        transport = self._connect(process.name, self._faulty)
        self._connections.setdefault(process.name, []).append(transport)
        process.on_kill(transport.crash)
        return transport

    def connect_storage(self, process: HasConnections) -> Storage:
        """Connect a process to the database.

        Args:
            process: who connects.
        """
        link = Link(process.name, self._storage_side, self._faulty, self._notify)
        return InterceptedStorage(InMemoryStorage(self.database), link)

    def connect_client(self) -> Transport:
        """Connect a user's client to the broker: its calls take time, but never fail."""
        return self._connect(CLIENT, self._sound)

    def connect_client_storage(self) -> Storage:
        """Connect a user's client to the database: its calls take time, but never fail."""
        link = Link(CLIENT, self._storage_side, self._sound, self._notify)
        return InterceptedStorage(InMemoryStorage(self.database), link)

    def lose_session(self, process: HasConnections) -> None:
        """Let the broker take a living process for dead, as after a long pause.

        All that it has in hand goes to others at once. It learns of it after seconds, or never.
        """
        for transport in self._connections.get(process.name, ()):
            for consumer in list(transport.consumers):
                seconds = self._choices.between("session/ignorance", 0.0, _LONGEST_IGNORANCE)
                consumer.lose(seconds, rejoins=self._choices.happens("session/rejoins", 0.5))

    def cut_broker(self, seconds: float) -> None:
        """Make the broker unreachable for a while. Calls fail meanwhile; those of clients wait.

        Args:
            seconds: how long.
        """
        self._cut(self._broker_side, seconds)

    def cut_storage(self, seconds: float) -> None:
        """Make the database unreachable for a while. Calls fail meanwhile; those of clients wait.

        Args:
            seconds: how long.
        """
        self._cut(self._storage_side, seconds)

    def heal(self) -> None:
        """Make everything reachable, and all sessions sound."""
        for server in (self._broker_side, self._storage_side):
            server.come_up()
        for transports in self._connections.values():
            for transport in transports:
                for consumer in list(transport.consumers):
                    consumer.heal()

    def _connect(self, who: str, fates: Fates) -> NetworkTransport:
        link = Link(who, self._broker_side, fates, self._notify)
        return NetworkTransport(InMemoryTransport(self.broker, clock=self._clock), link, self._after_publish)

    def _cut(self, server: Server, seconds: float) -> None:
        server.go_down()
        run_far(seconds, server.come_up)

    def _after_publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        pass

    def _choose(self, what: str, count: int) -> int:
        return self._choices.pick(f"broker/{what}", count)

    def _notify(self, who: str, operation: Operation, result: Any) -> Exception | None:
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
