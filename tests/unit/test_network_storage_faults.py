"""Each fault of the storage: what it does, that it is counted, and that it ends with the faults.

Here the rate of a fault is 1.0, so that it happens at every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest

from infinitic.storage import (
    Change,
    Lost,
    Outcome,
    Published,
    Query,
    Storage,
    StorageOutcomeUnknown,
    StorageUnavailable,
    TagChange,
    TagKey,
    TagKind,
    ValueTooLarge,
    Written,
)
from infinitic.transport import Message, MessageTooLarge
from infinitic_testing.network import Network
from infinitic_testing.observing import Observer
from tests.unit.network_bench import (
    CHANGE,
    KEY,
    TOPIC,
    FakeProcess,
    Log,
    check_healed,
    letter,
    make_faulty,
    make_network,
    measure,
    play,
    prepare,
)

TAG, CUSTOM_ID = TagKey(TagKind.WORKFLOW, "Trip", "vip"), TagKey(TagKind.CUSTOM_ID, "Trip", "order")

READS: dict[str, Callable[[Storage], Awaitable[object]]] = {
    "load": lambda storage: storage.states.load([KEY]),
    "history": lambda storage: storage.states.history(KEY),
    "find": lambda storage: storage.states.find(Query()),
    "count": lambda storage: storage.states.count(Query()),
    "members": lambda storage: storage.tags.members(TAG),
    "count of members": lambda storage: storage.tags.count(TAG),
}

TAG_WRITES: dict[str, tuple[TagKey, Callable[[Storage], Awaitable[object]]]] = {
    "update": (TAG, lambda storage: storage.tags.update([TagChange(TAG, "a", True, 0, 0.0)])),
    "claim": (CUSTOM_ID, lambda storage: storage.tags.claim(CUSTOM_ID, "a", 0, 0.0)),
}


@pytest.mark.parametrize("verb", READS)
def test_a_read_fails_once(verb: str) -> None:
    async def main() -> None:
        network, plan, process = make_faulty("failed-reads")
        storage = network.connect_storage(process)
        with pytest.raises(StorageUnavailable):
            await READS[verb](storage)
        await check_healed(network, plan, "failed-reads", lambda: READS[verb](storage))

    play(main)


def test_a_slow_storage_takes_seconds() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("slow-storage")
        storage = network.connect_storage(process)
        assert await measure(storage.states.load([KEY])) > 0.2
        await check_healed(network, plan, "slow-storage", lambda: storage.states.load([KEY]))

    play(main)


@pytest.mark.parametrize("what", ["find", "count", "count of members", "stats"])
def test_a_search_and_statistics_may_be_old(what: str) -> None:
    async def main() -> None:
        network, plan, process = make_faulty("stale-reads")
        transport, storage = prepare(network, process), network.connect_storage(process)

        def read() -> Awaitable[object]:
            return transport.stats(TOPIC) if what == "stats" else READS[what](storage)

        assert await measure(read()) > 1.0
        await check_healed(network, plan, "stale-reads", read)

    play(main)


def test_a_commit_with_an_unknown_outcome_is_written_or_not_or_later() -> None:
    outcomes = set[str]()

    async def main(seed: int) -> None:
        network, plan, process = make_faulty("unknown-commits", seed=seed)
        storage = network.connect_storage(process)
        with pytest.raises(StorageOutcomeUnknown):
            await storage.states.commit([CHANGE])
        at_once = bool(network.database.load([KEY]))
        await asyncio.sleep(10.0)
        in_the_end = bool(network.database.load([KEY]))
        outcomes.add("written" if at_once else "later" if in_the_end else "never")
        assert plan.fired["unknown-commits"] == 1

    for seed in range(40):
        play(partial(main, seed))
    assert outcomes == {"written", "later", "never"}


@pytest.mark.parametrize("verb", TAG_WRITES)
def test_a_change_of_tags_with_an_unknown_outcome_is_written_or_not_or_later(verb: str) -> None:
    key, write = TAG_WRITES[verb]
    outcomes = set[str]()

    async def main(seed: int) -> None:
        network, plan, process = make_faulty("unknown-commits", seed=seed)
        with pytest.raises(StorageOutcomeUnknown):
            await write(network.connect_storage(process))
        at_once = network.database.tags.count(key)
        await asyncio.sleep(10.0)
        in_the_end = network.database.tags.count(key)
        outcomes.add("written" if at_once else "later" if in_the_end else "never")
        assert plan.fired["unknown-commits"] == 1

    for seed in range(40):
        play(partial(main, seed))
    assert outcomes == {"written", "later", "never"}


@pytest.mark.parametrize("verb", TAG_WRITES)
def test_a_change_of_tags_that_fails_for_certain_writes_nothing(verb: str) -> None:
    key, write = TAG_WRITES[verb]

    async def main() -> None:
        network, plan, process = make_faulty("failed-commits")
        storage = network.connect_storage(process)
        with pytest.raises(StorageUnavailable):
            await write(storage)
        await asyncio.sleep(60.0)
        assert network.database.tags.count(key) == 0
        await check_healed(network, plan, "failed-commits", lambda: write(storage))

    play(main)


def test_observers_are_told_of_tags_when_they_are_written() -> None:
    log = Log()

    async def main() -> None:
        network, _ = make_network(observers=[log])
        storage = network.connect_storage(FakeProcess())
        for _, write in TAG_WRITES.values():
            await write(storage)
        await storage.tags.claim(CUSTOM_ID, "b", 0, 0.0)

    play(main)
    assert log.lines == [("worker", "tagged ['a']"), ("worker", "a claims: a"), ("worker", "b claims: a")]


def test_a_commit_that_fails_for_certain_writes_nothing() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("failed-commits")
        storage = network.connect_storage(process)
        with pytest.raises(StorageUnavailable):
            await storage.states.commit([CHANGE])
        await asyncio.sleep(60.0)
        assert not network.database.load([KEY])
        await check_healed(network, plan, "failed-commits", lambda: storage.states.commit([CHANGE]))

    play(main)


def test_a_commit_waits_while_others_get_its_inputs_and_is_then_lost() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("conflicts")
        transport, storage = prepare(network, process), network.connect_storage(process)
        other = FakeProcess("other")
        consumer = await transport.subscribe(TOPIC, "main", 10)
        await transport.publish(TOPIC, [letter("a")])
        await consumer.receive(10)
        committing = asyncio.create_task(storage.states.commit([CHANGE]))
        faster = await network.connect_transport(other).subscribe(TOPIC, "main", 10)
        (again,) = await faster.receive(10)
        assert (again.message.id, again.attempt) == ("a", 2)
        assert not committing.done()
        assert not plan.fired
        network.database.commit([Change(KEY, None, 7, b"other", 0.0)])
        assert await committing == [Lost(7)]
        assert plan.fired["conflicts"] == 1

    play(main)


def test_a_conflict_that_nobody_else_enters_is_not_counted() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("conflicts")
        assert await network.connect_storage(process).states.commit([CHANGE]) == [Written(1)]
        assert not plan.fired

    play(main)


@pytest.mark.parametrize("healed", [False, True], ids=["ends by itself", "healed"])
def test_while_the_storage_is_cut_off_calls_fail_and_those_of_a_client_wait(healed: bool) -> None:
    async def main() -> None:
        network, _ = make_network()
        storage, client = network.connect_storage(FakeProcess()), network.connect_client_storage()
        network.cut_storage(60.0)
        errors = set[str]()
        for _ in range(20):
            with pytest.raises((StorageUnavailable, StorageOutcomeUnknown)) as caught:
                await asyncio.gather(*(storage.states.commit([CHANGE]) for _ in range(3)))
            errors.add(type(caught.value).__name__)
            network.cut_storage(60.0)
        assert errors == {"StorageUnavailable", "StorageOutcomeUnknown"}
        assert not network.database.load([KEY])
        if healed:
            network.heal()
        assert (await measure(client.states.load([KEY])) > 30.0) is not healed

    play(main)


def test_a_reply_that_is_on_its_way_when_the_storage_is_cut_off_is_lost() -> None:
    class Cutter(Observer):
        network: Network

        def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
            self.network.cut_storage(5.0)

    async def main() -> None:
        cutter = Cutter()
        cutter.network, _ = make_network(observers=[cutter])
        storage = cutter.network.connect_storage(FakeProcess())
        with pytest.raises(StorageOutcomeUnknown):
            await storage.states.commit([CHANGE])
        assert cutter.network.database.load([KEY])

    play(main)


def test_small_limits_hold_for_the_whole_run() -> None:
    async def main() -> None:
        network, plan, process = make_faulty("small-limits")
        transport, storage = prepare(network, process), network.connect_storage(process)
        assert transport.capabilities.max_payload == 1024 * 1024
        assert storage.capabilities.max_value == 2 * 1024 * 1024
        assert plan.fired["small-limits"] == 1
        with pytest.raises(MessageTooLarge):
            await transport.publish(TOPIC, [Message("a", "k", bytes(1024 * 1024 + 1))])
        with pytest.raises(ValueTooLarge):
            await storage.states.commit([Change(KEY, None, 1, bytes(2 * 1024 * 1024 + 1), 0.0)])

    play(main)
