"""Where a campaign takes place: a broker, a database, and the configurations of all programs."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import redis
import yaml
from sqlalchemy import func, select

from chaos.disks import SmallDisk
from chaos.guard import PREFIX
from chaos.processes import ROOT, Program
from chaos.servers import HOST, PrivateDatabase, PrivatePulsar, PrivateServer
from chaos.shapes import NAMES
from chaos.workflows import ATTEMPTS_FOLDER, Chores
from infinitic.plugins import load_storage_plugin, load_transport_plugin
from infinitic.storage import Storage
from infinitic.storage.integrity import ensure_checked
from infinitic.transport import Transport
from infinitic_storages.sql.storage import SqlStorage

DATABASES = ("postgres", "mysql", "redis", "sqlite")
NAMESPACE = "chaos"
GRACE = 10.0
"""Seconds that running tasks may take when a worker stops."""

DISK_BYTES = 3 * 1024 * 1024 * 1024
_BROKER_SETTINGS = """\
# A paused worker is missed after 10 seconds, and not after a minute.
keepAliveIntervalSeconds=5
# A full disk is noticed within 2 seconds, and before it is quite full.
diskUsageThreshold=0.9
diskUsageWarnThreshold=0.9
diskUsageLwmThreshold=0.9
diskCheckInterval=2000
"""
FILLED = {"broker": 0.97, "database": 1.0}
"""How full a disk becomes.

