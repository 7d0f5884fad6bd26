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

ONLY_SQLITE = "only-sqlite"
"""Broker and database in one SQLite file."""
DATABASES = ("postgres", "mysql", "redis", "sqlite", ONLY_SQLITE)
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
        database: out of `DATABASES`.
        folder: all files of the campaign.
        logs: the folder of the logs.
        attempts: the folder of the notes on attempts.
        broker: the Pulsar; None where the broker is in the file of the database.
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
        self.broker: PrivatePulsar | None = None
        if database != ONLY_SQLITE:
            settings = folder / "pulsar.conf"
            settings.write_text(_BROKER_SETTINGS, encoding="utf-8")
            self.broker = PrivatePulsar(folder / "broker", PULSAR_EXTRA_CONF=str(settings), START_TIMEOUT="300")
        is_file = database in ("sqlite", ONLY_SQLITE)
        self.server = None if is_file else PrivateDatabase(database, folder / "database")

    @property
    def servers(self) -> tuple[PrivateServer, ...]:
        """Broker and database."""
        return tuple(each for each in (self.broker, self.server) if each is not None)

    async def start(self) -> None:
        """Start the servers, and wait until they answer."""
        await asyncio.gather(*(asyncio.to_thread(each.do, "start") for each in self.servers))

    def freeze_database(self) -> AbstractContextManager[None]:
        """Make the database stand still. A file is locked: nobody can read or write it."""
        return self._lock_file() if self.server is None else self.server.frozen()

    def transport(self) -> Transport:
        """Make a connection to the broker."""
        ((name, section),) = self._transport_section().items()
        plugin = load_transport_plugin(name)
        settings = plugin.Settings.model_validate(section)
        return plugin.from_settings(settings, deduplication_window=_DEDUPLICATION_WINDOW)

    def plain_storage(self) -> Storage:
        """Make a connection to the database, as its adapter makes it."""
        plugin = load_storage_plugin(self._storage_name)
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
            "transport": {**self._transport_section(), "shutdown_grace_period_seconds": GRACE},
            "storage": {self._storage_name: self._storage_settings()},
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
            return counted | self._count_broker_rows()
        assert self.server is not None
        server: Any = redis.Redis(HOST, self.server.port)  # its types are partly missing
        with server:
            keys = set(server.scan_iter(match="chaos|*", count=1000)) - {b"chaos|schema"}
            return {"redis": len(keys)}

    def _count_broker_rows(self) -> dict[str, int]:
        """Count the rows of a broker in the file: messages, and who is connected."""
        if self.database != ONLY_SQLITE:
            return {}
        tables = [f"infinitic_{name}" for name in ("bodies", "queue", "lanes", "pending", "consumers", "sessions")]
        connection = sqlite3.connect(self._file)
        try:
            return {each: connection.execute(f"SELECT count(*) FROM {each}").fetchone()[0] for each in tables}
        finally:
            connection.close()

    @property
    def _storage_name(self) -> str:
        return "sqlite" if self.database == ONLY_SQLITE else self.database

    @property
    def _file(self) -> Path:
        return self.folder / "database" / "chaos.db"

    @property
    def _environ(self) -> Mapping[str, str]:
        # Programs import what this process imports.
        return {
            ATTEMPTS_FOLDER: str(self.attempts),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        }

    def _transport_section(self) -> dict[str, dict[str, object]]:
        if self.broker is None:
            return {"sqlite": {"path": str(self._file)}}
        return {
            "pulsar": {
                "broker_service_url": self.broker.broker,
                "web_service_url": self.broker.web,
                "tenant": "infinitic",
                "namespace": NAMESPACE,
            }
        }

    def _storage_settings(self) -> dict[str, Any]:
        if self.server is None:
            return {"path": str(self._file)}
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
        connection = sqlite3.connect(self._file, timeout=10.0, isolation_level=None)
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
