"""What the rules of the runtime work with: a service, a workflow, workers that are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec

from infinitic import Channel, Worker, Workflow, task, topics
from infinitic.definitions.services import service
from infinitic.definitions.workflows import workflow
from infinitic.ids import new_id
from infinitic.messages import engine
from infinitic.messages.service import ExecuteTask, encode
from infinitic.storage import Change, Outcome, Published, Refused
from infinitic.topics import Topic
from infinitic.transport import Message, Transport
from infinitic_storages.memory import Database
from infinitic_testing.conformance.transport_bench import TransportBench
from infinitic_testing.intercepting import InterceptedTransport, Passing

INBOX = "conformance-inbox"
UNTAKEABLE = b"what no database takes"


class Job:
    """A service of a name of its own, and the messages that run its tasks."""

    def __init__(self) -> None:
        self.name = f"conformance-{new_id()}"
        self.workflow = f"{self.name}-workflow"
        self.topic = topics.service_executor(self.name)
        self.killing = killing = asyncio.Event()

        @service(name=self.name)
        class Service:
            @task
            async def ok(self) -> str:
                return "ok"

            @task
            async def die(self) -> None:
                killing.set()
                await asyncio.get_running_loop().create_future()

        self.service = Service

    def call(self, method: str, name: str) -> Message:
        """The message that runs a task."""
        message = ExecuteTask(
            workflow_id=name,
            workflow_name=self.workflow,
            position=1,
            sequence=1,
            service=self.name,
            task=method,
            arguments=msgspec.Raw(b"[]"),
            made_at=0.0,
        )
        return Message(name, None, encode(message))


@workflow(name=INBOX)
class Inbox(Workflow):
    letters = Channel[str]()

    async def read(self, count: int) -> list[str]:
        receiver = self.letters.receive()
        return [await receiver for _ in range(count)]


async def report_to(bench: TransportBench, name: str) -> engine.Input:
    """The first report to a workflow."""
    topic = topics.workflow_engine(name)
    await bench.one.declare([topic])
    peer = await bench.join(topic, name=topic.subscription or "")
    (got,) = await peer.receive(1, within=bench.suite.patience * 4)
    report: engine.Input = engine.decode(got.message.body)
    return report


class PickyDatabase(Database):
    """Refuses changes that contain `UNTAKEABLE`: such an input decodes, and can never be taken."""

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        bad = [each for each in changes if isinstance(each, Change) and _is_untakeable(each)]
        outcomes = iter(super().commit([each for each in changes if each not in bad]))
        return [Refused("no database takes this") if each in bad else next(outcomes) for each in changes]


def _is_untakeable(change: Change) -> bool:
    return change.segment is not None and UNTAKEABLE in change.segment.events


@asynccontextmanager
async def cut_worker(worker: Worker) -> AsyncGenerator[Worker]:
    """Run a worker in a task that is cancelled in the end."""
    ready = asyncio.Event()

    async def host() -> None:
        async with worker.running(allow_empty=True):
            ready.set()
            await asyncio.get_running_loop().create_future()

    hosting = asyncio.create_task(host())
    starting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait([hosting, starting], return_when=asyncio.FIRST_COMPLETED)
        if hosting.done():
            hosting.result()
        yield worker
    finally:
        hosting.cancel()
        starting.cancel()
        await asyncio.wait([hosting, starting])


class NoDeadLetters(InterceptedTransport):
    """A connection on which dead letters wait for ever to be accepted."""

    __slots__ = ("tried",)

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner, Passing())
        self.tried = asyncio.Event()

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        if topic.name.startswith(topics.DEAD_LETTERS):
            self.tried.set()
            await asyncio.get_running_loop().create_future()
        await self.inner.publish(topic, messages)


class NotesDeadLetters(InterceptedTransport):
    """A connection that notes the ids of dead letters, in the order in which they are published."""

    __slots__ = ("noted",)

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner, Passing())
        self.noted: list[str] = []

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        if topic.name.startswith(topics.DEAD_LETTERS):
            self.noted += [each.id for each in messages]
        await self.inner.publish(topic, messages)
