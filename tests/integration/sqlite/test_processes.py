"""Processes on one file: they are killed, they share, and they wake each other."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from infinitic.topics import Ordering
from infinitic.transport import Message, TransportClosed
from infinitic_transports.sqlite.locks import Turnstile
from tests.integration.sqlite.helpers import NOTHING, connect, count_rows, make_topic
from tests.thorough import IS_THOROUGH, count_seeds

ROOT = Path(__file__).parents[3]
KEYS, KILLS, PATIENCE = 40, 5, 60.0


def test_killed_processes_lose_nothing_and_keep_the_order(tmp_path: Path) -> None:
    """Three consumers are killed again and again, and a publisher is at work meanwhile."""
    path, notes = tmp_path / "broker.db", tmp_path / "notes.txt"
    notes.touch()
    topic, each, drawn = make_topic(Ordering.KEYED), count_seeds(15, 60), random.Random(7)
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    command = [sys.executable, "-m", "tests.integration.sqlite.consume", str(path), topic.name, str(notes)]

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)

    async def wait_for_notes(number: int) -> None:
        while len(notes.read_text().splitlines()) < number:  # noqa: ASYNC110 (other processes)
            await asyncio.sleep(0.02)

    async def play() -> None:
        async with connect(path) as transport, asyncio.timeout(PATIENCE):
            await transport.declare([topic])
            processes = [await start() for _ in range(3)]
            total = KEYS * each
            try:
                for number in range(each):
                    await transport.publish(
                        topic, [Message("m", f"k{key}", str(number).encode()) for key in range(KEYS)]
                    )
                for kill in range(KILLS):
                    await wait_for_notes(total * (kill + 1) // (KILLS + 2))
                    killed = processes.pop(drawn.randrange(len(processes)))
                    killed.kill()
                    await killed.wait()
                    processes.append(await start())
                while (await transport.stats(topic)).subscriptions["main"].backlog + (  # noqa: ASYNC110
                    await transport.stats(topic)
                ).subscriptions["main"].unacked:
                    await asyncio.sleep(0.02)
            finally:
                for process in processes:
                    process.kill()
                    await process.wait()
        # The dead have left nothing once somebody has looked.
        async with connect(path) as transport:
            await transport.publish(topic, [])
        assert count_rows(path) == NOTHING

    asyncio.run(play())
    first: dict[str, list[int]] = {}
    again = 0
    for line in notes.read_text().splitlines():
        key, number, _, attempt = line.split()
        seen = first.setdefault(key, [])
        if int(number) in seen:
            again += 1
            assert int(attempt) > 1, "a message came twice, and its second delivery was the first"
        else:
            seen.append(int(number))
    assert first == {f"k{key}": list(range(each)) for key in range(KEYS)}
    # What was in hand, and noted, and not yet acknowledged.
    assert 0 < again <= KILLS * 20
    assert len({line.split()[2] for line in notes.read_text().splitlines()}) > 3


def test_the_files_of_the_dead_are_removed(tmp_path: Path) -> None:
    path, topic = tmp_path / "broker.db", make_topic()

    async def play() -> list[str]:
        async with connect(path) as alive:
            await alive.declare([topic])
            dying = connect(path)
            consumer = await dying.subscribe(topic, "main", 10)
            await alive.publish(topic, [Message("m", None, b"")])
            (held,) = await consumer.receive(1)
            await dying.crash()
            heir = await alive.subscribe(topic, "main", 10)
            async with asyncio.timeout(PATIENCE):
                (again,) = await heir.receive(1)
            assert again.attempt == held.attempt + 1
            await heir.ack([again])
            folder = path.with_name("broker.db-peers")
            async with asyncio.timeout(PATIENCE):
                while len(list(folder.glob("*.lock"))) > 3:  # noqa: ASYNC110 (it is removed soon)
                    await asyncio.sleep(0.02)
        return sorted(each.name for each in folder.iterdir())

    assert asyncio.run(play()) == ["gate.lock", "writer.lock"]
    assert count_rows(path) == NOTHING


def test_an_idle_connection_needs_next_to_no_processor(tmp_path: Path) -> None:
    """At most 0.5 % of a core, with 20 consumers that wait and another process on the file."""
    code = """
import asyncio, sys, time
from pathlib import Path
from tests.integration.sqlite.helpers import connect, make_topic
async def main():
    path = Path(sys.argv[1])
    async with connect(path) as one, connect(path) as other:
        topics = [make_topic() for _ in range(20)]
        await one.declare(topics)
        consumers = [await one.subscribe(each, "main", 10) for each in topics]
        waiting = [asyncio.ensure_future(each.receive(10)) for each in consumers]
        await asyncio.sleep(0.5)
        began = time.process_time()
        await asyncio.sleep(3)
        print((time.process_time() - began) / 3)
        for each in waiting:
            each.cancel()
