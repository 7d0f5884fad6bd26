"""`SharedCommitConformance`: the rules of `infinitic.shared_commit.SharedCommit` as tests (ONE).

For a transport and a storage that are the same database. Subclass it, and run pytest::

    class TestMine(SharedCommitConformance):
        def connect_both(self) -> tuple[Transport, Storage]:
            return MyTransport(path), MyStorage(path)
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

import pytest

from infinitic.ids import new_id
from infinitic.shared_commit import SharedCommit, Unsent, WholeStep, find_shared_commit
from infinitic.storage import (
    Change,
    Duplicate,
    InvalidArgument,
    Lost,
    Outcome,
    Refused,
    StateKey,
    Storage,
    StorageClosed,
    Stored,
    ValueTooLarge,
    Written,
)
from infinitic.storage.integrity import ensure_checked
from infinitic.topics import Ordering, Topic
from infinitic.transport import Delivery, Message, MessageTooLarge, Outgoing, Transport, TransportClosed, UnknownTopic
from infinitic_testing.conformance.storage_bench import V0, make_change, make_start
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    MAIN,
    SHARED,
    Peer,
    TransportBench,
    TransportSuite,
    make_mail,
    read_names,
)
from infinitic_testing.intercepting import InterceptedStorage, Passing

T = TypeVar("T")

SHARED_COMMIT_RULES = {
    "ONE-1": "a step that is written has happened as a whole: change, messages and acknowledgements",
    "ONE-2": "of a step whose change is not written nothing happens, and the others are not hindered",
    "ONE-3": "a step of which the broker refuses a message is `Unsent`, and nothing of it happens",
    "ONE-4": "messages to a topic that nobody listens to go nowhere, and hinder nothing",
    "ONE-5": "an acknowledgement of what is not in hand does nothing, and stops nothing",
    "ONE-6": "of two workers with one input, one makes the step",
    "ONE-7": "what has happened survives a crash right after it",
    "ONE-8": "an acknowledgement frees key and prefetch, as any other",
    "ONE-9": "what cannot be written is refused, and nothing happens",
    "ONE-10": "a closed connection says so, and nothing happens",
    "ONE-11": "storages that encode values are looked through; others share nothing",
    "ONE-12": "a cancelled commit is whole or absent",
}
"""The rules of a shared commit, one sentence each."""


class SharedCommitBench(TransportBench):
    """Two workers on one database, each with a connection to broker and storage."""

    suite: SharedCommitSuite

    def __init__(self, suite: SharedCommitSuite) -> None:
        super().__init__(suite)
        self.storages: list[Storage] = []

    async def open(self) -> None:
        """Connect both workers. The first one has declared the topics."""
        self.worker, self.other = await self.connect_worker(), await self.connect_worker()
        self.inbox, self.outbox = await self.declare_topic(), await self.declare_topic()

    async def connect_worker(self) -> PairOfConnections:
        """Connect one more worker."""
        transport, storage = self.suite.connect_both()
        self.connections.append(transport)
        self.storages.append(storage)
        shared = find_shared_commit(transport, storage)
        assert shared is not None, f"{transport!r} and {storage!r} share no commit"
        await storage.prepare()
        return PairOfConnections(transport, storage, shared)

    async def declare_topic(self, ordering: Ordering = KEYED) -> Topic:
        topic = Topic(f"conformance:{new_id()}", ordering, MAIN)
        await self.worker.transport.declare([topic])
        return topic

    async def take(self, worker: PairOfConnections, *names: str) -> HeldInputs:
        """Publish inputs, and have a worker take them."""
        await self.worker.transport.publish(self.inbox, make_mail(*names))
        return await self.join_inbox(worker, len(names))

    async def join_inbox(self, worker: PairOfConnections, count: int, *, prefetch: int = 100) -> HeldInputs:
        """Have a worker take inputs that are there."""
        peer = await self.join(self.inbox, prefetch, on=worker.transport)
        # Between keys there is no order.
        return HeldInputs(peer, sorted(await peer.take(count), key=lambda each: each.message.body))

    async def read_outbox(self) -> list[str]:
        """Read all that was sent so far."""
        peer = await self.join(self.outbox, on=self.other.transport)
        names = read_names(await peer.take_rest())
        await peer.close()
        return names

    async def read_inbox(self) -> list[str]:
        """Read the inputs that are left, once nobody has them in hand."""
        peer = await self.join(self.inbox, on=self.other.transport)
        names = read_names(await peer.take_rest())
        await peer.close()
        return names

    def answer(self, *names: str, to: Topic | None = None, at: float | None = None) -> list[Outgoing]:
        """Make messages to the outbox, or to another topic."""
        return [Outgoing(to or self.outbox, message) for message in make_mail(*names, at=at)]

    async def close(self) -> None:
        """Close all connections."""
        for transport in self.connections:
            await transport.close()
        for storage in self.storages:
            await storage.close()


class PairOfConnections:
    """A connection to the broker, one to the storage, and their commit."""

    def __init__(self, transport: Transport, storage: Storage, shared: SharedCommit) -> None:
        self.transport = transport
        self.storage = storage
        self.shared = shared

    async def commit(self, *steps: WholeStep) -> list[Outcome | Unsent]:
        """Commit steps."""
        return await self.shared.commit(steps)

    async def load(self, key: StateKey) -> Stored | None:
        """Load one state."""
        return (await self.storage.states.load([key])).get(key)


class HeldInputs:
    """Inputs that a worker has in hand."""

    def __init__(self, peer: Peer, deliveries: Sequence[Delivery]) -> None:
        self.peer = peer
        self.deliveries = deliveries

    def step(
        self, change: Change, outgoing: Sequence[Outgoing], deliveries: Sequence[Delivery] | None = None
    ) -> WholeStep:
        """Make the step that takes them, or some of them."""
        return WholeStep(change, outgoing, self.peer.consumer, self.deliveries if deliveries is None else deliveries)


class SharedCommitSuite(TransportSuite, ABC):
    """How the suite reaches a database. Only `connect_both` has to be defined."""

    largest_tried: ClassVar[int] = 64 * 1024 * 1024
    """Bytes: values above the limit of the storage are tried if that is no larger."""

    @abstractmethod
    def connect_both(self) -> tuple[Transport, Storage]:
        """Make a connection to the broker and one to the storage, on the database of a test."""

    def connect(self) -> Transport:
        return self.connect_both()[0]


Body = Callable[[Any, SharedCommitBench], Awaitable[None]]


def one(body: Body) -> Callable[[Any], None]:
    """Make a test of a rule, with a bench that is closed in the end."""

    async def main(suite: SharedCommitSuite) -> None:
        bench = SharedCommitBench(suite)
        try:
            await bench.open()
            await body(suite, bench)
        finally:
            await bench.close()

    def test(self: SharedCommitSuite) -> None:
        self.run(main(self))

    test.__name__, test.__qualname__, test.__doc__ = body.__name__, body.__qualname__, body.__doc__
    test.__module__ = body.__module__
    return test


def name(number: int) -> StateKey:
    return StateKey("Order", str(number))


class SharedCommitConformance(SharedCommitSuite):
    """All rules. `SharedCommitSuite` says what may be overridden."""

    @one
    async def test_one_1_all_of_a_step_happens(self, bench: SharedCommitBench) -> None:
        """ONE-1."""
        worker = bench.worker
        taken = await bench.take(worker, "a1", "a2", "b1")
        first, second = taken.deliveries[:2], taken.deliveries[2:]
        steps = [
            taken.step(make_start(name(1), published=True), bench.answer("x1", "x2", "x3"), first),
            taken.step(make_start(name(2), published=True), [], second),
        ]
        assert await worker.commit(*steps) == [Written(V0), Written(V0)]
        for number in (1, 2):
            assert await bench.other.load(name(number)) == Stored(V0, b"head", 1, True)
        assert (await worker.storage.states.history(name(1), outbox=True))[0].outbox == b"out"
        assert await bench.read_outbox() == ["x1", "x2", "x3"]
        await taken.peer.close()
        assert await bench.read_inbox() == []

    @one
    async def test_one_1_messages_of_all_kinds(self, bench: SharedCommitBench) -> None:
        """ONE-1."""
        worker = bench.worker
        taken = await bench.take(worker, "a1")
        listener = Topic(f"conformance:{new_id()}", SHARED, None)
        hears = await bench.join(listener, on=bench.other.transport, durable=False)
        exact = Message("id", "kéy", bytes(range(256)), {"name": "ü😀"})
        due = bench.clock.now() + self.delay
        outgoing = [
            *bench.answer("b1", "b2", to=bench.inbox),
            Outgoing(bench.outbox, exact),
            *bench.answer("l1", to=listener),
            *bench.answer("c1", to=bench.inbox, at=due),
        ]
        assert await worker.commit(taken.step(make_start(name(1)), outgoing)) == [Written(V0)]
        assert read_names(await hears.take(1)) == ["l1"]
        # Those behind the first one of a key may be handed out only when it is settled.
        assert read_names(await taken.peer.take(2)) == ["b1", "b2"]
        peer = await bench.join(bench.outbox, on=bench.other.transport)
        [got] = await peer.take(1)
        assert (got.message.id, got.message.key, got.message.body, dict(got.message.headers)) == (
            exact.id,
            exact.key,
            exact.body,
            dict(exact.headers),
        )
        assert read_names(await taken.peer.take(1)) == ["c1"]
        assert bench.clock.now() >= due

    @one
    async def test_one_1_a_step_without_inputs_or_messages(self, bench: SharedCommitBench) -> None:
        """ONE-1."""
        taken = await bench.take(bench.worker, "a1")
        assert await bench.worker.commit(taken.step(make_start(name(1)), [], [])) == [Written(V0)]
        assert await bench.worker.commit() == []
        await taken.peer.close()
        assert await bench.read_inbox() == ["a1"]

    @one
    async def test_one_2_nothing_of_a_step_that_is_not_written(self, bench: SharedCommitBench) -> None:
        """ONE-2."""
        worker = bench.worker
        await worker.storage.states.commit([make_start(name(number), deduplication_ids=("m",)) for number in (1, 2, 3)])
        taken = await bench.take(worker, "a1", "b1", "c1", "d1")
        changes = [
            make_change(name(1), V0 - 1, V0 + 5),
            make_change(name(2), V0, V0 + 5, deduplication_ids=("m",)),
            make_start(name(4)),
            make_change(name(3), V0, V0 - 1),
        ]
        steps = [
            taken.step(change, bench.answer(f"x{number}"), [delivery])
            for number, (change, delivery) in enumerate(zip(changes, taken.deliveries, strict=True))
        ]
        lost, repeated, written, refused = await worker.commit(*steps)
        assert (lost, repeated, written) == (Lost(V0), Duplicate(("m",)), Written(V0))
        assert isinstance(refused, Refused)
        assert await bench.read_outbox() == ["x2"]
        await taken.peer.close()
        assert sorted(await bench.read_inbox()) == ["a1", "b1", "d1"]
        for number in (1, 2, 3):
            assert await worker.load(name(number)) == Stored(V0, b"head", 1, False)

    @one
    async def test_one_3_nothing_of_a_step_that_the_broker_refuses(self, bench: SharedCommitBench) -> None:
        """ONE-3."""
        worker = bench.worker
        taken = await bench.take(worker, "a1", "b1", "c1")
        large = Outgoing(bench.outbox, Message("x", "x", bytes(worker.transport.capabilities.max_payload + 1)))
        unknown = Topic(f"conformance:{new_id()}", KEYED, MAIN)
        answers = [
            [*bench.answer("x1"), large],
            bench.answer("x2"),
            [*bench.answer("x3"), *bench.answer("x4", to=unknown)],
        ]
        steps = [
            taken.step(make_start(name(number)), answer, [delivery])
            for number, (answer, delivery) in enumerate(zip(answers, taken.deliveries, strict=True))
        ]
        too_large, written, missing = await worker.commit(*steps)
        assert written == Written(V0)
        assert isinstance(too_large, Unsent)
        assert isinstance(too_large.error, MessageTooLarge)
        assert too_large.error.topic == bench.outbox.name
        assert isinstance(missing, Unsent)
        assert isinstance(missing.error, UnknownTopic)
        assert unknown.name in str(missing.error)
        assert [await worker.load(name(number)) is None for number in (0, 1, 2)] == [True, False, True]
        assert await bench.read_outbox() == ["x2"]
        await taken.peer.close()
        assert sorted(await bench.read_inbox()) == ["a1", "c1"]

    @one
    async def test_one_4_nobody_listens(self, bench: SharedCommitBench) -> None:
        """ONE-4."""
        worker = bench.worker
        taken = await bench.take(worker, "a1")
        nobody = Topic(f"conformance:{new_id()}", SHARED, None)
        outgoing = [*bench.answer("l1", to=nobody), *bench.answer("x1")]
        assert await worker.commit(taken.step(make_start(name(1)), outgoing)) == [Written(V0)]
        assert await bench.read_outbox() == ["x1"]
        late = await bench.join(nobody, on=bench.other.transport, durable=False)
        await late.expect_nothing()

    @one
    async def test_one_5_what_is_not_in_hand_stops_nothing(self, bench: SharedCommitBench) -> None:
        """ONE-5."""
        worker = bench.worker
        taken = await bench.take(worker, "a1", "b1")
        await taken.peer.ack(taken.deliveries[:1])
        assert await worker.commit(taken.step(make_start(name(1)), bench.answer("x1"))) == [Written(V0)]
        await taken.peer.close()
        assert await bench.read_inbox() == []
        assert await bench.read_outbox() == ["x1"]

    @one
    async def test_one_5_a_consumer_that_has_left_settles_nothing(self, bench: SharedCommitBench) -> None:
        """ONE-5."""
        worker = bench.worker
        taken = await bench.take(worker, "a1")
        await taken.peer.close()
        again = await bench.join_inbox(bench.other, 1)
        assert await worker.commit(taken.step(make_start(name(1)), bench.answer("x1"))) == [Written(V0)]
        assert await bench.read_outbox() == ["x1"]
        # It is with the other worker still, who makes nothing of it.
        late = again.step(make_start(name(1), V0 + 1), bench.answer("x2"))
        assert await bench.other.commit(late) == [Lost(V0)]
        await again.peer.close()
        assert await bench.read_inbox() == ["a1"]
        assert await bench.read_outbox() == ["x1"]

    @one
    async def test_one_6_one_of_two_makes_the_step(self, bench: SharedCommitBench) -> None:
        """ONE-6."""
        count = 20
        taken = await bench.take(bench.worker, *(f"{chr(97 + number)}1" for number in range(count)))

        # Both have seen the inputs, as after a session that was lost unnoticed.
        elsewhere = HeldInputs(await bench.join(bench.inbox, on=bench.other.transport), [])

        def make_step(who: str, number: int) -> WholeStep:
            change, outgoing = make_start(name(number), head=who.encode()), bench.answer(f"{who}{number}")
            if who == "y":
                return elsewhere.step(change, outgoing)
            return taken.step(change, outgoing, [taken.deliveries[number]])

        calls: list[Coroutine[Any, Any, list[Outcome | Unsent]]] = []
        for number in range(count):
            calls.append(bench.worker.commit(make_step("x", number)))
            calls.append(bench.other.commit(make_step("y", count - 1 - number)))
        results = [each for outcomes in await asyncio.gather(*calls) for each in outcomes]
        assert sum(isinstance(each, Written) for each in results) == count
        assert sum(isinstance(each, Lost) for each in results) == count
        sent = await bench.read_outbox()
        heads = [await bench.worker.load(name(number)) for number in range(count)]
        expected = [f"{each.head.decode()}{number}" for number, each in enumerate(heads) if each is not None]
        assert sorted(sent) == sorted(expected)
        assert len(sent) == count

    @one
    async def test_one_7_what_has_happened_survives_a_crash(self, bench: SharedCommitBench) -> None:
        """ONE-7."""
        crashing = await bench.connect_worker()
        taken = await bench.take(crashing, "a1", "a2", "b1")
        step = taken.step(make_start(name(1)), bench.answer("x1"), [taken.deliveries[0]])
        assert await crashing.commit(step) == [Written(V0)]
        await self.crash(crashing.transport)
        assert await bench.worker.load(name(1)) is not None
        assert await bench.read_outbox() == ["x1"]
        assert sorted(await bench.read_inbox()) == ["a2", "b1"]

    @one
    async def test_one_8_an_acknowledgement_makes_room(self, bench: SharedCommitBench) -> None:
        """ONE-8."""
        worker = bench.worker
        await worker.transport.publish(bench.inbox, make_mail("a1", "a2", "b1"))
        taken = await bench.join_inbox(worker, 1, prefetch=1)
        names = read_names(taken.deliveries)
        for number in range(2):
            assert await worker.commit(taken.step(make_start(name(number)), [])) == [Written(V0)]
            taken.deliveries = await taken.peer.take(1)
            names += read_names(taken.deliveries)
        assert sorted(names) == ["a1", "a2", "b1"]
        assert names.index("a1") < names.index("a2")

    @one
    async def test_one_9_what_cannot_be_written(self, bench: SharedCommitBench) -> None:
        """ONE-9."""
        worker = bench.worker
        taken = await bench.take(worker, "a1", "b1")
        one_input, other_input = ([each] for each in taken.deliveries)
        twice = [taken.step(make_start(name(1)), bench.answer("x1"), each) for each in (one_input, other_input)]
        with pytest.raises(InvalidArgument):
            await worker.commit(*twice)
        limit = worker.storage.capabilities.max_value
        if limit <= self.largest_tried:
            large = make_start(name(2), head=bytes(limit + 1))
            with pytest.raises(ValueTooLarge):
                await worker.commit(twice[0], taken.step(large, bench.answer("x2"), other_input))
        assert await worker.load(name(1)) is None
        assert await bench.read_outbox() == []
        await taken.peer.close()
        assert sorted(await bench.read_inbox()) == ["a1", "b1"]

    @one
    async def test_one_10_a_closed_connection(self, bench: SharedCommitBench) -> None:
        """ONE-10."""
        for closes_transport in (True, False):
            closing = await bench.connect_worker()
            taken = await bench.take(closing, "a1")
            step = taken.step(make_start(name(1)), bench.answer("x1"))
            if closes_transport:
                await closing.transport.close()
            else:
                await taken.peer.close()
                await closing.storage.close()
            with pytest.raises((TransportClosed, StorageClosed)):
                await closing.commit(step)
            assert await bench.worker.load(name(1)) is None
            assert await bench.read_outbox() == []
            peer = await bench.join(bench.inbox, on=bench.other.transport)
            left = await peer.take(1)
            assert read_names(left) == ["a1"]
            await peer.ack(left)
            await peer.close()

    @one
    async def test_one_11_values_are_encoded(self, bench: SharedCommitBench) -> None:
        """ONE-11."""
        worker = bench.worker
        checked = ensure_checked(worker.storage)
        shared = find_shared_commit(worker.transport, checked)
        assert shared is not None
        taken = await bench.take(worker, "a1")
        assert await shared.commit([taken.step(make_start(name(1)), bench.answer("x1"))]) == [Written(V0)]
        stored = (await checked.states.load([name(1)]))[name(1)]
        assert (stored.head, stored.damage) == (b"head", "")
        assert (await checked.states.history(name(1)))[0].events == b"first"
        plain = await worker.load(name(1))
        assert plain is not None
        assert plain.head != b"head"
        assert await bench.read_outbox() == ["x1"]

    @one
    async def test_one_11_a_storage_that_changes_more_shares_nothing(self, bench: SharedCommitBench) -> None:
        """ONE-11."""
        behind = InterceptedStorage(bench.worker.storage, Passing())
        assert find_shared_commit(bench.worker.transport, behind) is None

    @one
    async def test_one_12_a_cancelled_commit_is_whole_or_absent(self, bench: SharedCommitBench) -> None:
        """ONE-12."""
        worker = bench.worker
        count = 8
        taken = await bench.take(worker, *(f"{chr(97 + number)}1" for number in range(count)))
        for number, delivery in enumerate(taken.deliveries):
            step = taken.step(make_start(name(number)), bench.answer(f"x{number}"), [delivery])
            commit = asyncio.create_task(worker.commit(step))
            for _ in range(number):
                await asyncio.sleep(0)
            commit.cancel()
            await asyncio.wait([commit])
        await asyncio.sleep(self.silence)
        written = [await worker.load(name(number)) is not None for number in range(count)]
        sent = await bench.read_outbox()
        assert sorted(sent) == [f"x{number}" for number in range(count) if written[number]]
        await taken.peer.close()
        left = await bench.read_inbox()
        assert sorted(left) == [f"{chr(97 + number)}1" for number in range(count) if not written[number]]
