"""What an error reply means: for one change, in a batch, and after a script has written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from infinitic.errors import StorageError
from infinitic.storage import (
    Change,
    Lost,
    Segment,
    StateKey,
    StorageConfigurationError,
    StorageOutcomeUnknown,
    StorageUnavailable,
    Written,
)
from infinitic_storages.redis import RedisSettings, RedisStorage, scripts, tag_scripts
from infinitic_storages.redis.permissions import list_trials
from tests.integration.redis.conftest import HOST, PATIENCE, MakeServer, at, client, prepared

KEY = StateKey("Trip", "1")
OK, LOST = ":0", "*2\r\n:1\r\n$1\r\n7"
LOADING = "-LOADING Redis is loading the dataset in memory"
NOAUTH = "-NOAUTH Authentication required."
MASTERDOWN = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
READONLY = "-READONLY You can't write against a read only replica."
MIDWAY = "-ERR value is not a valid float script: 3c59, on @user_script:41."
MIDWAY_7_2 = "-NOPERM ACL failure in script: User app has no permissions to run the 'hdel' command script: 3c59"
OLD = "-ERR Error running script (call to f_3c59): @user_script:31: @user_script: 31: "  # Redis 6.2


def start(key: StateKey, version: int = 1) -> Change:
    return Change(key, None, version, b"head", 0.0, Segment(1, b"events"), expires_at=5.0)


def batch(size: int) -> list[Change]:
    return [start(StateKey("Trip", str(each))) for each in range(size)]


class Actor:
    """A server that answers scripts with the lines it is given, and anything else with OK."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: list[str] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while line := await reader.readline():
            parts: list[bytes] = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                parts.append((await reader.readexactly(size + 2))[:-2])
            answer = self.answers.pop(0) if parts[0] == b"EVALSHA" else "+OK"
            writer.write(f"{answer}\r\n".encode())
        writer.close()


@asynccontextmanager
async def acting() -> AsyncGenerator[tuple[Actor, RedisStorage]]:
    actor = Actor()
    server = await asyncio.start_server(actor.serve, HOST, 0)
    actor.port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(PATIENCE), RedisStorage(RedisSettings(host=HOST, port=actor.port)) as storage:
            yield actor, storage
    finally:
        server.close()


@pytest.mark.parametrize(
    ("answers", "error", "text"),
    [
        ([OK, LOADING], StorageOutcomeUnknown, "A part of a commit was written"),
        ([OK, NOAUTH], StorageOutcomeUnknown, "A part of a commit was written"),
        ([LOADING, OK], StorageOutcomeUnknown, "A part of a commit was written"),
        ([OK, MASTERDOWN], StorageOutcomeUnknown, "A part of a commit was written"),
        ([OK, READONLY], StorageOutcomeUnknown, "A part of a commit was written"),
        ([LOST, READONLY], StorageUnavailable, "read only replica"),
        ([LOST, LOADING, LOADING], StorageUnavailable, "is loading its data"),
        ([LOADING], StorageUnavailable, "is loading its data"),
        ([NOAUTH], StorageConfigurationError, "refuses the credentials"),
        ([MASTERDOWN], StorageUnavailable, "failing over to another server"),
        (["-CLUSTERDOWN The cluster is down"], StorageUnavailable, "failing over to another server"),
        (["-TRYAGAIN Multiple keys request during rehashing of slot"], StorageUnavailable, "failing over"),
        (["-MOVED 3999 127.0.0.1:6381"], StorageConfigurationError, "is a Redis Cluster"),
        ([MIDWAY], StorageOutcomeUnknown, "failed midway, and may be written in part.*not a valid float"),
        ([MIDWAY_7_2], StorageOutcomeUnknown, "failed midway.*the 'hdel' command"),
        ([LOST, MIDWAY], StorageOutcomeUnknown, "failed midway"),
        ([READONLY, MIDWAY], StorageOutcomeUnknown, "failed midway"),
        ([OLD + "The user executing the script can't run this command"], StorageOutcomeUnknown, "failed midway"),
        (["-NOPERM this user has no permissions to run the 'evalsha' command"], StorageConfigurationError, "evalsha"),
        (["-OOM command not allowed when used memory > 'maxmemory'."], StorageUnavailable, "maxmemory"),
        (["-MISCONF Redis is configured to save RDB snapshots"], StorageUnavailable, "RDB"),
        (["-NOREPLICAS Not enough good replicas to write."], StorageUnavailable, "NOREPLICAS"),
        (["-BUSY Redis is busy running a script."], StorageUnavailable, "BUSY"),
        ([OLD + "-OOM command not allowed when used memory"], StorageUnavailable, "OOM"),
        ([OLD + READONLY], StorageUnavailable, "READONLY"),
    ],
)
def test_what_a_commit_that_was_refused_says(answers: list[str], error: type[StorageError], text: str) -> None:
    async def play() -> None:
        async with acting() as (actor, storage):
            actor.answers = list(answers)
            with pytest.raises(StorageError, match=text) as caught:
                await storage.states.commit(batch(len(answers)))
            assert type(caught.value) is error
            actor.answers = [OK, LOST]  # and no reply is taken for that of another
            assert await storage.states.commit(batch(2)) == [Written(1), Lost(7)]

    asyncio.run(play())


