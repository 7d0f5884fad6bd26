"""A schema, database, file or prefix for each test module, dropped afterwards."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import redis

from infinitic.storage import Storage
from infinitic_storages.redis import RedisSettings, RedisStorage
from infinitic_storages.sql.mysql import MysqlStorage
from infinitic_storages.sql.postgres import PostgresStorage
from infinitic_storages.sql.settings import MysqlSettings, PostgresSettings, SqliteSettings
from infinitic_storages.sql.sqlite import SqliteStorage
from infinitic_storages.sql.storage import SqlStorage
from tests.required import reach

HOST = "127.0.0.1"
POSTGRES_PORT = int(os.environ.get("INFINITIC_POSTGRES_PORT", "5432"))
REDIS_PORT = int(os.environ.get("INFINITIC_REDIS_PORT", "6379"))
MARIADB_PORT = int(os.environ.get("INFINITIC_MARIADB_PORT", "3306"))
USER: dict[str, Any] = {"host": HOST, "username": "infinitic", "password": "infinitic"}
SQL = ("sqlite", "postgres", "mysql")
KINDS = (*SQL, "redis")
DEDUPLICATION_WINDOW = 1000.0


class Place:
    """Where storages of one kind find the same tables."""

    def __init__(self, kind: str, label: str, folder: Path) -> None:
        self.kind = kind
        self.label = label
        self.path = folder / f"{label}.db"

    def storage(self, *, deduplication_window: float = DEDUPLICATION_WINDOW, **settings: Any) -> Storage:
        """A storage of its own on what is shared."""
        if self.kind == "redis":
            merged = {"host": HOST, "port": REDIS_PORT, "key_prefix": self.label} | settings
            return RedisStorage(RedisSettings.model_validate(merged), deduplication_window=deduplication_window)
        return self.sql(deduplication_window=deduplication_window, **settings)

    def sql(self, *, deduplication_window: float = DEDUPLICATION_WINDOW, **settings: Any) -> SqlStorage:
        """The same, of a database that speaks SQL."""
        if self.kind == "sqlite":
            return SqliteStorage(
                SqliteSettings.model_validate({"path": self.path} | settings), deduplication_window=deduplication_window
            )
        if self.kind == "postgres":
            merged = USER | {"port": POSTGRES_PORT, "schema": self.label} | settings
            return PostgresStorage(PostgresSettings.model_validate(merged), deduplication_window=deduplication_window)
        merged = USER | {"port": MARIADB_PORT, "database": self.label} | settings
        return MysqlStorage(MysqlSettings.model_validate(merged), deduplication_window=deduplication_window)

    def execute(self, statement: str) -> None:
        """A statement past the storage."""
        if self.kind == "sqlite":
            import sqlite3

            connection = sqlite3.connect(self.path)
            connection.execute(statement)
            connection.commit()
            connection.close()
        elif self.kind == "postgres":
            with psycopg.connect(_postgres(), autocommit=True, options=f"-c search_path={self.label}") as postgres:
                postgres.execute(statement.encode())
        else:
            with _mysql() as mysql, mysql.cursor() as cursor:
                cursor.execute(f"USE {self.label}")
                cursor.execute(statement)
                mysql.commit()


def _postgres() -> str:
    return f"host={HOST} port={POSTGRES_PORT} user=infinitic password=infinitic dbname=infinitic"


def _mysql() -> pymysql.Connection[Any]:
    return pymysql.connect(host=HOST, port=MARIADB_PORT, user="infinitic", password="infinitic")


def need(kind: str) -> None:
    """Skip if the server does not answer, or fail where servers are required."""
    if kind == "sqlite":
        return
    port = {"postgres": POSTGRES_PORT, "mysql": MARIADB_PORT, "redis": REDIS_PORT}[kind]
    reach(kind, f"//{HOST}:{port}")


@contextmanager
def place(kind: str, label: str, folder: Path) -> Generator[Place]:
    """An empty place, dropped in the end."""
    need(kind)
    if kind == "mysql":
        with _mysql() as mysql, mysql.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {label}")
    try:
        yield Place(kind, label, folder)
    finally:
        if kind == "postgres":
            with psycopg.connect(_postgres(), autocommit=True) as postgres:
                postgres.execute(f"DROP SCHEMA IF EXISTS {label} CASCADE".encode())
        elif kind == "mysql":
            with _mysql() as mysql, mysql.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {label}")
        elif kind == "redis":
            server: Any = redis.Redis(HOST, REDIS_PORT)  # its types are partly missing
            with server:
                for key in server.scan_iter(f"{label}*", count=1000):
                    server.delete(key)
