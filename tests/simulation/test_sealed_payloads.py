"""Encrypted payloads, and large ones that are kept outside, while everything fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from infinitic import (
    Channel,
    Client,
    PayloadTooLargeError,
    PayloadUnavailable,
    Worker,
    Workflow,
    query,
    workflow,
)
from infinitic.codecs.aes_gcm import AesGcm
from infinitic.codecs.claim_check import ClaimCheck
from infinitic.codecs.store import MemoryStore
from infinitic.storage import Query
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.invariants.logs import LogWatch
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.sealed import KEYS, FlakyStore, make_chain

SECRET = "a very secret word"


class Desk:
    async def double(self, text: str) -> str:
        return text + text

    async def count(self, text: str) -> int:
        return len(text)


@workflow(replay_check="strict")
class Letter(Workflow):
    """Values of all kinds: arguments, results, signals, inline values, a query."""

    desk = Workflow.new_service(Desk)
    words = Channel[str]()
    text = ""

    async def write(self, text: str) -> str:
        self.text = await self.desk.double(text)
        drawn = self.inline(str.upper, self.text)
        said = await self.words.receive()
        both = await asyncio.gather(self.desk.double(drawn), self.desk.double(said))
        return "".join(both)

    @query
    def read(self) -> str:
        return self.text


class Envelope(Workflow):
    letters = Workflow.new_workflow(Letter)

    async def send(self, text: str) -> str:
        return await self.letters.write(text)


async def keep_trying(call: Callable[[], Any]) -> Any:
    """A client tells its caller that the store is away."""
    while True:
        try:
            return await call()
        except PayloadUnavailable:
            await asyncio.sleep(1)


async def play(sim: Simulation) -> None:
    sim.add_service(Desk())
    sim.add_workflow(Letter)
    letter = sim.client.new_workflow(Letter)
    handles = [await keep_trying(lambda: sim.client.dispatch(letter.write, SECRET * 10)) for _ in range(3)]
    for handle in handles:
        words = sim.client.get_workflow_by_id(Letter, handle.workflow_id).words
        await keep_trying(partial(words.send, SECRET * 9))
    for handle in handles:
        expected = (SECRET * 20).upper() * 2 + SECRET * 18
        assert await keep_trying(handle.result) == expected
        running = sim.client.get_workflow_by_id(Letter, handle.workflow_id)
        assert await keep_trying(partial(sim.client.query, running.read)) == SECRET * 20


@pytest.mark.infinitic(seeds=25, codec=make_chain(FlakyStore(puts=5)))
async def test_sealed_payloads_survive_faults_and_outages_of_their_store(sim: Simulation) -> None:
    await play(sim)


@pytest.mark.parametrize("cache_size", [1000, 0])
def test_nothing_readable_is_kept_and_replay_writes_nothing(cache_size: int) -> None:
    """Encryption never gives the same twice: a replay that encoded would leave objects behind."""
    store = FlakyStore(puts=0, gets=41)

    async def main() -> bytes:
        async with Simulation(codec=make_chain(store), cache_size=cache_size) as sim:
            await play(sim)
            store.gets = 0
            found = (await sim.storage.states.find(Query())).found
            states = await sim.storage.states.load([each.key for each in found])
            return b"".join(repr(each).encode() for each in states.values())

    kept = run(main())
    assert b"secret" not in kept.lower()
    assert store.failures > 0
    # Each letter: its start, a signal, three calls with their results, an inline value, its result,
    # and a query.
    assert len(store.inner.objects) == 3 * LARGE_PAYLOADS


LARGE_PAYLOADS = 11


def test_the_nonces_of_the_system_are_allowed_in_workflow_code() -> None:
    """The random bytes are not seen by the code, so replay need not repeat them."""

    async def main() -> None:
        async with Simulation(codec=AesGcm(KEYS, "new")) as sim:
            await play(sim)

    run(main())


def test_a_worker_without_the_key_stalls_and_says_which_one() -> None:
    async def main() -> None:
        async with Simulation(codec=AesGcm({"old": KEYS["old"]})) as sim:
            sim.add_workflow(Letter)
            other = Client(sim.transport, name="other", clock=sim.client.clock, codec=AesGcm(KEYS, "new"))
            async with other:
                await other.new_workflow(Letter).write("hi")

    with pytest.raises(Exception, match="its key 'new' is not among the keys 'old'"):
        run(main())


def test_fifty_megabytes_go_through_a_broker_that_takes_five() -> None:
    store = MemoryStore()
    text = "x" * 50_000_000

    class Count(Workflow):
        desk = Workflow.new_service(Desk)

        async def run(self, text: str) -> int:
            return await self.desk.count(text)

        async def double(self, text: str) -> str:
            return await self.desk.double(text)

    async def main() -> None:
        async with InMemoryTransport(max_payload=5_000_000) as transport, InMemoryStorage() as storage:
            codec = ClaimCheck(store)
            worker = Worker(transport, storage, codec=codec, cache_size=0)
            worker.add_service(Desk())
            worker.add_workflow(Count)
            async with worker.running(), Client(transport, codec=codec) as client:
                assert await client.new_workflow(Count).run(text) == 50_000_000
                assert len(await client.new_workflow(Count).double(text)) == 100_000_000
            async with Client(transport) as bare:
                with pytest.raises(PayloadTooLargeError):
                    await bare.new_workflow(Count).run(text)

    asyncio.run(main())
    assert sorted(len(each) for each in store.objects.values()) == [50_000_004, 100_000_002]


def test_a_full_buffer_while_the_codec_is_away_is_no_violation() -> None:
    """A simulation with small buffers found it: seed 30 of the test above."""
    full = "workflow-engine:Letter: 4 messages (5431 bytes) in hand cannot be handled now; the latest are given back"
    reason = "ClaimCheck cannot encode a payload now (ConnectionError: the store is away)"
    with LogWatch() as log:
        logging.getLogger("infinitic.runtime").error("%s, for later: %s", full, reason)
        assert log.find_unexpected(faults=()) is None
        logging.getLogger("infinitic.runtime").error("%s, for later: %s", full, "something else")
        assert log.find_unexpected(faults=()) is not None