asyncio.run(main())
"""
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "broker.db")],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    # Two connections, and the processor of a busy machine is slower.
    assert float(done.stdout) < 2 * 0.005


def test_ten_thousand_pending_messages_need_no_memory(tmp_path: Path) -> None:
    path, topic, due = tmp_path / "broker.db", make_topic(Ordering.KEYED), 4e9
    messages = count_seeds(10_000, 100_000)

    async def play() -> int:
        async with connect(path) as transport:
            await transport.declare([topic])
            consumer = await transport.subscribe(topic, "main", 100)
            waiting = asyncio.ensure_future(consumer.receive(100))
            numbers = count()
            before = resident()
            for _ in range(messages // 1000):
                some = [Message("m", f"k{next(numbers)}", bytes(200), deliver_at=due) for _ in range(1000)]
                await transport.publish(topic, some)
            grown = resident() - before
            assert (await transport.stats(topic)).subscriptions["main"].delayed == messages
            await transport.publish(topic, [Message("m", "now", b"now")])
            async with asyncio.timeout(PATIENCE):
                (taken,) = await waiting
            assert taken.message.body == b"now"
        return grown

    assert asyncio.run(play()) < 12 * 1024 * 1024


def resident() -> int:
    """Bytes that this process holds."""
    with open("/proc/self/statm") as figures:
        return int(figures.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not IS_THOROUGH, reason="it takes 4 seconds: INFINITIC_THOROUGH=1")
def test_one_that_stands_still_while_it_writes_holds_up_no_end(tmp_path: Path) -> None:
    """Another process has the turn for ever. `close` returns nevertheless, and the program ends."""
    path, topic = tmp_path / "broker.db", make_topic()
    code = """
import asyncio, sys
from pathlib import Path
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message
from infinitic.transport import TransportClosed
from tests.integration.sqlite.helpers import connect
async def main():
    transport = connect(Path(sys.argv[1]))
    topic = Topic(sys.argv[2], Ordering.SHARED, "main")
    await transport.declare([topic])
    print("ready", flush=True)
    sys.stdin.readline()
    publishing = asyncio.create_task(transport.publish(topic, [Message("m", None, b"")]))
    await asyncio.sleep(0.1)
    await transport.close()
    try:
        await publishing
    except TransportClosed:
        print("closed", flush=True)
asyncio.run(main())
"""
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), topic.name],
        cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        turnstile = Turnstile(path.with_name("broker.db-peers"))
        try:
            turnstile.enter()
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "closed\n"
            assert process.wait(PATIENCE) == 0
        finally:
            turnstile.close()
            process.kill()


def test_delayed_messages_are_on_time(tmp_path: Path) -> None:
    """Not only when the broker looks by itself, four times a second."""
    path, topic = tmp_path / "broker.db", make_topic()

    async def play() -> list[float]:
        async with connect(path) as transport, asyncio.timeout(PATIENCE):
            await transport.declare([topic])
            consumer = await transport.subscribe(topic, "main", 100)
            now = time.time()
            dues = [now + 0.8 + 0.11 * number for number in range(7)]
            await transport.publish(topic, [Message(str(due), None, b"", deliver_at=due) for due in dues])
            late: list[float] = []
            while len(late) < len(dues):
                late += [time.time() - float(each.message.id) for each in await consumer.receive(100)]
            return late

    medians: list[float] = []
    # A machine may be busy for some time.
    while len(medians) < 4 and min(medians, default=1.0) > 0.06:
        late = asyncio.run(play())
        assert min(late) >= 0
        medians.append(sorted(late)[len(late) // 2])
    assert min(medians) < 0.06


def test_nobody_uses_a_connection_that_is_being_closed(tmp_path: Path) -> None:
    """A wake-up of others comes while a thread closes it. That once ended the interpreter."""
    path, topic, goes_on = tmp_path / "broker.db", make_topic(), Event()

    async def play() -> list[bool]:
        async with connect(path) as other, asyncio.timeout(PATIENCE):
            await other.declare([topic])
            closing = connect(path)
            await closing.subscribe(topic, "main", 10)
            assert closing.writer.is_idle
            closing.writer.thread.submit(goes_on.wait)
            task = asyncio.create_task(closing.close())
            with pytest.raises(TransportClosed):  # noqa: PT012 (until it is closed)
                while True:
                    closing.writer.check()
                    await asyncio.sleep(0)
            seen: list[bool] = []
            for _ in range(20):
                await other.publish(topic, [Message("m", None, b"")])
                seen.append(closing.writer.is_idle)
            assert not task.done()
            goes_on.set()
            await task
            return seen

    assert not any(asyncio.run(play()))
