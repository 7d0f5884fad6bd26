"""The commit that the broker and a storage in the same file share: one job of the writer.

The storage writes its changes by the connection of the broker. So change, messages and
acknowledgements are one transaction. What else the storage writes goes the same way: two
connections that write would wait for each other, and SQLite lets them wait without order. The
storage reads by connections of its own.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, runtime_checkable

from infinitic.errors import StorageError, TransportError
from infinitic.shared_commit import SharedCommit, Unsent, WholeStep
from infinitic.storage import (
    Change,
    Outcome,
    StorageConfigurationError,
    StorageOutcomeUnknown,
    Written,
)
from infinitic.topics import Topic
from infinitic.transport import Message, MessageTooLarge, TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_transports.sqlite.consumer import SqliteConsumer
from infinitic_transports.sqlite.errors import StatementFailed
from infinitic_transports.sqlite.putting import EncodedMessage, encode_messages, publish
from infinitic_transports.sqlite.settling import acknowledge
from infinitic_transports.sqlite.turn import Turn

if TYPE_CHECKING:
    from infinitic_transports.sqlite.writer import FileWriter

T = TypeVar("T")

SizedWork = tuple[Callable[[Turn], T], int]
"""What is done in a transaction, and how many bytes it writes."""

STEPS_AT_A_TIME = 16
"""How many steps one job commits at most. It runs on the loop."""


class WritesForStorage:
    """What a storage in the file of a broker writes with.

    Args:
        writer: writes to the file.
        join: begins the session of the connection, if it has not begun.
    """

    __slots__ = ("_join", "_writer")

    def __init__(self, writer: FileWriter, join: Callable[[], Awaitable[None]]) -> None:
        self._writer = writer
        self._join = join

    def check(self) -> None:
        """Check that it may be used here.

        Raises:
            TransportClosed: the connection of the broker is closed.
            UsageError: it belongs to another loop, or was made before a fork.
        """
        self._writer.check()

    def is_usable(self) -> bool:
        """True if it may be used now and here. Otherwise the storage writes by itself."""
        return self._writer.is_usable()

    async def write(self, works: Sequence[SizedWork[T]], seconds: float) -> list[T]:
        """Write in transactions of the broker, and return the results once they are committed.

        Args:
            works: each is done in one transaction, and may be done more than once. It changes
                nothing but the file.
            seconds: its deadline.

        Raises:
            StorageOutcomeUnknown: it was not committed in time, or nobody knows.
            StorageError: what a work has raised, or the file cannot be used.
            TransportClosed: the connection of the broker is closed. Nothing was written.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._join()
                jobs = [self._writer.submit(work, size=size) for work, size in works]
                results = await asyncio.gather(*jobs, return_exceptions=True)
        except TimeoutError:
            raise StorageOutcomeUnknown(f"No commit within {seconds:g} seconds") from None
        except TransportError as error:
            self._raise(error)
            raise
        found: list[T] = []
        for each in results:
            if isinstance(each, BaseException):
                self._raise(each)
                raise each
            found.append(each)
        return found

    def _raise(self, error: BaseException) -> None:
        """Raise the error of the storage, if it is another one.

        What is not known to have failed may have happened.
        """
        match error:
            case TransportUnavailable():
                raise StorageOutcomeUnknown(str(error)) from error
            case StatementFailed():
                raise StorageError(str(error)) from error
            case TransportError() if not isinstance(error, TransportClosed):
                raise StorageConfigurationError(str(error)) from error
            case _:
                return


@runtime_checkable
class KeepsStatesInFile(Protocol):
    """A storage in a SQLite file that can write its changes in the transaction of somebody else."""

    @property
    def path(self) -> Path:
        """The database file."""
        ...

    @property
    def deadline(self) -> float:
        """Seconds that a commit may take."""
        ...

    def write_by(self, host: WritesForStorage, /) -> None:
        """Write by this one from now on."""
        ...

    def check_changes(self, changes: Sequence[Change], /) -> None:
        """Check changes before they are written, and that the storage is open.

        Raises:
            StorageError: they cannot be written.
            InvalidArgument: likewise.
        """
        ...

    def write_in(self, connection: sqlite3.Connection, changes: Sequence[Change], /) -> list[Outcome]:
        """Write changes in a transaction, and return their outcomes.

        Raises:
            StorageError: nothing was written.
            sqlite3.Error: the transaction has to be undone.
        """
        ...


