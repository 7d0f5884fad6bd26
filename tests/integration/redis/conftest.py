"""A new prefix for each test on the shared server, and private servers for rough tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError as Unreachable, ResponseError
from redis.retry import Retry

from infinitic.ids import new_id
from infinitic_storages.redis import RedisSettings, RedisStorage
from tests.required import absent, reach

HOST = "127.0.0.1"
PORT = int(os.environ.get("INFINITIC_REDIS_PORT", "6379"))
PATIENCE = 30.0


def client(port: int, **options: Any) -> Any:
    """A driver of the test's own, which tries once; untyped."""
    return Redis(host=HOST, port=port, retry=Retry(NoBackoff(), 0), **options)


@pytest.fixture
def settings() -> Iterator[RedisSettings]:
    """Settings with a fresh prefix, whose keys are removed afterwards."""
    reach("Redis", f"//{HOST}:{PORT}")
    made = RedisSettings(host=HOST, port=PORT, key_prefix=f"test_{new_id()}")
    yield made
    with client(PORT) as own:
        for key in own.scan_iter(match=f"{made.key_prefix}|*", count=1000):
            own.unlink(key)


class Server:
    """A private Redis server on a free port.

    Or a Sentinel, which gets the lines of its configuration.
    """

    def __init__(self, folder: Path, *arguments: str, sentinel: bool = False) -> None:
        if shutil.which("redis-server") is None:
            absent("There is no redis-server to start")
        with socket.socket() as free:
            free.bind((HOST, 0))
            self.port: int = free.getsockname()[1]
        self.folder = folder / str(self.port)
        self.folder.mkdir()
        self.command = ["redis-server"]
        if sentinel:
            config = self.folder / "redis.conf"
            config.write_text("\n".join(arguments), encoding="utf-8")
            self.command += [str(config), "--sentinel"]
        else:
            self.command += ["--save", "", *arguments]
        self.command += ["--port", str(self.port), "--bind", HOST, "--dir", str(self.folder)]
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it answers, if only that it wants a password."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        for _ in range(1000):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                with client(self.port) as own:
                    own.ping()
            except (AuthenticationError, ResponseError):
                return self.process
            except Unreachable:
                asyncio.run(asyncio.sleep(0.01))
            else:
                return self.process
        raise AssertionError(f"redis-server does not answer at port {self.port}")

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


MakeServer = Callable[..., Server]


def at(server: Server, **fields: Any) -> RedisSettings:
    """Settings for a private server."""
    return RedisSettings(host=HOST, port=server.port, **fields)


async def prepared(settings: RedisSettings) -> bool:
    """Prepare a storage; whether it is durable then."""
    async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
        await storage.prepare()
        return storage.capabilities.durable


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Starts private servers, and ends them."""
    servers: list[Server] = []

    def make(*arguments: str, sentinel: bool = False) -> Server:
        server = Server(tmp_path, *arguments, sentinel=sentinel)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.kill()
