"""What is stored of one instance, read and changed past every verb."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import redis
from sqlalchemy import Connection, delete, insert, select, update

from infinitic.storage import StateKey
from infinitic_storages.redis.keys import encode_key as redis_key
from infinitic_storages.sql.keys import encode_key
from tests.integration.storages.databases import HOST, REDIS_PORT, Place


class Raw:
    """Segments by their sequence, and the head."""

    def __init__(self, place: Place, key: StateKey) -> None:
        self._place = place
        self._key = encode_key(key) or b""
        self._member = redis_key(key) or b""

    def events(self) -> dict[int, bytes]:
        if self._place.kind == "redis":
            with self._redis() as server:
                return {int(number): value for number, value in server.hgetall(self._name("e")).items()}
        with self._sql() as (connection, tables):
            mine = tables.segments.c.key == self._key
            rows = connection.execute(select(tables.segments.c.sequence, tables.segments.c.events).where(mine))
            return {number: bytes(value) for number, value in rows}

    def set_events(self, number: int, value: bytes | None) -> None:
        """None: the segment is deleted."""
        if self._place.kind == "redis":
            with self._redis() as server:
                if value is None:
                    server.hdel(self._name("e"), number)
                else:
                    server.hset(self._name("e"), number, value)
            return
        with self._sql() as (connection, tables):
            column = tables.segments.c
            mine = (column.key == self._key, column.sequence == number)
            if value is None:
                connection.execute(delete(tables.segments).where(*mine))
            elif connection.execute(select(column.sequence).where(*mine)).first() is not None:
                connection.execute(update(tables.segments).where(*mine).values(events=value))
            else:
                connection.execute(insert(tables.segments).values(key=self._key, sequence=number, events=value))

    def head(self) -> bytes:
        if self._place.kind == "redis":
            with self._redis() as server:
                return bytes(server.hget(self._name("s"), "h"))
        with self._sql() as (connection, tables):
            found = connection.execute(select(tables.states.c.head).where(tables.states.c.key == self._key))
            return bytes(found.scalar_one())

    def set_head(self, value: bytes | None) -> None:
        """None: it is gone, and the rest is there."""
        if self._place.kind == "redis":
            with self._redis() as server:
                if value is None:
                    server.hdel(self._name("s"), "h")
                else:
                    server.hset(self._name("s"), "h", value)
            return
        with self._sql() as (connection, tables):
            connection.execute(update(tables.states).where(tables.states.c.key == self._key).values(head=value))

    def _name(self, kind: str) -> bytes:
        return f"{self._place.label}|{kind}|".encode() + self._member

    @contextmanager
    def _redis(self) -> Generator[Any]:
        server: Any = redis.Redis(HOST, REDIS_PORT)  # its types are partly missing
        with server:
            yield server

    @contextmanager
    def _sql(self) -> Generator[tuple[Connection, Any]]:
        database = self._place.sql().database
        try:
            with database.engine.begin() as connection:
                yield connection, database.tables
        finally:
            database.dispose()
