"""What was published and acknowledged so far, by what it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from infinitic import topics
from infinitic.errors import DecodingError
from infinitic.messages import client, control, engine, executor, service
from infinitic.messages.attempts import Execution
from infinitic.messages.engine import Input
from infinitic.messages.executor import Activate, Ask
from infinitic.messages.service import ExecuteTask
from infinitic.storage import StateKey
from infinitic.topics import Topic
from infinitic.transport import Delivery

Decoded = Input | ExecuteTask | Activate | Ask | client.Response | control.Control

DECODERS: dict[str, Callable[[bytes], Any]] = {
    "workflow-engine": engine.decode,
    "workflow-executor": executor.decode,
    "workflow-version": executor.decode,
    "service-executor": service.decode,
    "client": client.decode,
    "service-control": control.decode,
}
"""How a receiver decodes a message that matters here, by the kind of its topic."""


class Copies:
    """How many copies of a message were published, and how many of them are acknowledged.

    Copies that are published at one instant count as one when they are acknowledged.

    Attributes:
        published: how many were published.
        settled: when those were published that are acknowledged.
        has_waited: True once one is acknowledged that had waited for its start as often as it may.
    """

    __slots__ = ("has_waited", "published", "settled")

    def __init__(self) -> None:
        self.published = 0
        self.settled: set[float] = set()
        self.has_waited = False

    @property
    def left(self) -> int:
        """How many copies are not acknowledged."""
        return self.published - len(self.settled)


@dataclass(slots=True)
class SentInput:
    """An input that has a deduplication id, as it was first published.

    Attributes:
        message: the input.
        sender: the process that published it.
        number: counts all publishes of a run.
        waited: whether it came before its start, and was published again for later.
    """

    message: Input
    sender: str
    number: int
    waited: bool = False


@dataclass(slots=True)
class SentRequest:
    """A request of a client, or of an instance.

    Attributes:
        key: the instance.
        asked: the input.
        at: when it was published, in seconds since the Unix epoch.
        topic: stands for the topic of the client at that time, see `Broker.find_record`.
        sequence: how many segments the history of the instance had then.
    """

    key: StateKey
    asked: Input
    at: float
    topic: object
    sequence: int = 0


class Sent(msgspec.Struct, eq=False):
    """All that was published for one instance.

    Attributes:
        starts: the different starts, by body.
        started: the number of the first start.
        inputs: signals, calls and commands by deduplication id.
        results: the values that were reported for a task, with how the attempt went, by position.
        failures: the attempts that were reported as the last ones: position, retry sequence, retry
            index.
        delays: the delays that were reported with a failed attempt, by the same.
        settlements: what was told of a child or a call, by position.
        garbled: positions for which a report was sent that cannot be decoded.
        reported: the attempts of which any report was sent: position, run, retry sequence, index.
        decided: the activations, with their epochs, for which a decision was sent.
        probed: the requests for which an answer of a probe was sent.
        wakes: the copies of wakes, by the time for which they are.
        leavers: the clients that have stopped waiting.
        cancelled: the retry sequences of tasks that executors are told to stop, by position and
            run.
        answered: the highest number of a request of a client to which the end of a method was told,
            by client.
        asked: the requests of queries that were passed on to an executor.
        told: those to which an executor has given an answer.
        refused: the deduplication ids of inputs whose senders were told that there is no such
            instance or method, while there was an instance.
        claims: how often a tag engine was asked whether a late start has its custom id still.
        delegated: the attempts that were reported as delegated: position, retry sequence, retry
            index.
    """

    starts: dict[bytes, engine.Start] = {}
    started: int | None = None
    inputs: dict[str, SentInput] = {}
    results: dict[int, list[tuple[bytes, Execution | None]]] = {}
    settlements: dict[int, list[engine.RemoteSettled]] = {}
    failures: dict[int, set[tuple[int, int | None]]] = {}
    delays: dict[tuple[int, int, int], list[float]] = {}
    garbled: set[int] = set()
    reported: set[tuple[int, int, int, int | None]] = set()
    decided: set[tuple[int, int | None]] = set()
    probed: set[str] = set()
    wakes: dict[float, Copies] = {}
    leavers: set[str] = set()
    cancelled: dict[tuple[int, int], int] = {}
    answered: dict[str, int] = {}
    asked: set[client.ReplyTo] = set()
    told: set[client.ReplyTo] = set()
    refused: set[str] = set()
    claims: int = 0
    delegated: set[tuple[int, int, int]] = set()


class Traffic:
    """Everything that went over the broker in a run.

    Attributes:
        requests: the requests of clients, by client and request id.
        answers: the responses to it, in order, without repeats.
        dead: topic and body of the dead letters.
        dead_ids: topic and id of the dead letters.
        number: how many messages were published.
        attempts: the copies of all attempts of a task, by instance and position.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], SentRequest] = {}
        self.answers: dict[tuple[str, str], list[client.Response]] = {}
        self.dead: set[tuple[str, bytes]] = set()
        self.dead_ids: set[tuple[str, str]] = set()
        self.number = 0
        self._sent: dict[StateKey, Sent] = {}
        self._copies: dict[object, Copies] = {}
        self.attempts: dict[tuple[StateKey, int], list[Copies]] = {}
        self._decoded: dict[tuple[str, bytes], Decoded | None] = {}

    def sent_to(self, key: StateKey) -> Sent:
        """All that was published for one instance."""
        found = self._sent.get(key)
        if found is None:
            found = self._sent[key] = Sent()
        return found

    def copies_of(self, identity: object) -> Copies:
        """The copies of one message.

        Args:
            identity: what all copies have in common.
        """
        found = self._copies.get(identity)
        if found is None:
            found = self._copies[identity] = Copies()
        return found

    def decode(self, topic: Topic, body: bytes) -> Decoded | None:
        """Decode a message. None if it cannot be decoded, or is of no kind that matters here."""
        kind = topic.name.partition(":")[0]
        at = (kind, body)
        try:
            return self._decoded[at]
        except KeyError:
            decoder = DECODERS.get(kind)
            message: Decoded | None = None
            if decoder is not None:
                try:
                    message = decoder(body)
                except DecodingError:
                    message = None
            self._decoded[at] = message
            return message

    def is_dead(self, topic: Topic, delivery: Delivery) -> bool:
        """True if a delivery was published to the dead letters of its topic."""
        kind, _, rest = topic.name.partition(":")
        # What waits for a version becomes a dead letter of the topic that it came from.
        given_up = topics.workflow_executor(rest.partition(":")[2]) if kind == "workflow-version" else topic
        name = topics.dead_letters(given_up).name
        message = delivery.message
        return (name, message.body) in self.dead or (name, message.id) in self.dead_ids