class _PreparedStep(NamedTuple):
    """A step whose messages are encoded, or else what the broker refuses."""

    step: WholeStep
    batches: Sequence[tuple[Topic, Sequence[EncodedMessage]]]
    refusal: TransportError | None
    size: int


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths are those of one file, which need not be there yet."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return one.resolve() == other.resolve()


class SqliteCommit(SharedCommit):
    """The commit of one connection to the broker, and a storage in its file.

    Args:
        host: writes to the file.
        storage: knows how changes are written.
        largest: bytes of the body of a message at most.
    """

    __slots__ = ("_host", "_largest", "_storage")

    def __init__(self, host: WritesForStorage, storage: KeepsStatesInFile, largest: int) -> None:
        self._host = host
        self._storage = storage
        self._largest = largest

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        self._host.check()
        self._storage.check_changes([step.change for step in steps])
        prepared = [self._prepare(step) for step in steps]
        works = [(partial(self._perform, chunk), sum(each.size for each in chunk)) for chunk in _split(prepared)]
        return [each for outcomes in await self._host.write(works, self._storage.deadline) for each in outcomes]

    def _prepare(self, step: WholeStep) -> _PreparedStep:
        """Encode the messages of a step, by topic."""
        by_topic: dict[str, tuple[Topic, list[Message]]] = {}
        for each in step.outgoing:
            by_topic.setdefault(each.topic.name, (each.topic, []))[1].append(each.message)
        try:
            batches = [
                (topic, encode_messages(topic, messages, self._largest)) for topic, messages in by_topic.values()
            ]
        except MessageTooLarge as error:
            return _PreparedStep(step, (), error, 0)
        size = sum(len(message.body) for _, encoded in batches for message in encoded)
        return _PreparedStep(step, batches, None, size + _measure(step.change))

    def _perform(self, steps: Sequence[_PreparedStep], turn: Turn) -> list[Outcome | Unsent]:
        """Commit steps, as a job of the writer."""
        refusals = [each.refusal or _find_unknown(turn, each) for each in steps]
        sound = [each.step.change for each, refusal in zip(steps, refusals, strict=True) if refusal is None]
        outcomes = iter(self._storage.write_in(turn.connection, sound))
        results: list[Outcome | Unsent] = []
        for each, refusal in zip(steps, refusals, strict=True):
            if refusal is not None:
                results.append(Unsent(refusal))
                continue
            outcome = next(outcomes)
            results.append(outcome)
            if isinstance(outcome, Written):
                _complete(turn, each)
        return results


def _complete(turn: Turn, prepared: _PreparedStep) -> None:
    """Send the messages of a step that is written, and acknowledge its inputs."""
    for topic, messages in prepared.batches:
        if turn.catalog.find_topic(turn.connection, topic.name) is not None:
            publish(turn, topic, messages)
    step = prepared.step
    assert isinstance(step.consumer, SqliteConsumer)
    marks = step.consumer.find_marks(step.deliveries)
    if marks:
        acknowledge(turn, step.consumer.number, marks)
        turn.then(partial(step.consumer.drop, step.deliveries))


def _find_unknown(turn: Turn, prepared: _PreparedStep) -> UnknownTopic | None:
    """A topic of a step that does not exist, and would keep its messages; None: there is none."""
    for topic, _ in prepared.batches:
        if topic.subscription is not None and turn.catalog.find_topic(turn.connection, topic.name) is None:
            return UnknownTopic(f"The topic {topic.name!r} was never declared, or it was removed")
    return None


def _measure(change: Change) -> int:
    """Bytes of a change, roughly."""
    segment = change.segment
    return len(change.head) + (0 if segment is None else len(segment.events) + len(segment.outbox or b""))


def _split(steps: Sequence[_PreparedStep]) -> list[Sequence[_PreparedStep]]:
    return [steps[start : start + STEPS_AT_A_TIME] for start in range(0, len(steps), STEPS_AT_A_TIME)]
