"""What the Pulsar adapter costs on `_pulsar`, and on the public interfaces of its client library.

Each way runs W1 (three-task workflows, 200 in flight) and one workflow at a time, in turn with the
others:

- `private`: the adapter as it is, with callbacks of `_pulsar`, in bursts;
- `asyncio`: everything with `pulsar.asyncio`. Each message costs one coroutine, one future and one
  turn of the loop;
- `mixed`: sends with the callbacks of `pulsar.Producer`, on a second connection, and receives with
  `pulsar.asyncio`.

python -m bench.interfaces [--runs N] [--database redis] | WAY WORKLOAD N DATABASE
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import real_workloads, servers
from bench.report import Report, run
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport, consumers, outgoing, transport
from infinitic_transports.pulsar.client import Answer, PulsarClient, RawMessage
from infinitic_transports.pulsar.consumer import PulsarConsumer
from infinitic_transports.pulsar.outgoing import DUE, ID, KEY

WAYS = ("private", "asyncio", "mixed")

# The library has no types.
pulsar: Any = import_module("pulsar")
pulsar_asyncio: Any = import_module("pulsar.asyncio")


def build(_: object, message: Message, topic: Topic, due: float | None) -> dict[str, Any]:
    """The arguments of the public `send`, made as the adapter makes its messages."""
    properties = {**message.headers, ID: message.id}
    found: dict[str, Any] = {"content": message.body, "properties": properties}
    key = message.key
    if key:
        found["partition_key"] = key
    else:
        properties[KEY] = "empty" if key is not None else "none"
        if topic.ordering is Ordering.KEYED:
            found["partition_key"] = message.id if key is None else " "
    if due is not None:
        properties[DUE] = repr(due)
        found["deliver_at"] = int(due * 1000) + 1
    return found


class Sender:
    """A producer. `send_async` is what the adapter calls, with a callback of two arguments."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.is_connected = inner.is_connected

    def send_async(self, message: dict[str, Any], callback: Answer) -> None:
        asyncio.get_running_loop().create_task(self._send(message, callback))

    async def _send(self, message: dict[str, Any], callback: Answer) -> None:
        try:
            sent = await self._inner.send(**message)
        except pulsar_asyncio.PulsarException as error:
            callback(error.error(), None)
        else:
            callback(pulsar.Result.Ok, sent)

    def close_async(self, callback: Answer) -> None:
        asyncio.get_running_loop().create_task(self._close(callback))

    async def _close(self, callback: Answer) -> None:
        await self._inner.close()
        callback(pulsar.Result.Ok, None)


class CallbackSender(Sender):
    """A producer whose own `send_async` takes a callback."""

    def send_async(self, message: dict[str, Any], callback: Answer) -> None:
        self._inner.send_async(callback=callback, **message)

    async def _close(self, callback: Answer) -> None:
        await asyncio.to_thread(self._inner.close)
        callback(pulsar.Result.Ok, None)


