"""The rules of the storage contract that kill the server: it is a private one of each kind."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from infinitic.storage import Storage
from infinitic_testing.conformance import StorageBackend, StorageConformance
from infinitic_testing.conformance.storage import list_storage_rules
from tests.integration.private import private_database, storage_of

CRASHES = {
    "test_sto_5_what_is_written_outlives_the_server",
    "test_sto_5_tags_outlive_their_connection_and_the_server",
    "test_tag_2_what_a_claim_was_told_stays_true_when_the_server_crashes",
    "test_out_1_an_outage_is_said_and_ends",
}


class Killed(StorageBackend):
    """A server for one test."""

    can_crash = True

    def __init__(self, kind: str, arguments: str) -> None:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            # Servers run as users of their own.
            folder.chmod(0o755)
            self._kind = kind
            self._server = private_database(kind, folder, arguments)
            stack.callback(self._server.end)
            self._server.do("start")
            self._stack = stack.pop_all()

    def connect(self) -> Storage:
        return storage_of(self._kind, self._server)

    async def crash(self) -> None:
        await asyncio.to_thread(self._server.do, "kill")

    async def restart(self) -> None:
        await asyncio.to_thread(self._server.do, "start")

    async def dispose(self) -> None:
        await asyncio.to_thread(self._stack.close)


class Crashing(StorageConformance):
    kind: ClassVar[str]
    arguments: ClassVar[str] = ""

    def backend(self) -> StorageBackend:
        return Killed(self.kind, self.arguments)


for _name in {name for names in list_storage_rules().values() for name in names} - CRASHES:
    setattr(Crashing, _name, None)


class TestPostgresCrashes(Crashing):
    kind = "postgres"


class TestMysqlCrashes(Crashing):
    kind = "mysql"


class TestRedisCrashes(Crashing):
    kind = "redis"
    arguments = "--appendfsync always"
