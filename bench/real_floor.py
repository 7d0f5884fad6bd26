"""The floor of W1 on Pulsar and PostgreSQL: a hand-written engine, without framework.

It runs in one process. It has three topics (engine, tasks, client), keyed where it matters, with
batches by key. For every event it receives, decodes, looks up a dict, runs a state machine of three
steps, and encodes. Events that wait together are committed in one transaction with a version guard,
then published, then acknowledged. It has no retries, timers, replay or validation.

python -m bench.real_floor w1 N
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from importlib import import_module
from typing import Any

import httpx
import orjson
import psycopg

from bench import load, servers

pulsar: Any = import_module("pulsar")  # it has no types
pulsar_asyncio: Any = import_module("pulsar.asyncio")
KEYED, SHARED = pulsar.ConsumerType.KeyShared, pulsar.ConsumerType.Shared
PAD = {
    "tags": ["customer:4711", "region:eu-west"],
    "meta": {
        "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
        "host": "worker-3",
        "codec": "json",
        "version": "1.0.0",
    },
}

Event = dict[str, Any]


async def create(name: str) -> str:
    """Make a topic and its subscription."""
    path = f"{servers.PULSAR_WEB}/admin/v2/persistent/public/default/{name}"
    async with httpx.AsyncClient() as http:
        (await http.put(path)).raise_for_status()
        (await http.put(f"{path}/subscription/s", json="earliest")).raise_for_status()
    return f"persistent://public/default/{name}"


class Topic:
    """One producer and one consumer."""

    async def open(self, client: Any, name: str, kind: object) -> Topic:
        url = await create(name)
        self.consumer = await client.subscribe(
            url,
            "s",
            consumer_type=kind,
            receiver_queue_size=1000,
            initial_position=pulsar.InitialPosition.Earliest,
        )
        self.producer = await client.create_producer(
            url,
            batching_enabled=True,
            batching_type=pulsar.BatchingType.KeyBased,
            batching_max_publish_delay_ms=1,
            max_pending_messages=5000,
        )
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.pump = asyncio.create_task(self._pump())
        return self

    async def _pump(self) -> None:
        while True:
            self.queue.put_nowait(await self.consumer.receive())

    async def take(self) -> list[Any]:
        batch = [await self.queue.get()]
        while len(batch) < 200 and not self.queue.empty():
            batch.append(self.queue.get_nowait())
        return batch

    async def send(self, key: str, body: Event) -> None:
        await self.producer.send(orjson.dumps(body | PAD), partition_key=key)

    def ack(self, batch: list[Any]) -> None:
        self.pending = asyncio.gather(*(self.consumer.acknowledge(message) for message in batch))


async def connect() -> psycopg.AsyncConnection[Any]:
    connection = await psycopg.AsyncConnection.connect(servers.POSTGRES, autocommit=True)
    await connection.execute("drop table if exists bench_heads")
    await connection.execute("create table bench_heads(id text primary key, version bigint, head bytea)")
    return connection


async def commit(connection: psycopg.AsyncConnection[Any], rows: list[tuple[str, int, bytes]]) -> None:
    await connection.execute(
        "insert into bench_heads select * from unnest(%s::text[], %s::bigint[], %s::bytea[]) on conflict (id) do update"
        " set version = excluded.version, head = excluded.head where bench_heads.version = excluded.version - 1",
        ([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]),
    )


async def main(n: int) -> None:
    quiet = pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)
    client = pulsar_asyncio.Client(servers.PULSAR, io_threads=1, logger=quiet)
    run = f"floor-{uuid.uuid4().hex[:8]}"
    engine = await Topic().open(client, f"{run}-engine", KEYED)
    tasks = await Topic().open(client, f"{run}-tasks", SHARED)
    replies = await Topic().open(client, f"{run}-client", SHARED)
    connection = await connect()
    heads: dict[str, Event] = {}
    waiting: dict[str, asyncio.Future[Any]] = {}

    async def run_engine() -> None:
        while True:
            batch = await engine.take()
            rows: dict[str, tuple[str, int, bytes]] = {}
            out: list[tuple[Topic, str, Event]] = []
            for message in batch:
                event = orjson.loads(message.data())
                workflow = event["w"]
                head = heads.setdefault(workflow, {"version": 0, "values": [], "input": None})
                head["version"] += 1
                value = event["value"]
                if event["kind"] == "start":
                    head["input"] = value
                else:
                    head["values"].append(value)
                if len(head["values"]) == 3:
                    out.append((replies, workflow, {"w": workflow, "kind": "done", "value": sum(head["values"])}))
                else:
                    task = {"w": workflow, "kind": "task", "value": value, "position": len(head["values"])}
                    out.append((tasks, workflow, task))
                rows[workflow] = (workflow, head["version"], orjson.dumps(head | PAD))
            await commit(connection, list(rows.values()))
            await asyncio.gather(*(topic.send(key, body) for topic, key, body in out))
            engine.ack(batch)

    async def run_tasks() -> None:
        while True:
            batch = await tasks.take()
            events = [orjson.loads(message.data()) for message in batch]
            results = [{"w": each["w"], "kind": "result", "value": each["value"] + 1} for each in events]
            await asyncio.gather(*(engine.send(each["w"], each) for each in results))
            tasks.ack(batch)

    async def run_replies() -> None:
        while True:
            batch = await replies.take()
            for message in batch:
                event = orjson.loads(message.data())
                waiting.pop(event["w"]).set_result(event["value"])
            replies.ack(batch)

    loops = [asyncio.create_task(each()) for each in (run_engine, run_tasks, run_replies)]

    async def one(i: int) -> object:
        workflow = uuid.uuid4().hex
        done = waiting[workflow] = asyncio.get_running_loop().create_future()
        await engine.send(workflow, {"w": workflow, "kind": "start", "value": i})
        return await done

    await asyncio.gather(*(one(i) for i in range(200)))
    await load.drive(n, load.BOUND, one, load.expected_w1)
    for each in loops:
        each.cancel()
    await asyncio.to_thread(client._client.close)
    os._exit(0)  # the client's threads outlive the interpreter now and then


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[2])))
