"""An event listener that fills a table of PostgreSQL, for reports.

An event may come twice. Source and id are the key of the table, so a repeat changes nothing. All
events of a batch are written in one transaction: if it fails, the listener is called again.

Start PostgreSQL, then run it with ``python -m examples.listeners.reports postgresql://user@host/database``.
It needs ``pip install "infinitic[events,postgres]"``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import psycopg
from psycopg.types.json import Jsonb

from infinitic import ExponentialBackoff, Worker, Workflow, WorkflowFailedError, task
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

SCHEMA = """
CREATE TABLE IF NOT EXISTS infinitic_event (
    source text, id text, type text NOT NULL, time timestamptz NOT NULL, subject text, data jsonb NOT NULL,
    PRIMARY KEY (source, id)
);
CREATE INDEX IF NOT EXISTS infinitic_event_subject ON infinitic_event (subject);
CREATE OR REPLACE VIEW infinitic_workflow AS
SELECT
    subject AS workflow_id,
    min(data ->> 'workflow_name') AS name,
    min(time) FILTER (WHERE type = 'io.infinitic.workflow.dispatch') AS started_at,
    max(time) FILTER (WHERE type ~ '^io.infinitic.workflow.(completed|failed|canceled|terminated)$') AS ended_at,
    max(substring(type FROM 23))
        FILTER (WHERE type ~ '^io.infinitic.workflow.(completed|failed|canceled|terminated)$') AS status,
    count(*) FILTER (WHERE type = 'io.infinitic.workflow.taskDispatched') AS tasks
FROM infinitic_event WHERE source LIKE '/workflows/%' GROUP BY subject;
CREATE OR REPLACE VIEW infinitic_task_failure AS
SELECT data ->> 'service_name' AS service, data ->> 'task_name' AS task, data #>> '{error,name}' AS error,
    count(*) AS attempts
FROM infinitic_event WHERE type IN ('io.infinitic.task.failed', 'io.infinitic.task.retryScheduled') GROUP BY 1, 2, 3;
"""

INSERT = """
INSERT INTO infinitic_event (source, id, type, time, subject, data) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""


class Report:
    """Writes events to the database. As a plain `def` it is called in a thread, and may block."""

    def __init__(self, url: str) -> None:
        self._url = url
        with psycopg.connect(url) as connection:
            connection.execute(SCHEMA)

    def __call__(self, events: list[CloudEvent]) -> None:
        rows = [
            (
                event.get_source(),
                event.get_id(),
                event.get_type(),
                event.get_time(),
                event.get_subject(),
                Jsonb(event.get_data()),
            )
            for event in events
        ]
        with psycopg.connect(self._url) as connection, connection.cursor() as cursor:
            cursor.executemany(INSERT, rows)


class Shop:
    @task(retry=ExponentialBackoff(minimum_seconds=0.01, maximum_retries=1))
    async def sell(self, item: str) -> str:
        if item == "unicorn":
            raise LookupError("there are no unicorns")
        return f"a {item}"


class Order(Workflow):
    shop = Workflow.new_service(Shop)

    async def place(self, items: list[str]) -> list[str]:
        return [await self.shop.sell(item) for item in items]


async def sell_something(url: str) -> None:
    """Run two orders in a worker whose listener writes the report."""
    async with InMemoryTransport() as transport, InMemoryStorage() as storage:
        worker = Worker(transport, storage, events=True)
        worker.add_service(Shop())
        worker.add_workflow(Order)
        worker.add_event_listener(Report(url), name="report", max_seconds=0.1)
        async with worker.running():  # when it ends, the last events are handed over
            order = worker.client.new_workflow(Order)
            print(await order.place(["lamp", "chair"]))
            try:
                await order.place(["unicorn"])
            except WorkflowFailedError as error:
                print(error)
            await asyncio.sleep(0.5)


def read_report(url: str) -> list[tuple[object, ...]]:
    """Read how the workflows ended, with the number of their tasks, and which tasks have failed."""
    with psycopg.connect(url) as connection:
        ended: list[tuple[object, ...]] = connection.execute(
            "SELECT name, status, tasks FROM infinitic_workflow WHERE ended_at >= started_at ORDER BY tasks DESC"
        ).fetchall()
        return ended + connection.execute("SELECT * FROM infinitic_task_failure ORDER BY 1, 2, 3").fetchall()


if __name__ == "__main__":
    asyncio.run(sell_something(sys.argv[1]))
    for line in read_report(sys.argv[1]):
        print(*line)
