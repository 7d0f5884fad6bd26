"""What `prepare` says of the server, and how it is found."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace
from pydantic import SecretStr

from infinitic.diagnosis import Level
from infinitic.storage import (
    Change,
    Entry,
    Flag,
    Found,
    Query,
    Segment,
    StateKey,
    StorageClosed,
    StorageConfigurationError,
    StorageUnavailable,
    TagChange,
    TagKey,
    TagKind,
    WorkflowStatus,
    Written,
)
from infinitic_storages.redis import RedisSettings, RedisStorage
from tests.integration.redis.conftest import HOST, PATIENCE, MakeServer, at, client, prepared
from tests.required import absent

KEY = StateKey("Trip", "1")


def start(key: StateKey, version: int = 1) -> Change:
    return Change(key, None, version, b"head", 0.0, Segment(1, b"events"))


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_wrong_password_is_not_tried_again(make_server: MakeServer, password: str | None) -> None:
    server = make_server("--requirepass", "right")
    secret = None if password is None else SecretStr(password)
    with pytest.raises(StorageConfigurationError, match=rf"{server.port} refuses the credentials .*check `username`"):
        asyncio.run(prepared(at(server, password=secret)))
    url = SecretStr(f"redis://:right@{HOST}:{server.port}/0")
    assert asyncio.run(prepared(RedisSettings(url=url))) is False


def test_a_user_without_permission_is_told(make_server: MakeServer) -> None:
    server = make_server()
    with client(server.port) as own:
        own.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+info", "+config|get")
    with pytest.raises(StorageConfigurationError, match="does not permit a command"):
        asyncio.run(prepared(at(server, username="app", password=SecretStr("pw"))))
    with client(server.port) as own:
        own.execute_command("ACL", "SETUSER", "app", "+@all", "-@dangerous", "+info")
    assert asyncio.run(prepared(at(server, username="app", password=SecretStr("pw")))) is False


def test_a_database_that_does_not_exist(make_server: MakeServer) -> None:
    with pytest.raises(StorageConfigurationError, match="does not have this database"):
        asyncio.run(prepared(at(make_server(), database=99)))


def test_a_cluster_is_refused(make_server: MakeServer) -> None:
    with socket.socket() as free:  # by default 10000 above the other, which may be no port at all
        free.bind((HOST, 0))
        bus: int = free.getsockname()[1]
    server = make_server("--cluster-enabled", "yes", "--cluster-port", str(bus))
    with pytest.raises(StorageConfigurationError, match="is a Redis Cluster, which is not supported"):
        asyncio.run(prepared(at(server)))


def test_a_newer_schema_and_a_foreign_key_are_refused(settings: RedisSettings) -> None:
    asyncio.run(prepared(settings))
    for found, text in (("4", "of a newer release; this release knows 3"), ("?", "was not written by Infinitic")):
        with client(settings.port) as own:
            own.set(f"{settings.key_prefix}|schema", found)
        with pytest.raises(StorageConfigurationError, match=text):
            asyncio.run(prepared(settings))


def test_what_the_previous_layout_holds_is_read(settings: RedisSettings) -> None:
    key, entry = StateKey("Trip", "old"), Entry(WorkflowStatus.RUNNING, 5.0)
    tag = TagKey(TagKind.WORKFLOW, "Trip", "vip")

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
            await storage.prepare()
            await storage.states.commit([Change(key, None, 7, b"head", 5.0, Segment(1, b"e"), entry=entry)])
            with client(settings.port) as own:
                own.set(f"{settings.key_prefix}|schema", "1")
            told = {each.subject: each.level for each in await storage.diagnose()}
            assert told["schema"] is Level.WARNING
            async with RedisStorage(settings) as first, RedisStorage(settings) as second:
                await asyncio.gather(first.prepare(), second.prepare())
                assert (await first.states.find(Query())).found == [Found(key, entry)]
                stalled = replace(entry, flag=Flag.STALLED)
                assert await second.states.commit([Change(key, 7, 8, b"", 6.0, entry=stalled)]) == [Written(8)]
                assert await first.states.count(Query(flag=Flag.STALLED)) == 1
                await first.tags.update([TagChange(tag, "a", True, 0, 5.0)])
                assert await second.tags.members(tag) == ["a"]
            with client(settings.port) as own:
                assert own.get(f"{settings.key_prefix}|schema") == b"3"

    asyncio.run(play())


def test_what_may_lose_data_is_logged(make_server: MakeServer, caplog: pytest.LogCaptureFixture) -> None:
    risky = make_server("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(prepared(at(risky))) is False
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "keeps nothing on disk" in caplog.text
    assert "`maxmemory-policy allkeys-lru`" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(prepared(at(make_server("--appendonly", "yes", "--appendfsync", "always")))) is True
    assert not caplog.records


def test_the_master_is_found_by_sentinel(make_server: MakeServer) -> None:
    server = make_server()
    sentinel = make_server(f"sentinel monitor main {HOST} {server.port} 1", sentinel=True)
    settings = RedisSettings.model_validate(
        {"sentinel": {"master": "main", "hosts": [{"host": HOST, "port": sentinel.port}]}}
    )

    async def play() -> None:
        async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
            await storage.prepare()
            assert await storage.states.commit([start(KEY)]) == [Written(1)]
            assert KEY in await storage.states.load([KEY])

    asyncio.run(play())
    wrong = RedisSettings.model_validate(
        {"sentinel": {"master": "other", "hosts": [{"host": HOST, "port": sentinel.port}]}}
    )
    with pytest.raises(StorageUnavailable, match="master 'other' of the Sentinels"):
        asyncio.run(prepared(wrong))


def test_an_unreachable_port_and_a_closed_storage() -> None:
    async def play() -> None:
        storage = RedisStorage(RedisSettings(host=HOST, port=1))
        with pytest.raises(StorageUnavailable, match=f"Redis at {HOST}:1 cannot be reached"):
            await storage.prepare()
        await storage.close()
        await storage.close()
        for verb in (
            storage.prepare(),
            storage.states.load([]),
            storage.states.commit([]),
            storage.states.history(KEY),
        ):
            with pytest.raises(StorageClosed):
                await verb

    asyncio.run(play())


def test_MIG_1_ten_prepare_at_once(settings: RedisSettings) -> None:
    async def play() -> None:
        await asyncio.gather(*(prepared(settings) for _ in range(10)))

    asyncio.run(play())


def test_tls_and_a_certificate_that_is_not_trusted(make_server: MakeServer, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        absent("There is no openssl to make a certificate with")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    files = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no"]
    make_server("--tls-port", str(port), *files)
    trusted = RedisSettings.model_validate({"url": f"rediss://localhost:{port}", "tls": {"ca": cert}})
    assert asyncio.run(prepared(trusted)) is False
    unknown = RedisSettings.model_validate({"url": f"rediss://localhost:{port}"})
    other_host = RedisSettings.model_validate({"host": HOST, "port": port, "tls": {"ca": cert}})
    for settings in (unknown, other_host):
        with pytest.raises(StorageConfigurationError, match=r"certificate that is not trusted .*check `tls`"):
            asyncio.run(prepared(settings))
