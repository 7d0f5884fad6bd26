"""A server that is gone, killed, hung, full or demoted: what is said is true, and it passes."""

from __future__ import annotations

import asyncio

import pytest

from infinitic.storage import (
    Change,
    Lost,
    Segment,
    StateKey,
    StorageOutcomeUnknown,
    StorageUnavailable,
    Written,
)
from infinitic_storages.redis import RedisStorage
from tests.integration.redis.conftest import HOST, PATIENCE, MakeServer, at, client

KEY = StateKey("Trip", "1")


def start(key: StateKey, version: int = 1) -> Change:
    return Change(key, None, version, b"head", 0.0, Segment(1, b"events"))


def test_OUT_1_an_outage_is_said_and_passes(make_server: MakeServer) -> None:
    server = make_server("--appendonly", "yes", "--appendfsync", "always")

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(at(server)) as storage:
            states = storage.states
            await storage.prepare()
            assert await states.commit([start(KEY)]) == [Written(1)]
            server.kill()
            for verb in (states.load([KEY]), states.history(KEY), states.purge(0.0), storage.prepare()):
                with pytest.raises(StorageUnavailable, match=f"{HOST}:{server.port} cannot be reached"):
                    await verb
            with pytest.raises(StorageUnavailable):  # nothing can have been sent
                await states.commit([start(KEY)])
            await asyncio.to_thread(server.start)
            assert await states.commit([start(KEY)]) == [Lost(1)]

    asyncio.run(play())


def test_STO_7_a_kill_during_commits_makes_no_outcome_false(make_server: MakeServer) -> None:
    server = make_server("--appendonly", "yes", "--appendfsync", "always")

    async def play() -> None:
        written: set[StateKey] = set()
        unknown: set[StateKey] = set()
        refused: set[StateKey] = set()
        enough = asyncio.Event()

        async def write(storage: RedisStorage, lane: int) -> None:
            for turn in range(100_000):
                keys = [StateKey(f"Trip{lane}", f"{turn}-{each}") for each in range(20)]
                try:
                    outcomes = await storage.states.commit([start(key) for key in keys])
                except StorageOutcomeUnknown:
                    unknown.update(keys)
                    return
                except StorageUnavailable:
                    refused.update(keys)
                    return
                assert outcomes == [Written(1)] * 20
                written.update(keys)
                if len(written) > 1000:
                    enough.set()

        async with asyncio.timeout(PATIENCE), RedisStorage(at(server)) as storage:
            lanes = [asyncio.create_task(write(storage, lane)) for lane in range(4)]
            await enough.wait()
            server.kill()
            await asyncio.gather(*lanes)
            assert unknown
            await asyncio.to_thread(server.start)
            assert set(await storage.states.load(sorted(written, key=str))) == written
            assert not await storage.states.load(sorted(refused, key=str))
            present = await storage.states.load(sorted(unknown, key=str))
            for key in unknown:
                history = await storage.states.history(key)
                assert history == ([Segment(1, b"events")] if key in present else [])

    asyncio.run(play())


def test_a_hung_server_is_left_at_the_deadline_and_leaks_no_connection(make_server: MakeServer) -> None:
    server = make_server()

    async def play() -> None:
        settings = at(server, pool_size=2, deadline_seconds=0.3)
        async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
            states = storage.states
            await storage.prepare()
            with client(server.port) as own:
                own.execute_command("CLIENT", "PAUSE", "100000", "WRITE")
                results = await asyncio.gather(
                    *(states.commit([start(StateKey("Trip", str(each)))]) for each in range(5)), return_exceptions=True
                )
                # Two were sent. The others got no connection in time, or one that came too late.
                assert {type(each) for each in results} <= {StorageOutcomeUnknown, StorageUnavailable}
                assert sum(isinstance(each, StorageOutcomeUnknown) for each in results) >= 2
                tasks = [asyncio.create_task(states.commit([start(KEY)])) for _ in range(4)]
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                assert all(
                    isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*tasks, return_exceptions=True)
                )
                own.execute_command("CLIENT", "UNPAUSE")
                assert await states.commit([start(StateKey("Trip", "last"))]) == [Written(1)]
                await asyncio.gather(*(states.load([KEY]) for _ in range(20)))
                assert len(own.client_list()) <= 1 + 2

    asyncio.run(play())


def test_scripts_that_the_server_lost_are_loaded_again(make_server: MakeServer) -> None:
    server = make_server()

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(at(server)) as storage:
            for turn in range(3):
                with client(server.port) as own:
                    own.script_flush()
                keys = [StateKey("Trip", f"{turn}-{each}") for each in range(3)]
                assert await storage.states.commit([start(key) for key in keys]) == [Written(1)] * 3
                assert len(await storage.states.load(keys)) == 3

    asyncio.run(play())


def test_a_full_server_and_a_replica_are_unavailable(make_server: MakeServer) -> None:
    server = make_server()

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(at(server)) as storage:
            await storage.prepare()
            with client(server.port) as own:
                own.config_set("maxmemory", "1")
                with pytest.raises(StorageUnavailable, match="used memory > 'maxmemory'"):
                    await storage.states.commit([start(KEY)])
                own.config_set("maxmemory", "0")
                own.replicaof(HOST, "1")
                with pytest.raises(StorageUnavailable, match="read only replica"):
                    await storage.states.commit([start(KEY)])
                with pytest.raises(StorageUnavailable, match="is a replica: connect to the master"):
                    await storage.prepare()
                own.replicaof("NO", "ONE")
            assert await storage.states.load([KEY]) == {}
            assert await storage.states.commit([start(KEY)]) == [Written(1)]

    asyncio.run(play())
