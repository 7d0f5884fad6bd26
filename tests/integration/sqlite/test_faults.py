"""What fails under way: a commit, a file that cannot be written for a while, files that run out."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from infinitic.errors import TransportError
from infinitic.topics import Ordering
from infinitic.transport import Message, TransportClosed, TransportUnavailable
from infinitic_transports.sqlite.places import find_peers_folder
from infinitic_transports.sqlite.writer import FileWriter
from tests.integration.sqlite.helpers import NOTHING, connect, count_rows, make_topic

PATIENCE = 20.0


class LosesReplies(sqlite3.Connection):
    """Says once of a commit that it has failed, when it has not."""

    reply_is_lost = True

    def execute(self, sql: str, /, *args: Any) -> sqlite3.Cursor:
        cursor = super().execute(sql, *args)
        if sql == "COMMIT" and self.reply_is_lost:
            self.reply_is_lost = False
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return cursor


def lose_next_reply(writer: FileWriter) -> None:
    """Have the next commit succeed, and its caller told that it has not."""
    writer.connection.close()
    vars(writer)["_connection"] = sqlite3.connect(
        writer.path, timeout=0, isolation_level=None, check_same_thread=False, factory=LosesReplies
    )


def lose_wake_ups(path: Path) -> None:
    """Have no wake-up reach those who have joined by now."""
    for each in find_peers_folder(path).glob("*.sock"):
        each.unlink()


def test_who_waits_for_a_commit_is_told_when_the_connection_ends(tmp_path: Path) -> None:
    """Nobody waits for ever for a commit that the end of the connection has overtaken."""
    path, topic, goes_on = tmp_path / "broker.db", make_topic(), Event()

    async def play() -> None:
        transport = connect(path, synchronous="full")
        await transport.declare([topic])
        transport.writer.thread.submit(goes_on.wait)
        publishing = asyncio.create_task(transport.publish(topic, [Message("m", None, b"")]))
        for _ in range(20):
            await asyncio.sleep(0)
        await transport.crash()
        goes_on.set()
        with pytest.raises((TransportClosed, TransportUnavailable)):
            async with asyncio.timeout(2):
                await publishing

    asyncio.run(play())


def test_a_file_that_cannot_be_written_for_a_while_stops_nothing_for_good(tmp_path: Path) -> None:
    """What is due meanwhile comes as soon as the file can be written again; callers are told."""
    path, topic = tmp_path / "broker.db", make_topic()

    async def play() -> None:
        async with connect(path) as transport, asyncio.timeout(PATIENCE):
            await transport.declare([topic])
            consumer = await transport.subscribe(topic, "main", 10)
            loop = asyncio.get_running_loop()
            await transport.publish(topic, [Message("m", None, b"", deliver_at=time.time() + 0.3)])
            transport.writer.connection.execute("PRAGMA query_only = 1")
            ends = loop.time() + 1.0
            while loop.time() < ends:
                with pytest.raises(TransportError, match=r"SQLite at .* cannot be written"):
                    await asyncio.wait_for(transport.publish(topic, [Message("refused", None, b"")]), 2)
                await asyncio.sleep(0.02)
            transport.writer.connection.execute("PRAGMA query_only = 0")
            async with asyncio.timeout(5):
                (delivery,) = await consumer.receive(1)
            assert delivery.message.id == "m"
            await consumer.ack([delivery])
        assert count_rows(path) == NOTHING

    asyncio.run(play())


def test_an_acknowledgement_outlives_a_time_without_writing(tmp_path: Path) -> None:
    path, topic = tmp_path / "broker.db", make_topic(Ordering.KEYED)

    async def play() -> None:
        async with connect(path) as transport, asyncio.timeout(PATIENCE):
            await transport.declare([topic])
            consumer = await transport.subscribe(topic, "main", 10)
            await transport.publish(topic, [Message("1", "a", b"")])
            (first,) = await consumer.receive(1)
            transport.writer.connection.execute("PRAGMA query_only = 1")
            await consumer.ack([first])
            await asyncio.sleep(0.3)
            transport.writer.connection.execute("PRAGMA query_only = 0")
            await transport.publish(topic, [Message("2", "a", b"")])
            async with asyncio.timeout(5):
                (second,) = await consumer.receive(1)
            assert second.message.id == "2"
            await consumer.ack([second])
        assert count_rows(path) == NOTHING

    asyncio.run(play())


def test_what_others_publish_while_the_connection_is_opened_again_is_seen(tmp_path: Path) -> None:
    """Also if their wake-up is lost."""
    path, topic = tmp_path / "broker.db", make_topic()

    async def play() -> None:
        async with connect(path) as other:
            await other.declare([topic])
            async with connect(path) as transport, asyncio.timeout(PATIENCE):
                consumer = await transport.subscribe(topic, "main", 10)
                await other.publish(topic, [])
                lose_wake_ups(path)
                receiving = asyncio.create_task(consumer.receive(1))
                await asyncio.sleep(0.6)
                lose_next_reply(transport.writer)
                with pytest.raises(TransportUnavailable):
                    await transport.declare([make_topic()])
                await other.publish(topic, [Message("m", None, b"")])
                (delivery,) = await asyncio.wait_for(receiving, 5)
                await consumer.ack([delivery])
        assert count_rows(path) == NOTHING

    asyncio.run(play())


def test_a_connection_that_was_lost_is_opened_once(tmp_path: Path) -> None:
    """A call that comes while it is opened again waits for the same one."""
    path, topic = tmp_path / "broker.db", make_topic()

    async def play() -> None:
        async with connect(path) as transport, asyncio.timeout(PATIENCE):
            await transport.declare([topic])
            writer = transport.writer
            writer.connection.close()
            vars(writer)["_connection"] = None
            goes_on = Event()
            writer.thread.submit(goes_on.wait)
            writer.start()
            await asyncio.sleep(0)
            subscribing = asyncio.create_task(transport.subscribe(topic, "main", 1))
            await asyncio.sleep(0.05)
            waiting = vars(writer.thread)["_calls"].qsize()
            goes_on.set()
            await subscribing
            assert waiting == 1

    asyncio.run(play())


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are found by a directory on Linux only")
def test_without_open_files_for_a_socket_it_still_looks_by_itself(tmp_path: Path) -> None:
    path, topic = tmp_path / "broker.db", make_topic()

    async def play() -> None:
        async with connect(path) as other, connect(path) as transport, asyncio.timeout(PATIENCE):
            await other.declare([topic])
            await transport.writer.open()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            kept: list[int] = []
            # The limit is one of numbers. Other tests of this process may have left files open.
            highest = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, highest + 32), hard))
            try:
                with suppress(OSError):
                    while True:
                        kept.append(os.open(os.devnull, os.O_RDONLY))
                os.close(kept.pop())
                await transport.publish(topic, [])
            finally:
                for each in kept:
                    os.close(each)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            consumer = await transport.subscribe(topic, "main", 10)
            await other.publish(topic, [Message("m", None, b"", deliver_at=time.time() + 0.1)])
            (delivery,) = await asyncio.wait_for(consumer.receive(1), 5)
            await consumer.ack([delivery])
        assert count_rows(path) == NOTHING

    asyncio.run(play())


def test_connections_whose_folder_was_removed_join_again(tmp_path: Path) -> None:
    path, topic = tmp_path / "broker.db", make_topic()

    async def play() -> None:
        async with connect(path) as one, connect(path) as two, asyncio.timeout(PATIENCE):
            await one.declare([topic])
            consumers = [await each.subscribe(topic, "main", 10) for each in (one, two)]
            shutil.rmtree(find_peers_folder(path))
            with suppress(TimeoutError, TransportError):
                await asyncio.wait_for(asyncio.gather(*(each.receive(1) for each in consumers)), 2)
            consumer = await two.subscribe(topic, "main", 10)
            await one.publish(topic, [Message("m", None, b"")])
            (delivery,) = await asyncio.wait_for(consumer.receive(1), 5)
            await consumer.ack([delivery])

    asyncio.run(play())


def test_a_file_that_others_have_damaged_is_told_as_an_error_of_the_port(tmp_path: Path) -> None:
    path, topic = tmp_path / "broker.db", make_topic()

    async def play() -> None:
        async with connect(path) as transport, asyncio.timeout(PATIENCE):
            await transport.declare([topic])
            other = sqlite3.connect(path)
            other.execute("DROP TABLE infinitic_bodies")
            other.commit()
            other.close()
            with pytest.raises(TransportError, match="no such table"):
                await transport.publish(topic, [Message("m", None, b"")])

    asyncio.run(play())


def test_one_who_was_taken_for_dead_takes_nothing_with_it(tmp_path: Path) -> None:
    """It takes a turn before it notices. What is published then goes to somebody who is there."""
    path, topic = tmp_path / "broker.db", make_topic()

    async def play() -> None:
        async with connect(path) as ghost, connect(path) as other, asyncio.timeout(PATIENCE):
            await ghost.declare([topic])
            lost = await ghost.subscribe(topic, "main", 10)
            waiting = asyncio.create_task(lost.receive(1))
            await asyncio.sleep(0)
            lose_wake_ups(path)
            for each in find_peers_folder(path).glob("*.lock"):
                if each.stem not in ("gate", "writer"):
                    each.unlink()
            consumer = await other.subscribe(topic, "main", 10)
            await ghost.publish(topic, [Message("m", None, b"")])
            (delivery,) = await asyncio.wait_for(consumer.receive(1), 5)
            await consumer.ack([delivery])
            with pytest.raises(TransportClosed, match="taken for dead"):
                await waiting
        assert count_rows(path) == NOTHING

    asyncio.run(play())


def test_a_read_that_fails_after_a_commit_holds_up_nobody(tmp_path: Path) -> None:
    """More waits than one turn takes, and who has joined cannot be read after the first one."""
    path, topic = tmp_path / "broker.db", make_topic()

    def forbid(action: int, table: str | None, *_: object) -> int:
        forbidden = action == sqlite3.SQLITE_READ and table == "infinitic_sessions"
        return sqlite3.SQLITE_DENY if forbidden else sqlite3.SQLITE_OK

    async def play() -> None:
        async with connect(path) as other, connect(path) as transport, asyncio.timeout(PATIENCE):
            await transport.declare([topic])
            transport.writer.connection.set_authorizer(forbid)
            lose_wake_ups(path)
            await other.declare([make_topic()])
            await asyncio.wait_for(transport.publish(topic, [Message("m", None, bytes(2**20))] * 12), 5)

    asyncio.run(play())


def test_what_is_given_back_waits_although_a_commit_has_failed(tmp_path: Path) -> None:
    """The file is compared with what is in hand before that has reached the file."""
    path, topic, delay = tmp_path / "broker.db", make_topic(Ordering.KEYED), 1.0

    async def play() -> None:
        async with connect(path) as transport, asyncio.timeout(PATIENCE):
            await transport.declare([topic])
            consumer = await transport.subscribe(topic, "main", 10)
            await transport.publish(topic, [Message("m", "a", b"")])
            (first,) = await consumer.receive(1)
            lose_next_reply(transport.writer)
            with pytest.raises(TransportUnavailable):
                await transport.declare([make_topic()])
            large = [Message("large", "b", bytes(2**20))] * 12
            publishing = asyncio.create_task(transport.publish(topic, large))
            await asyncio.sleep(0)
            given_back = time.monotonic()
            await consumer.nack(first, delay)
            await publishing
            while (again := (await consumer.receive(1))[0]).message.id != "m":
                await consumer.ack([again])
            assert time.monotonic() - given_back >= delay - 0.1
            assert again.attempt == 2

    asyncio.run(play())