BookKeeper stops to write before its disk is full. If the last byte is taken at once, a lone bookie
loses messages that it has accepted.
"""

_DAY = 86_400.0
_DEDUPLICATION_WINDOW = 14 * _DAY
_LOGIN = {"host": HOST, "username": "infinitic", "password": "infinitic", "database": "infinitic"}

ROLES = ("fused", "engine", "executor", "service")


class Stage:
    """A private broker and a private database, and the folder of the campaign.

    Attributes:
        database: "postgres", "mysql", "redis" or "sqlite".
        folder: all files of the campaign.
        logs: the folder of the logs.
        attempts: the folder of the notes on attempts.
        broker: the Pulsar.
        server: the server of the database; None for SQLite.
        disks: those of "broker" and "database".

    Args:
        database: which one.
        folder: an empty folder.

    Raises:
        ServerMissing: a server is not installed.
    """

    def __init__(self, database: str, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.logs = folder / "logs"
        self.attempts = folder / "attempts"
        for each in (self.logs, self.attempts):
            each.mkdir()
        self.disks = {name: SmallDisk(folder / name, DISK_BYTES) for name in ("broker", "database")}
        settings = folder / "pulsar.conf"
        settings.write_text(_BROKER_SETTINGS, encoding="utf-8")
        self.broker = PrivatePulsar(folder / "broker", PULSAR_EXTRA_CONF=str(settings), START_TIMEOUT="300")
        self.server = None if database == "sqlite" else PrivateDatabase(database, folder / "database")

    @property
    def servers(self) -> tuple[PrivateServer, ...]:
        """Broker and database."""
        return (self.broker,) if self.server is None else (self.broker, self.server)

    async def start(self) -> None:
        """Start the servers, and wait until they answer."""
        await asyncio.gather(*(asyncio.to_thread(each.do, "start") for each in self.servers))

    def freeze_database(self) -> AbstractContextManager[None]:
        """Make the database stand still. A file is locked: nobody can read or write it."""
        return self._lock_file() if self.server is None else self.server.frozen()

    def transport(self) -> Transport:
        """Make a connection to the broker."""
        plugin = load_transport_plugin("pulsar")
        settings = plugin.Settings.model_validate(self._transport_settings())
        return plugin.from_settings(settings, deduplication_window=_DEDUPLICATION_WINDOW)

    def plain_storage(self) -> Storage:
        """Make a connection to the database, as its adapter makes it."""
        plugin = load_storage_plugin(self.database)
        settings = plugin.Settings.model_validate(self._storage_settings())
        return plugin.from_settings(settings, deduplication_window=_DEDUPLICATION_WINDOW)

    def storage(self) -> Storage:
        """Make a connection to the database that compares checksums, as workers do."""
        return ensure_checked(self.plain_storage())

    def write_configuration(self, name: str, **roles: object) -> Path:
        """Write a configuration file.

        Args:
            name: the name of the worker or client.
            roles: the sections `services` and `workflows`.
        """
        document = {
            "name": name,
            "transport": {"pulsar": self._transport_settings(), "shutdown_grace_period_seconds": GRACE},
            "storage": {self.database: self._storage_settings()},
            **roles,
        }
        path = self.folder / f"{name}.yml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path

    def make_worker(self, role: str, number: int) -> Program:
        """Make a worker, which is not started yet.

        Args:
            role: out of `ROLES`.
            number: makes its name unique.
        """
        name = f"{role}-{number}"
        path = self.write_configuration(name, **_ROLES[role]())
        arguments = ["-m", "infinitic", "worker", "--config", str(path), "--log-level", "warning"]
        return Program(name, arguments, self.logs, self._environ)

    def make_client(self, number: int, arguments: tuple[object, ...]) -> Program:
        """Make a client, which is not started yet.

        Args:
            number: makes its name unique.
            arguments: see `chaos.client`, from FIRST on.
        """
        name = f"client-{number}"
        path = self.write_configuration(name)
        command = ["-m", "chaos.client", path, self.journal_of(number), *arguments]
        return Program(name, [str(each) for each in command], self.logs, self._environ, once=True)

    def journal_of(self, number: int) -> Path:
        """The journal of a client."""
        return self.folder / f"journal-{number}.jsonl"

    def count_rows(self) -> dict[str, int]:
        """Count the rows of each table, or all keys of Redis, without the number of the schema."""
        storage = self.plain_storage()
        if isinstance(storage, SqlStorage):
            tables = storage.database.tables
            with storage.database.engine.connect() as connection:
                counted = {
                    table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                    for table in tables.metadata.sorted_tables
                    if table is not tables.meta
                }
            storage.database.dispose()
            return counted
        assert self.server is not None
        server: Any = redis.Redis(HOST, self.server.port)  # its types are partly missing
        with server:
            keys = set(server.scan_iter(match="chaos|*", count=1000)) - {b"chaos|schema"}
            return {"redis": len(keys)}

    @property
    def _environ(self) -> Mapping[str, str]:
        # Programs import what this process imports.
        return {
            ATTEMPTS_FOLDER: str(self.attempts),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        }

    def _transport_settings(self) -> dict[str, object]:
        return {
            "broker_service_url": self.broker.broker,
            "web_service_url": self.broker.web,
            "tenant": "infinitic",
            "namespace": NAMESPACE,
        }

    def _storage_settings(self) -> dict[str, Any]:
        if self.server is None:
            return {"path": str(self.folder / "database" / "chaos.db")}
        port = {"port": self.server.port}
        match self.database:
            case "redis":
                return {"host": HOST, "key_prefix": "chaos", **port}
            case "postgres":
                return {**_LOGIN, "schema": "chaos", **port}
            case _:
                return {**_LOGIN, **port}

    @contextmanager
    def _lock_file(self) -> Generator[None]:
        connection = sqlite3.connect(self.folder / "database" / "chaos.db", timeout=10.0, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            yield
        finally:
            connection.close()


@contextmanager
def open_stage(database: str, keep_logs: Path | None = None) -> Generator[Stage]:
    """Make a stage, and remove all of it in the end, also if this process is killed.

    Args:
        database: which one.
        keep_logs: a folder that gets a copy of all logs and journals in the end.

    Raises:
        ServerMissing: a server is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    # Servers run as users of their own.
    folder.chmod(0o755)
    command = [sys.executable, "-m", "chaos.guard", str(folder)]
    # In a session of its own it gets no signal that is for the campaign.
    guard = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield Stage(database, folder)
    finally:
        if keep_logs is not None:
            _copy_logs(folder, keep_logs)
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


def _copy_logs(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    files = [*folder.glob("logs/*.log"), *folder.glob("*.jsonl"), *folder.glob("*.yml")]
    files += [*folder.glob("broker/*/log*"), *folder.glob("database/*/log*")]
    for path in files:
        name = "-".join(path.relative_to(folder).parts)
        shutil.copyfile(path, target / name)


def _list_services() -> list[dict[str, object]]:
    path = f"{Chores.__module__}.{Chores.__qualname__}"
    return [{"name": "Chores", "executor": {"class": path, "concurrency": 100}}]


def _list_workflows(*parts: str) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            **({part: {"class": f"{each.__module__}.{name}"} if part == "executor" else {} for part in parts}),
        }
        for name, each in NAMES.items()
    ]


_ROLES: Mapping[str, Callable[[], Mapping[str, object]]] = {
    "fused": lambda: {"services": _list_services(), "workflows": _list_workflows("executor", "state_engine")},
    "engine": lambda: {"workflows": _list_workflows("state_engine")},
    "executor": lambda: {"workflows": _list_workflows("executor")},
    "service": lambda: {"services": _list_services()},
}
