"""One commit for a change, the messages that it causes, and the acknowledgement of its inputs.

Where transport and storage are the same database, a step of a workflow is one transaction. No crash
can come between its parts, and it costs one commit instead of three. This is an option of the two
ports: a transport that has `share_commit` says with which storages it shares one. Without it, the
engines write first, then publish, then acknowledge.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec
from msgspec.structs import replace

from infinitic.errors import TransportError
from infinitic.storage import Change, Outcome, Storage
from infinitic.storage.wrapper import WrappedStates, WrappedStorage
from infinitic.transport import Consumer, Delivery, Outgoing, Transport


class WholeStep(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A change of one instance, with all that belongs to it.

    Attributes:
        change: what is written.
        outgoing: the messages that it causes, to any topics. Those to one topic stay in order.
        consumer: where its inputs came from, as `Transport.subscribe` has returned it.
        deliveries: its inputs, which are acknowledged.
    """

    change: Change
    outgoing: Sequence[Outgoing]
    consumer: Consumer
    deliveries: Sequence[Delivery]


class Unsent(msgspec.Struct, frozen=True, eq=False):
    """Nothing of a step was written, sent or acknowledged: the broker refuses one of its messages.

    Attributes:
        error: the refusal, which names the topic: `UnknownTopic` or `MessageTooLarge`.
    """

    error: TransportError


class SharedCommit(ABC):
    """Commits steps as a whole. `find_shared_commit` finds the one of a transport and a storage."""

    __slots__ = ()

    @abstractmethod
    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        """Write changes, publish their messages, acknowledge their inputs: each step as a whole.

        **Each step has a fate of its own, and its change decides it**, as in `StateStorage.commit`.
        If the change is `Written`, its messages are published and its inputs acknowledged in the
        same transaction. With any other outcome, nothing of the step happens.

        Messages are published as by `Transport.publish`, with two exceptions: messages to a topic
        without a main subscription go nowhere if that topic does not exist, since nobody would get
        them. And what the broker refuses makes its step `Unsent`.

        Deliveries are acknowledged as by `Consumer.ack`. What is not in hand any more, or whose
        consumer is closed, is passed over. **That stops nothing.** Its input is with somebody else
        then, and the change decides between them: whoever comes second is `Lost`.

        Args:
            steps: for distinct keys.

        Returns:
            One for each step, in the same order.

        Raises:
            InvalidArgument: as in `StateStorage.commit`.
            ValueTooLarge: a value is too large. Nothing was written, sent or acknowledged.
            StorageUnavailable: likewise nothing happened, for certain.
            StorageOutcomeUnknown: the reply was lost. Each step has happened as a whole or not at
                all, and may still happen later.
            StorageClosed: the storage was closed. Nothing happened.
            TransportClosed: the transport was closed. Nothing happened.
        """


@runtime_checkable
class SharesCommits(Protocol):
    """A transport that is the same database as some storages.

    A transport that stands before another one must not hand out the commit of that one: nothing of
    it would go its way.
    """

    def share_commit(self, storage: Storage, /) -> SharedCommit | None:
        """Return the commit that it shares with a storage. None: it shares none.

        Args:
            storage: of any kind. It need not be in use already, and neither need the transport.
        """
        ...


def find_shared_commit(transport: Transport, storage: Storage) -> SharedCommit | None:
    """Find the commit that a transport and a storage share. None: they share none.

    Storages that only encode what they pass on (`WrappedStorage`) are looked through. One that
    commits in a way of its own shares nothing.

    Args:
        transport: the connection to the broker.
        storage: the connection to the database. Neither need be in use already.
    """
    if not isinstance(transport, SharesCommits):
        return None
    encoders: list[WrappedStates] = []
    while isinstance(storage, WrappedStorage):
        states = storage.states
        if not isinstance(states, WrappedStates) or type(states).commit is not WrappedStates.commit:
            return None
        encoders.append(states)
        storage = storage.inner
    shared = transport.share_commit(storage)
    if shared is None or not encoders:
        return shared
    return _EncodingCommit(shared, encoders)


class _EncodingCommit(SharedCommit):
    """A shared commit behind storages that encode what is written.

    Args:
        inner: the commit of the innermost storage.
        encoders: the states of the storages before it, the outermost one first.
    """

    __slots__ = ("_encoders", "_inner")

    def __init__(self, inner: SharedCommit, encoders: Sequence[WrappedStates]) -> None:
        self._inner = inner
        self._encoders = encoders

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        encoded: list[WholeStep] = []
        for step in steps:
            change = step.change
            for encoder in self._encoders:
                change = encoder.encode_change(change)
            encoded.append(replace(step, change=change))
        return await self._inner.commit(encoded)
