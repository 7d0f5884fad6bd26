"""The SQLite transport keeps the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from infinitic.topics import Topic
from infinitic.transport import Transport
from infinitic_testing.conformance.transport import TransportConformance
from infinitic_transports.sqlite import SqliteTransport, SqliteTransportSettings
from infinitic_transports.sqlite.settings import Waiting
from tests.thorough import IS_THOROUGH

T = TypeVar("T")


class OnSqlite(TransportConformance):
    waiting: ClassVar[Waiting]
    path: Path
    silence = 0.15
    delay = 0.2

    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "broker.db"

    def connect(self) -> Transport:
        return SqliteTransport(SqliteTransportSettings(path=self.path, synchronous=self.waiting))

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(60):
                return await main

        return asyncio.run(bounded())

    async def crash(self, transport: Transport) -> None:
        assert isinstance(transport, SqliteTransport)
        await transport.crash()

    async def remove(self, topic: Topic) -> None:
        async with SqliteTransport(SqliteTransportSettings(path=self.path)) as transport:
            await transport.remove(topic)


class TestSqlite(OnSqlite):
    waiting = Waiting.NORMAL


SLOW = () if IS_THOROUGH else ("test_red_6_poison_that_kills_its_process_ends",)
"""It takes 40 seconds: the runtime waits before it takes a process for dead."""

for _name in SLOW:
    setattr(TestSqlite, _name, None)
