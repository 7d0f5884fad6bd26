"""What is special about the queues of the shelf: the file, its lock, and wake-ups that are lost."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from infinitic_shelf.session import LOOK_SECONDS
from infinitic_shelf.transport import ShelfTransport

from infinitic.errors import TransportError, UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message, TransportUnavailable, UnknownTopic

TOPIC = Topic("orders", Ordering.KEYED, "main")

INSERT = """
INSERT INTO messages (subscription, id, key, body, headers, published_at)
SELECT id, 'm', 'a', x'61', '{}', 0 FROM subscriptions
"""

DIES_IN_A_TRANSACTION = f"""
import sqlite3, sys, time
database = sqlite3.connect("queues.db", isolation_level=None)
database.execute("BEGIN IMMEDIATE")
database.execute('''{INSERT}''')
print("begun", flush=True)
time.sleep(1000)
"""


def test_a_file_of_another_program_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "queues.db").write_text("a letter to nobody" * 100)

    async def main() -> None:
        async with ShelfTransport(tmp_path) as transport:
            with pytest.raises(TransportError, match="is not a database") as raised:
                await transport.declare([TOPIC])
            assert not isinstance(raised.value, TransportUnavailable)

    asyncio.run(main())
    assert (tmp_path / "queues.db").read_text().startswith("a letter to nobody")


def test_what_no_wake_up_tells_of_is_found_by_the_next_look(tmp_path: Path) -> None:
    async def main() -> None:
        async with ShelfTransport(tmp_path) as transport:
            await transport.declare([TOPIC])
            consumer = await transport.subscribe(TOPIC, "main", 10)
            receiving = asyncio.create_task(consumer.receive(1))
            await asyncio.sleep(0.1)
            with sqlite3.connect(tmp_path / "queues.db") as database:
                database.execute(INSERT)
            database.close()
            async with asyncio.timeout(LOOK_SECONDS * 3):
                (delivery,) = await receiving
            assert delivery.message == Message("m", "a", b"a")

    asyncio.run(main())


def test_a_process_that_is_killed_in_a_transaction_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with ShelfTransport(tmp_path) as transport:
            await transport.declare([TOPIC])
            command = [sys.executable, "-c", DIES_IN_A_TRANSACTION]
            process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=subprocess.PIPE)
            assert process.stdout is not None
            assert await process.stdout.readline() == b"begun\n"
            publishing = asyncio.create_task(transport.publish(TOPIC, [Message("n", "b", b"b")]))
            await asyncio.sleep(0.1)
            assert not publishing.done(), "it waits for the other process"
            process.kill()
            await process.wait()
            await publishing
            consumer = await transport.subscribe(TOPIC, "main", 10)
            assert [each.message.id for each in await consumer.receive(10)] == ["n"]

    asyncio.run(main())


def test_of_several_topics_one_that_is_refused_keeps_no_other_from_its_messages(tmp_path: Path) -> None:
    async def main() -> None:
        async with ShelfTransport(tmp_path) as transport:
            await transport.declare([TOPIC])
            unknown = Topic("unknown", Ordering.SHARED, "main")
            message = Message("m", "a", b"a")
            refused, accepted = await transport.publish_all([(unknown, [message]), (TOPIC, [message])])
            assert isinstance(refused, UnknownTopic)
            assert accepted is None
            assert (await transport.stats(TOPIC)).subscriptions["main"].backlog == 1

    asyncio.run(main())


def test_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with ShelfTransport(tmp_path) as transport:
            await transport.declare([TOPIC])
            with pytest.raises(UsageError, match="Text is not Unicode"):
                await transport.publish(TOPIC, [Message("m", "\ud800", b"a")])

    asyncio.run(main())
