"""The floor of tags: the bulk insert that each database offers, of the same rows, in equal batches.

The table has the columns and indexes of ours. Each batch is durable before the next one begins. No
driver is wrapped, and nothing is checked.

python -m bench.tag_floor postgres|mysql|redis|sqlite N
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import redis

from bench import load, servers

BATCH = 1000
KEY = b"w\x05Bench" + b"million"
COLUMNS = "live, version, at, expires_at, holder"

Row = tuple[bytes, bytes, bool, int, float, None, None]


def make_ids(count: int) -> Iterator[list[bytes]]:
    """Ids in no order, as those of workflows are, in batches."""
    for start in range(0, count, BATCH):
        numbers = range(start, min(count, start + BATCH))
        # A product by an odd number, cut to 64 bits, is another one for each number.
        yield [b"%016x%016x" % (number * 0x9E3779B97F4A7C15 % 2**64, number) for number in numbers]


def make_rows(ids: list[bytes]) -> list[Row]:
    return [(KEY, id, True, 1_800_000_000_000_001, 1_800_000_000.25, None, None) for id in ids]


def insert_into_postgres(count: int) -> None:
    with psycopg.connect(servers.POSTGRES) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bench_tags")
        cursor.execute(
            "CREATE TABLE bench_tags (key bytea, id bytea, live boolean NOT NULL, version bigint NOT NULL, "
            "at double precision NOT NULL, expires_at double precision, holder bytea, PRIMARY KEY (key, id))"
        )
        cursor.execute("CREATE INDEX ON bench_tags (expires_at) WHERE expires_at IS NOT NULL")
        connection.commit()
        for ids in make_ids(count):
            with cursor.copy("COPY bench_tags FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["bytea", "bytea", "bool", "int8", "float8", "float8", "bytea"])
                for row in make_rows(ids):
                    copy.write_row(row)
            connection.commit()
        cursor.execute("DROP TABLE bench_tags")


def insert_into_mysql(count: int) -> None:
    connection: Any = pymysql.connect(
        host=servers.HOST, port=servers.PORTS["mysql"], user="infinitic", password="infinitic", database="infinitic"
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bench_tags")
        cursor.execute(
            "CREATE TABLE bench_tags (`key` varbinary(512), id varbinary(600), live bool NOT NULL, "
            "version bigint NOT NULL, at double NOT NULL, expires_at double, holder varbinary(600), "
            "PRIMARY KEY (`key`, id), INDEX (expires_at)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"
        )
        for ids in make_ids(count):
            rows = [value for row in make_rows(ids) for value in row]
            slots = ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(ids))
            cursor.execute(f"INSERT INTO bench_tags VALUES {slots}", rows)
            connection.commit()
        cursor.execute("DROP TABLE bench_tags")


def insert_into_sqlite(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "floor.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE bench_tags (key BLOB, id BLOB, live BOOLEAN NOT NULL, version BIGINT NOT NULL, "
            "at DOUBLE NOT NULL, expires_at DOUBLE, holder BLOB, PRIMARY KEY (key, id)) WITHOUT ROWID"
        )
        connection.execute("CREATE INDEX expiring ON bench_tags (expires_at) WHERE expires_at IS NOT NULL")
        for ids in make_ids(count):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO bench_tags VALUES (?, ?, ?, ?, ?, ?, ?)", make_rows(ids))
            connection.execute("COMMIT")
        connection.close()


def insert_into_redis(count: int) -> None:
    server: Any = redis.Redis(servers.HOST, servers.PORTS["redis"])  # its types are partly missing
    row = b"1800000000000001|1|1800000000.25||"
    for ids in make_ids(count):
        pipeline = server.pipeline(transaction=False)
        pipeline.hset("bench-tags|m", mapping=dict.fromkeys(ids, row))
        pipeline.zadd("bench-tags|l", dict.fromkeys(ids, 0))
        pipeline.execute()
    server.delete("bench-tags|m", "bench-tags|l")
    server.close()


FLOORS: dict[str, Callable[[int], None]] = {
    "postgres": insert_into_postgres,
    "mysql": insert_into_mysql,
    "sqlite": insert_into_sqlite,
    "redis": insert_into_redis,
}


if __name__ == "__main__":
    name, count = sys.argv[1], int(sys.argv[2])
    began = time.perf_counter()
    FLOORS[name](count)
    load.result(per_s=count / (time.perf_counter() - began))
