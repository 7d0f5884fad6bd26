"""The transport: a connection to the broker in a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel

from infinitic.clock import Clock, SystemClock
from infinitic.diagnosis import Diagnosis
from infinitic.errors import UsageError
from infinitic.shared_commit import SharedCommit
from infinitic.storage import Storage
from infinitic.topics import Ordering, Topic
from infinitic.transport import (
    Capabilities,
    Consumer,
    Message,
    Peeked,
    TopicStats,
    Transport,
)
from infinitic_transports.sqlite import joining, reading, settling
from infinitic_transports.sqlite.catalog import encode_text
from infinitic_transports.sqlite.consumer import SqliteConsumer
from infinitic_transports.sqlite.diagnosis import diagnose
from infinitic_transports.sqlite.opening import read_file
from infinitic_transports.sqlite.peers import Peers
from infinitic_transports.sqlite.putting import encode_messages, publish, slice_messages
from infinitic_transports.sqlite.settings import SqliteTransportSettings, Waiting
from infinitic_transports.sqlite.shared import KeepsStatesInFile, SqliteCommit, WritesForStorage, is_same_file
from infinitic_transports.sqlite.turn import Turn
from infinitic_transports.sqlite.writer import FileWriter

T = TypeVar("T")

DAY = 86_400.0
ACK_SECONDS = 0.1
"""Seconds after which an acknowledgement is in the file. It waits for company for some of them."""


class SqliteTransport(Transport):
    """A broker in one SQLite file, for the processes of one machine.

    With `synchronous: normal`, a power cut may undo what was accepted last. The end of a process
    undoes nothing.

    Args:
        settings: where the file is.
        ttl: seconds for which messages are kept that nobody acknowledges; default is 14 days.
        clock: tells when messages are due.
    """

    Settings: ClassVar[type[BaseModel]] = SqliteTransportSettings

    def __init__(self, settings: SqliteTransportSettings, *, ttl: float = 14 * DAY, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._writer = FileWriter(Path(settings.path).absolute(), settings.synchronous, self._clock)
        self._peers = Peers(self._writer, self._clock, settings.ttl_seconds or ttl)
        self._declared: set[str] = set()
        self._declared_version = -1
        self._closing: asyncio.Task[None] | None = None
        self.capabilities = Capabilities(max_payload=settings.max_message_bytes, ack_durability=ACK_SECONDS)

    @classmethod
    def from_settings(cls, settings: Any, *, deduplication_window: float) -> Self:
        """Make a transport, see `infinitic.plugins.TransportPlugin`. It does not open the file."""
        return cls(settings, ttl=deduplication_window)

    @property
    def writer(self) -> FileWriter:
        """Who writes to the file. Its module says how to join a commit."""
        return self._writer

    async def declare(self, topics: Iterable[Topic]) -> None:
        """Make topics, see `Transport.declare`.

        Raises:
            UsageError: a topic exists with another ordering or main subscription.
        """
        self._writer.check()
        if self._declared_version != self._writer.catalog.version:
            self._declared.clear()
        missing = [topic for topic in topics if topic.name not in self._declared]
        if not missing:
            return
        await self._peers.join()

        def work(turn: Turn) -> None:
            joining.declare(turn, missing)
            turn.then(partial(self._note_declared, turn.catalog.version, missing))

        await self._writer.run(work)

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        self._writer.check()
        encoded = encode_messages(topic, messages, self.capabilities.max_payload)
        await self._peers.join()
        parts = list(slice_messages(encoded)) or [((), 0)]
        jobs = [self._writer.submit(partial(publish, topic=topic, messages=part), size=size) for part, size in parts]
        if len(jobs) == 1:
            await jobs[0]
            return
        for outcome in await asyncio.gather(*jobs, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        self._writer.check()
        if prefetch < 1:
            raise UsageError(f"A prefetch has to be at least 1, not {prefetch}")
        encode_text(subscription)
        await self._peers.join()
        made: list[SqliteConsumer] = []
        abandoned = False

        def enter(joined: joining.Joined) -> None:
            consumer = SqliteConsumer(
                self._writer,
                joined,
                keyed=topic.ordering is Ordering.KEYED,
                prefetch=prefetch,
                most_bytes=self._settings.receive_bytes,
                look=self._peers.look,
                gone=self._peers.forget,
            )
            self._peers.add(consumer)
            made.append(consumer)
            if abandoned:
                consumer.leave()

        def work(turn: Turn) -> None:
            turn.then(partial(enter, joining.join(turn, self._peers.session, topic, subscription, durable=durable)))

        try:
            await self._writer.run(work)
        except asyncio.CancelledError:
            # It may have joined, or join later. Nobody would ever close it.
            abandoned = True
            for consumer in made:
                consumer.leave()
            raise
        return made[0]

    def share_commit(self, storage: Storage, /) -> SharedCommit | None:
        """Return the commit that it shares with a storage in the same file.

        From then on the storage writes by this connection, too. A storage that waits for the disk
        shares none with a transport that does not.
        """
        if not isinstance(storage, KeepsStatesInFile) or not is_same_file(self._writer.path, storage.path):
            return None
        if storage.capabilities.durable and self._settings.synchronous is not Waiting.FULL:
            return None
        host = WritesForStorage(self._writer, self._peers.join)
        storage.write_by(host)
        return SqliteCommit(host, storage, self.capabilities.max_payload)

    async def stats(self, topic: Topic) -> TopicStats:
        """Count messages and consumers, see `Transport.stats`. A missing file is not made."""
        now = self._clock.now()
        return await self._read(lambda connection: reading.read_stats(connection, topic, now), TopicStats({}))

    async def peek(self, topic: Topic, subscription: str, limit: int) -> list[Peeked]:
        """Look at messages, and take none: see `Transport.peek`.

        Raises:
            UsageError: the limit is below 1.
        """
        if limit < 1:
            raise UsageError(f"The limit of a peek has to be at least 1, not {limit}")
        return await self._read(lambda connection: reading.peek(connection, topic, subscription, limit), [])

    async def remove(self, topic: Topic) -> None:
        """Remove a topic with all its messages. Its consumers are told.

        Args:
            topic: the topic.

        Raises:
            TransportUnavailable: it was not removed, or nobody knows.
        """
        await self._writer.run(partial(settling.remove_topic, name=encode_text(topic.name)))

    async def diagnose(self) -> list[Diagnosis]:
        """Check the file, see `infinitic.diagnosis`. It is not made if it is missing."""
        self._writer.check()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer.thread, diagnose, self._writer.path, self._settings.synchronous)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._peers.close())
        await asyncio.shield(self._closing)

    async def crash(self) -> None:
        """End the connection as the end of the process would: nobody is told. For tests."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._peers.crash())
        await asyncio.shield(self._closing)

    def _note_declared(self, version: int, topics: Iterable[Topic]) -> None:
        if version != self._declared_version:
            self._declared.clear()
            self._declared_version = version
        self._declared.update(topic.name for topic in topics)

    async def _read(self, work: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        """Read something in the thread, with a connection of its own. Nothing is written or made.

        Args:
            work: reads.
            nothing: what it would find in a new file.
        """
        self._writer.check()
        return await asyncio.get_running_loop().run_in_executor(
            self._writer.thread, partial(read_file, self._writer.path, work, nothing)
        )