@pytest.mark.parametrize("refusal", [LOADING, NOAUTH, MASTERDOWN, READONLY, "-TRYAGAIN Multiple keys request"])
def test_a_connection_to_a_server_that_is_no_master_is_left(refusal: str) -> None:
    async def play() -> None:
        async with acting() as (actor, storage):
            actor.answers = [refusal, OK]
            with pytest.raises(StorageError):
                await storage.states.commit(batch(1))
            assert await storage.states.commit(batch(1)) == [Written(1)]
            assert actor.connections == 2

    asyncio.run(play())


def test_a_script_that_is_missing_after_a_part_was_written_leaves_the_rest_unknown() -> None:
    async def play() -> None:
        async with acting() as (actor, storage):
            for first, error in ((OK, StorageOutcomeUnknown), (LOST, StorageUnavailable)):
                actor.answers = [first, "-NOSCRIPT No matching script.", LOADING]
                with pytest.raises(StorageError) as caught:
                    await storage.states.commit(batch(2))
                assert type(caught.value) is error

    asyncio.run(play())


def test_a_replica_that_lost_its_master_is_unavailable(make_server: MakeServer) -> None:
    server = make_server("--replica-serve-stale-data", "no")

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(at(server)) as storage:
            await storage.prepare()
            with client(server.port) as own:
                own.replicaof(HOST, "1")
                for verb in (storage.states.load([KEY]), storage.states.commit([start(KEY)])):
                    with pytest.raises(StorageUnavailable, match=r"failing over to another server: Link with MASTER"):
                        await verb
                own.replicaof("NO", "ONE")
            assert await storage.states.commit([start(KEY)]) == [Written(1)]

    asyncio.run(play())


def test_a_demoted_master_that_a_sentinel_named_has_written_nothing(make_server: MakeServer) -> None:
    server = make_server()
    sentinel = make_server(f"sentinel monitor main {HOST} {server.port} 1", sentinel=True)
    named = {"master": "main", "hosts": [{"host": HOST, "port": sentinel.port}]}

    async def play() -> None:
        settings = RedisSettings.model_validate({"sentinel": named})
        async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
            await storage.prepare()
            with client(server.port) as own:
                own.replicaof(HOST, "1")
            with pytest.raises(StorageUnavailable, match="read only replica"):
                await storage.states.commit([start(KEY)])

    asyncio.run(play())


def test_a_command_that_is_taken_away_leaves_a_change_unknown(make_server: MakeServer) -> None:
    server = make_server()
    settings = at(server, username="app", password=SecretStr("pw"))

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
            await storage.prepare()
            assert await storage.states.commit([start(KEY)]) == [Written(1)]
            own.execute_command("ACL", "SETUSER", "app", "-hdel", "-zrevrange", "-hmget")
            with pytest.raises(StorageConfigurationError, match="does not permit a command"):
                await storage.states.history(KEY)
            own.execute_command("ACL", "SETUSER", "app", "+hmget")
            with pytest.raises(StorageOutcomeUnknown, match="may be written in part"):
                await storage.states.commit([Change(KEY, 1, 2, b"head", 0.0)])
            with pytest.raises(StorageConfigurationError, match=r"does not permit HDEL, ZREVRANGE \(.*~infinitic\|\*"):
                await storage.prepare()

    with client(server.port) as own:
        own.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~infinitic|*", "+@all", "-@dangerous", "+info")
        asyncio.run(play())


def test_prepare_tries_every_command_of_the_scripts_and_leaves_nothing(make_server: MakeServer) -> None:
    server = make_server("--rename-command", "UNLINK", "")
    with pytest.raises(StorageConfigurationError, match=r"does not permit UNLINK \(unknown command"):
        asyncio.run(prepared(at(server)))
    with client(server.port) as own:
        assert own.keys() == [b"infinitic|schema"]
    texts = [scripts.COMMIT, scripts.PUBLISHED, scripts.HISTORY, scripts.FIND, scripts.OVERDUE, scripts.PURGE]
    texts += (tag_scripts.UPDATE, tag_scripts.CLAIM, tag_scripts.MEMBERS, tag_scripts.PURGE)
    used = {name for text in texts for name in re.findall(r"call\('(\w+)'", text)}
    assert used == {str(command[0]) for command in list_trials("k")} - {"SCRIPT", "EVALSHA"}
