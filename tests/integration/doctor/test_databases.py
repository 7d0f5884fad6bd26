"""What the storages say of their servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infinitic.diagnosis import Diagnosable, Diagnosis, Level, skew
from infinitic.storage import Storage
from infinitic_storages.redis import RedisSettings, RedisStorage
from tests.integration.private import private_database, storage_of
from tests.integration.redis.conftest import HOST, Server
from tests.integration.storages.databases import KINDS, Place

Found = dict[str, tuple[Level, str, str]]


def found(storage: Storage, *, prepared: bool = True) -> Found:
    async def run() -> Found:
        async with asyncio.timeout(60), storage:
            if prepared:
                await storage.prepare()
            assert isinstance(storage, Diagnosable)
            return {each.subject: (each.level, each.message, each.remedy) for each in await storage.diagnose()}

    return asyncio.run(run())


@pytest.mark.parametrize("at", KINDS, indirect=True)
def test_the_servers_of_the_tests_are_well(at: Place) -> None:
    level, _, remedy = found(at.storage(), prepared=False)["schema"]
    assert (level, "first worker" in remedy) == (Level.WARNING, True)
    checks = found(at.storage())
    assert [each for each in checks.values() if each[0] is Level.FAILURE] == []
    assert checks["schema"][::2] == (Level.OK, "")
    assert checks["schema"][1].startswith("version ")
    assert any(subject.endswith("version") for subject in checks)
    assert any(subject.endswith("clock") for subject in checks) == (at.kind != "sqlite")
    assert "durability" in checks


def test_nothing_is_made(at: Place) -> None:
    found(at.storage(), prepared=False)
    assert "no tables" in found(at.storage(), prepared=False)["schema"][1]


@pytest.mark.parametrize("at", ["sqlite"], indirect=True)
def test_a_file_that_does_not_wait_for_the_disk(at: Place) -> None:
    assert found(at.sql())["durability"][0] is Level.OK
    assert found(at.sql(synchronous="normal"))["durability"][0] is Level.WARNING


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Callable[..., RedisStorage]]:
    servers: list[Server] = []

    def make(*arguments: str) -> RedisStorage:
        servers.append(Server(tmp_path, *arguments))
        return RedisStorage(RedisSettings(host=HOST, port=servers[-1].port, key_prefix="test"))

    yield make
    for each in servers:
        each.kill()


def test_a_redis_that_forgets(redis: Callable[..., RedisStorage]) -> None:
    checks = found(redis("--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru"), prepared=False)
    assert checks["durability"][:2] == (
        Level.WARNING,
        "nothing is kept on disk: workflows are lost when it stops",
    )
    messages = found_all(redis("--maxmemory", "1100kb", "--maxmemory-policy", "allkeys-lru"))
    assert any("may be evicted" in each.message and each.level is Level.FAILURE for each in messages)
    assert any("MiB are used" in each.message and each.level is Level.WARNING for each in messages)


def found_all(storage: RedisStorage) -> list[Diagnosis]:
    async def run() -> list[Diagnosis]:
        async with storage:
            return await storage.diagnose()

    return asyncio.run(run())


def test_a_redis_that_waits_for_the_disk(redis: Callable[..., RedisStorage]) -> None:
    assert found(redis("--appendonly", "yes", "--appendfsync", "always"))["durability"][0] is Level.OK


@pytest.fixture
def careless(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A storage on a private server that is told to be quicker than it should."""
    kind, arguments = request.param
    server = private_database(kind, tmp_path, arguments)
    try:
        server.do("start")
        yield storage_of(kind, server)
    finally:
        server.end()


@pytest.mark.parametrize(
    ("careless", "says"),
    [
        (("postgres", "-c fsync=off"), {"durability": "fsync is off"}),
        (
            ("mysql", "--innodb-flush-log-at-trx-commit=2 --max-allowed-packet=2097152"),
            {"durability": "innodb_flush_log_at_trx_commit is 2", "max_allowed_packet": "2,097,152 bytes"},
        ),
    ],
    indirect=["careless"],
)
def test_a_careless_server(careless: Storage, says: dict[str, str]) -> None:
    checks = found(careless, prepared=False)
    for subject, text in says.items():
        level, message, remedy = checks[subject]
        assert (level, bool(remedy)) == (Level.WARNING, True)
        assert message.startswith(text)


def test_clocks() -> None:
    def of(seconds: float) -> Diagnosis:
        return skew("clock", seconds)

    assert of(0.1).level is Level.OK
    late = ": timers and retries come late or early by as much"
    assert (of(-2.5).level, of(-2.5).message) == (Level.WARNING, f"is 2.5 s behind that of this machine{late}")
    assert of(-30).message == f"is 30 s behind that of this machine{late}"
    assert of(61).message == f"is 61 s ahead of that of this machine{late}"
    assert (of(-90).level, of(-90).ahead) == (Level.FAILURE, -90)
    assert "NTP" in of(-90).remedy
