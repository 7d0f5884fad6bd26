"""An in-memory broker and an in-memory database as one database: they share a commit.

For simulations, and for the tests of `SharedCommit`. In one process it brings nothing else: no
crash can come between two calls that do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from infinitic.errors import TransportError
from infinitic.shared_commit import SharedCommit, Unsent, WholeStep
from infinitic.storage import Outcome, Storage, Written
from infinitic.topics import Topic
from infinitic.transport import Batch, Delivery, Message, MessageTooLarge, Outgoing, TransportClosed, UnknownTopic
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport
from infinitic_transports.memory.transport import InMemoryConsumer

Note = Callable[[WholeStep, Sequence[Batch], Sequence[Delivery]], object]
"""Is told of a step that was written: what was sent of it, and which deliveries were in hand."""


class PairedTransport(InMemoryTransport):
    """A connection to an in-memory broker that shares its commits with any in-memory database."""

    __slots__ = ()

    def share_commit(self, storage: Storage) -> SharedCommit | None:
        return MemoryCommit(self, storage) if isinstance(storage, InMemoryStorage) else None


class MemoryCommit(SharedCommit):
    """The commit of a broker and a database in memory. It never suspends: so it is one instant.

    Args:
        transport: the connection to the broker.
        storage: the connection to the database.

    Attributes:
        note: called for each step that was written; None: nobody is.
    """

    __slots__ = ("_storage", "_transport", "note")

    def __init__(self, transport: InMemoryTransport, storage: InMemoryStorage) -> None:
        self._transport = transport
        self._storage = storage
        self.note: Note | None = None

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        # This raises if the connection is closed.
        await self._transport.declare([])
        refusals = [self._find_refusal(step.outgoing) for step in steps]
        sound = [step.change for step, refusal in zip(steps, refusals, strict=True) if refusal is None]
        outcomes = iter(await self._storage.states.commit(sound))
        results: list[Outcome | Unsent] = []
        for step, refusal in zip(steps, refusals, strict=True):
            if refusal is not None:
                results.append(Unsent(refusal))
                continue
            outcome = next(outcomes)
            results.append(outcome)
            if isinstance(outcome, Written):
                await self._complete(step)
        return results

    async def _complete(self, step: WholeStep) -> None:
        """Do what a step asks for beside its change."""
        assert isinstance(step.consumer, InMemoryConsumer)
        sent = await self._send(step.outgoing)
        in_hand = step.consumer.in_hand
        settled = [each for each in step.deliveries if each in in_hand]
        # A consumer that was lost has given them to others, and the step is written all the same.
        with suppress(TransportClosed):
            await step.consumer.ack(settled)
        if self.note is not None:
            self.note(step, sent, settled)

    def _find_refusal(self, outgoing: Sequence[Outgoing]) -> TransportError | None:
        """What the broker refuses; None if it takes all."""
        broker = self._transport.broker
        for each in outgoing:
            topic, size = each.topic, len(each.message.body)
            if topic.subscription is not None and broker.find_record(topic) is None:
                return UnknownTopic(f"The topic {topic.name!r} was never declared")
            if size > broker.max_payload:
                return MessageTooLarge(size, broker.max_payload, topic.name)
        return None

    async def _send(self, outgoing: Sequence[Outgoing]) -> list[Batch]:
        """Publish messages, except to topics that nobody listens to."""
        by_topic: dict[str, tuple[Topic, list[Message]]] = {}
        for each in outgoing:
            by_topic.setdefault(each.topic.name, (each.topic, []))[1].append(each.message)
        sent: list[Batch] = []
        for topic, messages in by_topic.values():
            if self._transport.broker.find_record(topic) is not None:
                await self._transport.publish(topic, messages)
                sent.append((topic, messages))
        return sent