class Receiver:
    """A consumer: one task awaits its messages for as long as some are wanted."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._loop = asyncio.get_running_loop()
        self._answer: Answer | None = None
        self._idle: asyncio.Future[None] | None = None
        self._acks: set[asyncio.Task[None]] = set()
        self._task = self._loop.create_task(self._run())

    def receive_async(self, answer: Answer) -> None:
        self._answer = answer
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _run(self) -> None:
        while True:
            if self._answer is None:
                self._idle = self._loop.create_future()
                await self._idle
                self._idle = None
            message = await self._inner.receive()
            answer, self._answer = self._answer, None
            assert answer is not None
            answer(pulsar.Result.Ok, message._message)

    def acknowledge_async(self, message: RawMessage, _: Answer) -> None:
        task = self._loop.create_task(self._inner.acknowledge(message))
        self._acks.add(task)
        task.add_done_callback(self._acks.discard)

    def is_connected(self) -> bool:
        return True

    def close_async(self, callback: Answer) -> None:
        self._task.cancel()
        self._loop.create_task(self._close(callback))

    async def _close(self, callback: Answer) -> None:
        await self._inner.close()
        callback(pulsar.Result.Ok, None)


class OneThreadConsumer(PulsarConsumer):
    """Messages arrive in the loop already, so no call into it is needed, except for readers."""

    def _arrived(self, result: Any, message: RawMessage) -> None:
        if not self._source.keeps:
            super()._arrived(result, message)
            return
        self._arrivals.append((result, message))
        self._asking = False
        self._handle_arrivals()


class PublicClient(PulsarClient):
    """Makes producers and consumers by the public interface. Readers, which carry answers, stay."""

    mixed = False
    _public: Any = None
    _sending: Any = None

    async def producer(self, topic: str, *, batching: bool, timeout: float) -> Any:
        self._connect()
        arguments = {
            "send_timeout_millis": int(timeout * 1000),
            "batching_enabled": batching,
            "batching_type": pulsar.BatchingType.KeyBased,
            "batching_max_publish_delay_ms": 1,
        }
        if not self.mixed:
            return Sender(await self._public.create_producer(topic, **arguments))
        return CallbackSender(await asyncio.to_thread(self._sending.create_producer, topic, **arguments))

    async def consumer(self, topic: str, subscription: str, *, keyed: bool, queue: int) -> Any:
        self._connect()
        kinds = pulsar.ConsumerType
        made = await self._public.subscribe(
            topic,
            subscription,
            consumer_type=kinds.KeyShared if keyed else kinds.Shared,
            initial_position=pulsar.InitialPosition.Earliest,
            receiver_queue_size=queue,
            batch_index_ack_enabled=True,
        )
        return Receiver(made)

    async def close(self, *, at_once: bool = False) -> None:
        for client in (self._public, self._sending):
            if client is not None:
                await asyncio.to_thread(client.shutdown)
        await super().close(at_once=at_once)

    def _connect(self) -> None:
        if self._public is None:
            logger = pulsar.FileLogger(pulsar.LoggerLevel.Error, "/dev/null")
            self._public = pulsar_asyncio.Client(self.where, logger=logger, stats_interval_in_seconds=0)
            if self.mixed:
                self._sending = pulsar.Client(self.where, logger=logger, stats_interval_in_seconds=0)


class MixedClient(PublicClient):
    mixed = True


def connect(way: str, namespace: str) -> PulsarTransport:
    """Return a transport that works in one of the ways.

    The adapter has no option for this, so parts of it are replaced.
    """
    if way != "private":
        modules: tuple[Any, ...] = (transport, consumers, outgoing)
        for module in modules[1:]:
            module.build = build
        modules[0].PulsarClient = MixedClient if way == "mixed" else PublicClient
        modules[1].PulsarConsumer = OneThreadConsumer
    return PulsarTransport(PulsarSettings.model_validate(servers.transport_settings(namespace)))


def compare(database: str, runs: int, output: Path) -> None:
    """Run all ways in turn, and print the table."""
    report = Report("The Pulsar adapter on the interfaces of its client library")
    for workload, number in (("w1", "3000"), ("alone", "200")):
        found = [{way: run("bench.interfaces", way, workload, number, database) for way in WAYS} for _ in range(runs)]
        for what in ("per_s", "cpu_us", "p50_ms"):
            for way in WAYS:
                name = f"{workload} on {database}, {what}"
                report.add(name, way, [each[way][what] for each in found])
                if way != "private":
                    report.add(name, f"{way} / private", [each[way][what] / each["private"][what] for each in found])
    report.publish(output)


def main() -> None:
    if len(sys.argv) == 5 and sys.argv[1] in WAYS:
        way, workload, number, database = sys.argv[1:]
        servers.transport = lambda namespace: connect(way, namespace)
        workloads = {"w1": real_workloads.w1, "alone": real_workloads.alone}
        asyncio.run(workloads[workload](int(number), database))
        return
    parser = argparse.ArgumentParser(prog="python -m bench.interfaces", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each way (default 3)")
    parser.add_argument("--database", default="redis", help="redis, postgres, mysql or sqlite")
    parser.add_argument("--output", type=Path, default=Path("bench-results/interfaces.json"))
    options = parser.parse_args()
    compare(options.database, options.runs, options.output)


if __name__ == "__main__":
    main()
