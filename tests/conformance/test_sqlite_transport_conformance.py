"""The SQLite transport keeps the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from infinitic.topics import Topic
from infinitic.transport import Transport
from infinitic_testing.conformance.transport import TransportConformance, list_transport_rules
from infinitic_transports.sqlite import SqliteTransport, SqliteTransportSettings
from infinitic_transports.sqlite.settings import Waiting
from tests.thorough import IS_THOROUGH

T = TypeVar("T")


class OnSqlite(TransportConformance):
    waiting: ClassVar[Waiting]
    path: Path
    embedded = True
    silence = 0.15
    delay = 0.2
    slow = IS_THOROUGH

    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "broker.db"

    def make_connector(self) -> Callable[[], Transport]:
        settings = SqliteTransportSettings(path=self.path, synchronous=self.waiting)
        return partial(SqliteTransport, settings, ttl=self.deduplication_window or 14 * 86_400.0)

    def connect(self) -> Transport:
        return self.make_connector()()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(120):
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


class TestWindow(OnSqlite):
    """What nobody acknowledges is kept for the deduplication window. It is short here."""

    waiting = Waiting.NORMAL
    deduplication_window = 1.0


for _name in {name for names in list_transport_rules().values() for name in names if "_per_9_" not in name}:
    setattr(TestWindow, _name, None)
