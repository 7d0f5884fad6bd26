"""Files and places that a broker cannot use: each has one message, which says what to do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from infinitic.diagnosis import Level
from infinitic.errors import TransportError
from infinitic.topics import Ordering
from infinitic.transport import Message, TransportUnavailable
from infinitic_transports.sqlite import SqliteTransportSettings
from infinitic_transports.sqlite.places import check_place, find_kind
from infinitic_transports.sqlite.schema import SCHEMA_VERSION, check_library
from tests.integration.sqlite.helpers import NOTHING, connect, count_rows, make_topic
from tests.integration.sqlite.test_processes import ROOT

TOPIC = make_topic()


def use(path: Path) -> None:
    """Use a file as a worker does."""

    async def play() -> None:
        async with connect(path) as transport:
            await transport.declare([TOPIC])

    asyncio.run(play())


def write_text(path: Path) -> None:
    path.write_text("This is a letter, and no database. " * 100, encoding="utf-8")


def write_other_program(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")
    connection.close()


def write_other_mark(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA application_id = 1196444487")
    connection.close()


def write_newer(path: Path) -> None:
    use(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE infinitic_broker SET schema_version = ?", (SCHEMA_VERSION + 1,))
    connection.close()


def write_half(path: Path) -> None:
    use(path)
    path.write_bytes(path.read_bytes()[:5000] + os.urandom(3000))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (write_text, "is not a SQLite database. Use another path"),
        (write_other_program, "belongs to another program. Use another path"),
        (write_other_mark, "belongs to another program. Use another path"),
        (write_newer, f"this release knows version {SCHEMA_VERSION} at most. Upgrade infinitic"),
        (write_half, "is damaged. Stop all workers, and restore it from a backup"),
        (Path.mkdir, "this is a directory. Use the path of a file"),
    ],
)
def test_a_file_of_somebody_else_is_left_as_it_is(make: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(TransportError, match=told) as raised:
        use(path)
    assert type(raised.value) is TransportError, "waiting does not mend it"
    assert str(path) in str(raised.value)
    assert before is None or path.read_bytes() == before


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"its directory .*gone is missing. Create it"):
        use(tmp_path / "gone" / "broker.db")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TransportError, match="may not write to"):
        use(tmp_path / "broker.db")


def test_a_network_drive_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    where = str(tmp_path).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/export {where} nfs4 rw 0 0\n", encoding="utf-8")
    with pytest.raises(TransportError, match=r"a network drive \(nfs4\).*the transport 'pulsar' for several machines"):
        check_place(tmp_path / "broker.db", mounts)
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n", encoding="utf-8")
    check_place(tmp_path / "broker.db", mounts)


def test_the_last_mount_of_the_longest_path_counts() -> None:
    mounts = "a / ext4 x\nb /data nfs x\nc /data/my\\040disk ext4 x\nd /data/my\\040disk xfs x\n\n"
    assert find_kind(Path("/data/my disk/deep"), mounts) == "xfs"
    assert find_kind(Path("/data/my"), mounts) == "nfs"
    assert find_kind(Path("/database"), mounts) == "ext4"


def test_an_old_library_is_told() -> None:
    check_library((3, 35, 0))
    with pytest.raises(TransportError, match=r"SQLite 3.34.1 is too old: 3.35.0 is needed"):
        check_library((3, 34, 1))


@pytest.mark.parametrize("path", [":memory:", "file:broker.db?mode=ro"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="it must be the path of a file"):
        SqliteTransportSettings.model_validate({"path": path})


def test_nothing_is_lost_on_a_full_disk(tmp_path: Path) -> None:
    """What was accepted comes, acknowledgements are kept, and work goes on when there is room."""
    path, topic = tmp_path / "broker.db", make_topic(Ordering.KEYED)

    async def play() -> None:
        async with connect(path) as transport, asyncio.timeout(60):
            await transport.declare([topic])
            consumer = await transport.subscribe(topic, "main", 3)
            await transport.publish(topic, [Message("m", key, b"accepted") for key in "abc"])
            held = await consumer.receive(3)
            connection = transport.writer.connection
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(TransportUnavailable, match=r"the disk is full. Make room"):
                await transport.publish(topic, [Message("m", "d", bytes(1_000_000))])
            await consumer.ack(held[:2])
            connection.execute("PRAGMA max_page_count = 1000000")
            await transport.publish(topic, [Message("m", "d", bytes(1_000_000))])
            (last,) = await consumer.receive(3)
            assert last.message.key == "d"
            await consumer.ack([last, held[2]])
        assert count_rows(path) == NOTHING

    asyncio.run(play())


def test_a_second_machine_is_told(tmp_path: Path) -> None:
    """Its process is alive if its file was touched lately, and else it is gone."""
    path = tmp_path / "broker.db"

    async def play() -> None:
        async with connect(path) as first:
            await first.declare([TOPIC])
            with sqlite3.connect(path) as connection:
                connection.execute("UPDATE infinitic_sessions SET host = 'elsewhere 1234', boot = 'another'")
            connection.close()
            with pytest.raises(TransportError, match="the machine 'elsewhere' uses this file, too") as raised:
                await asyncio.to_thread(use, path)
            assert type(raised.value) is TransportError
            (file,) = [each for each in path.with_name("broker.db-peers").glob("*.lock") if len(each.stem) > 10]
            os.utime(file, (1e9, 1e9))
            await asyncio.to_thread(use, path)

    asyncio.run(play())


def test_a_child_that_is_forked_is_told_and_holds_no_lock(tmp_path: Path) -> None:
    code = """
import asyncio, os, sys
from pathlib import Path
from infinitic.errors import UsageError
from tests.integration.sqlite.helpers import connect, make_topic
path = Path(sys.argv[1])
transport = connect(path)
topic = make_topic()
async def begin():
    await transport.declare([topic])
async def use():
    try:
        await transport.publish(topic, [])
    except UsageError as error:
        print(error, flush=True)
asyncio.run(begin())
if os.fork() == 0:
    asyncio.run(use())
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    path = tmp_path / "broker.db"
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    command = [sys.executable, "-W", "ignore", "-c", code, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert "was made before a fork. Make another one in the child" in process.stdout.readline()
        process.wait()
        # The child lives, and its parent does not: what it held is free.
        use(path)
        assert count_rows(path) == NOTHING
        process.stdin.close()


def test_a_file_that_is_missing_is_not_made_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"

    async def play() -> list[Level]:
        async with connect(path) as transport:
            assert (await transport.stats(TOPIC)).subscriptions == {}
            assert await transport.peek(TOPIC, "main", 1) == []
            found = [each.level for each in await transport.diagnose() if each.subject in ("schema", "durability")]
        return found

    assert asyncio.run(play()) == [Level.WARNING, Level.WARNING]
    assert list(tmp_path.iterdir()) == []
