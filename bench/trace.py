"""What one workflow alone waits for: each hop and each commit of a three-task workflow, in order.

Transport and storage are wrapped, and each of their calls leaves marks. Only one workflow runs at a
time, so the marks of one workflow follow each other, and all lie on the way to its answer.

python -m bench.trace N postgres|mysql|redis|sqlite
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from bench import load
from bench.real_workloads import running
from bench.workloads import Adder, Bench, CountingStates, CountingStorage
from infinitic.storage import Change, Outcome, Published, StateKey, StateStorage, Storage, Stored
from infinitic.topics import Topic
from infinitic.transport import Consumer, Delivery, Message, TopicStats, Transport

CODE, BROKER, HAND_OVER, LOAD, COMMIT = "own code", "broker", "hand-over", "load", "commit"
KINDS = (BROKER, HAND_OVER, COMMIT, LOAD, CODE)
"""What time is spent on. `broker`: from sending until the broker says that it has the message.
`hand-over`: from then until the receiver has it."""

ROLES = {"workflow-engine": "engine", "service-executor": "executor", "client": "client"}


class Mark(msgspec.Struct, frozen=True, gc=False):
    """The end of a part of the way.

    Attributes:
        at: in seconds of the performance counter.
        name: of the part, for people.
        kind: one of `KINDS`.
    """

    at: float
    name: str
    kind: str


class Marks:
    """The marks of the workflow that runs now."""

    def __init__(self) -> None:
        self._marks: list[Mark] = []
        self._where = "client"

    def add(self, name: str, kind: str) -> None:
        """Mark that a part ends now.

        Args:
            name: of the part, for people.
            kind: one of `KINDS`.
        """
        self._marks.append(Mark(time.perf_counter(), f"{self._where}: {name}", kind))

    def enter(self, topic: str) -> None:
        """Mark that a message has come from a topic."""
        self._where = ROLES.get(topic.partition(":")[0], topic)
        self.add("has the message", HAND_OVER)

    def take(self) -> list[Mark]:
        """Return all marks, and begin anew."""
        taken, self._marks, self._where = self._marks, [], "client"
        return taken


class TracedConsumer(Consumer):
    """Marks what arrives."""

    __slots__ = ("_inner", "_marks", "_topic")

    def __init__(self, inner: Consumer, topic: str, marks: Marks) -> None:
        self._inner = inner
        self._topic = topic
        self._marks = marks

    async def receive(self, max_messages: int) -> list[Delivery]:
        found = await self._inner.receive(max_messages)
        self._marks.enter(self._topic)
        return found

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        await self._inner.ack(deliveries)

    async def nack(self, delivery: Delivery, delay: float = 0.0) -> None:
        await self._inner.nack(delivery, delay)

    async def close(self) -> None:
        await self._inner.close()


class TracedTransport(Transport):
    """Marks what is sent, and when the broker has it."""

    __slots__ = ("_inner", "_marks", "capabilities")

    def __init__(self, inner: Transport, marks: Marks) -> None:
        self._inner = inner
        self._marks = marks
        self.capabilities = inner.capabilities

    async def declare(self, topics: Iterable[Topic]) -> None:
        await self._inner.declare(topics)

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        self._marks.add("sends", CODE)
        await self._inner.publish(topic, messages)
        self._marks.add("the broker has it", BROKER)

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        inner = await self._inner.subscribe(topic, subscription, prefetch, durable=durable)
        return TracedConsumer(inner, topic.name, self._marks)

    async def stats(self, topic: Topic) -> TopicStats:
        return await self._inner.stats(topic)

    async def close(self) -> None:
        await self._inner.close()


class TracedStates(CountingStates):
    """Marks loads and commits."""

    def __init__(self, states: StateStorage, marks: Marks) -> None:
        super().__init__(states)
        self._marks = marks

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        self._marks.add("asks for the state", CODE)
        found = await super().load(keys)
        self._marks.add("has loaded", LOAD)
        return found

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        self._marks.add("has decided", CODE)
        outcomes = await super().commit(changes)
        self._marks.add("has committed", COMMIT)
        return outcomes


class TracedStorage(CountingStorage):
    """A storage with `TracedStates`."""

    def __init__(self, inner: Storage, marks: Marks) -> None:
        super().__init__(inner)
        self.states = TracedStates(inner.states, marks)


class Part(msgspec.Struct, frozen=True):
    """One part of the way, in many workflows.

    Attributes:
        name: what has happened at its end.
        kind: one of `KINDS`.
        seconds: how long it took in each workflow.
    """

    name: str
    kind: str
    seconds: list[float]


class Run(msgspec.Struct, frozen=True):
    """The trace of one workflow.

    Attributes:
        began: when it was called, in seconds of the performance counter.
        marks: on its way, in order.
    """

    began: float
    marks: list[Mark]


def join(runs: Sequence[Run]) -> list[Part]:
    """Join the runs that went the same way. Those that went another one are left out.

    A message may be received before its publisher is told that the broker has it. Then nobody
    waited for that.

    Raises:
        ValueError: there is no run.
    """
    if not runs:
        raise ValueError("There are no runs")
    ways = [_drop_late(run.marks) for run in runs]
    names = [tuple((mark.name, mark.kind) for mark in way) for way in ways]
    usual = Counter(names).most_common(1)[0][0]
    parts = [Part(name, kind, []) for name, kind in usual]
    for run, way, named in zip(runs, ways, names, strict=True):
        before = run.began
        if named == usual:
            for part, mark in zip(parts, way, strict=True):
                part.seconds.append(mark.at - before)
                before = mark.at
    return parts


def add_up(parts: Sequence[Part], kind: str | None = None) -> list[float]:
    """Add up, for each run, the milliseconds of all parts, or of those of one kind."""
    found = [part.seconds for part in parts if kind is None or part.kind == kind]
    return [1e3 * sum(each) for each in zip(*found, strict=True)]


def _drop_late(marks: Sequence[Mark]) -> list[Mark]:
    """Leave out that the broker has a message which its receiver has already."""
    kept: list[Mark] = []
    for mark in marks:
        if mark.kind == BROKER and (not kept or kept[-1].kind != CODE or not kept[-1].name.endswith("sends")):
            continue
        kept.append(mark)
    return kept


def print_parts(parts: Sequence[Part], title: str) -> None:
    """Print each part, and the sum of each kind, in milliseconds."""
    table = Table("", "waits for", "median, ms", "lowest to highest", title=title)
    for part in parts:
        values = [1e3 * each for each in part.seconds]
        spread = f"{min(values):.2f} to {max(values):.2f}"
        table.add_row(part.name, part.kind, f"{statistics.median(values):.2f}", spread)
    table.add_section()
    for kind in KINDS:
        sums = add_up(parts, kind)
        if sums:
            count = sum(part.kind == kind for part in parts)
            table.add_row(
                f"{count} × {kind}", kind, f"{statistics.median(sums):.2f}", f"{min(sums):.2f} to {max(sums):.2f}"
            )
    Console().print(table)


async def main(n: int, database: str) -> None:
    marks = Marks()
    async with running(
        Adder(),
        database,
        wrapper=lambda inner: TracedStorage(inner, marks),
        wrap_transport=lambda inner: TracedTransport(inner, marks),
    ) as worker:
        stub = worker.client.new_workflow(Bench)
        await asyncio.gather(*(stub.three(i) for i in range(200)))
        runs: list[Run] = []
        for i in range(n):
            # What the worker does behind the answer belongs to no workflow.
            await asyncio.sleep(0.01)
            marks.take()
            began = time.perf_counter()
            value = await stub.three(i)
            marks.add("has the answer", CODE)
            if value != load.expected_w1(i):
                raise AssertionError((i, value))
            runs.append(Run(began, marks.take()))
    parts = join(runs)
    print_parts(parts, f"One workflow of three tasks at a time, Pulsar and {database}")
    figures = {"p50": add_up(parts)} | {kind: add_up(parts, kind) for kind in KINDS}
    load.result(**{f"{name} ms": round(statistics.median(each), 3) for name, each in figures.items() if each})


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
