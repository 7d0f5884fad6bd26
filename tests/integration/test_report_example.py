"""The example of a report fills its table on a real PostgreSQL, and repeats change nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from cloudevents.core.v1.event import CloudEvent

from bench import servers
from examples.listeners.reports import Report, read_report
from infinitic import ids
from tests.integration.stack import need
from tests.integration.test_examples import ROOT

REPORT = [
    ("Order", "completed", 2),
    ("Order", "failed", 1),
    ("Shop", "sell", "builtins.LookupError", 2),
]


@pytest.fixture
def url() -> Iterator[str]:
    """A schema of its own, which is removed in the end."""
    need("postgres")
    schema = f"report_{ids.new_id()[:8]}"
    with psycopg.connect(servers.POSTGRES, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        yield f"{servers.POSTGRES} options='-c search_path={schema}'"
        connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


def test_the_example_fills_its_table(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.listeners.reports", url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "['a lamp', 'a chair']" in done.stdout
    assert read_report(url) == REPORT

    # Another listener hears the same once more.
    with psycopg.connect(url) as connection:
        kept = connection.execute("SELECT source, id, type, time, subject, data FROM infinitic_event").fetchall()
    names = ("source", "id", "type", "time", "subject")
    again = [CloudEvent(dict(zip(names, row[:-1], strict=True)), row[-1]) for row in kept]
    Report(url)(again)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM infinitic_event").fetchone() == (len(kept),)
    assert read_report(url) == REPORT
