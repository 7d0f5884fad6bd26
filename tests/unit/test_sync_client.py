"""The client for programs that are not asynchronous."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from infinitic import (
    Channel,
    UsageError,
    Worker,
    Workflow,
    WorkflowCanceledError,
    WorkflowStatus,
    WorkflowTerminatedError,
)
from infinitic.client.sync_client import SyncClient
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


class Adder:
    def add(self, x: int) -> int:
        return x + 1


class Sum(Workflow):
    adder = Workflow.new_service(Adder)
    channel = Channel[int]()

    async def compute(self, i: int) -> int:
        return await self.dispatch(self.adder.add, i) + await self.channel.receive()

    async def rest(self) -> str:
        await self.timer(86_400.0)
        return "rested"


@contextmanager
def hosted() -> Generator[tuple[BlockingPortal, SyncClient]]:
    """A worker and a client on the loop of one portal: an in-memory broker needs one loop."""
    with start_blocking_portal() as portal:
        transport, storage = InMemoryTransport(), InMemoryStorage()
        worker = Worker(transport, storage)
        worker.add_service(Adder())
        worker.add_workflow(Sum)
        with (
            portal.wrap_async_context_manager(worker.running()),
            SyncClient(transport, storage=storage, portal=portal) as client,
        ):
            yield portal, client


def test_a_workflow_is_started_signalled_and_awaited_without_await() -> None:
    with hosted() as (_, client):
        handle = client.dispatch(client.new_workflow(Sum).compute, 1)
        running = client.get_workflow_by_id(Sum, handle.workflow_id)
        client.run(running.channel.send, 40)
        assert handle.result(timeout=10) == 42
        assert client.get_handle(Sum.compute, handle.workflow_id).result(timeout=10) == 42
        assert client.describe(handle).status is WorkflowStatus.COMPLETED
        assert [found.key.id for found in client.list_workflows().found] == [handle.workflow_id]


def test_workflows_are_found_by_tag_and_by_custom_id() -> None:
    with hosted() as (_, client):
        start = client.new_workflow(Sum, tags={"eu"}, custom_id="sum-1")
        handle = client.dispatch(start.compute, 1)
        assert client.dispatch(start.compute, 5).workflow_id == handle.workflow_id
        by_tag = client.get_workflow_by_tag(Sum, "eu")
        assert client.get_ids(by_tag) == [handle.workflow_id]
        assert client.get_ids(client.get_workflow_by_custom_id(Sum, "sum-1")) == [handle.workflow_id]
        listed = client.list_workflows(name="Sum", tag="eu").found
        assert [found.key.id for found in listed] == [handle.workflow_id]
        # It runs beside the first method, and its result goes to nobody.
        client.broadcast(by_tag.rest)
        client.run(by_tag.channel.send, 40)
        assert handle.result(timeout=10) == 42
        client.terminate(by_tag)


def test_a_cancelled_workflow_raises_at_its_handle() -> None:
    with hosted() as (_, client):
        handle = client.dispatch(client.new_workflow(Sum).compute, 1)
        client.cancel(handle, confirm=True)
        with pytest.raises(WorkflowCanceledError):
            handle.result(timeout=10)


def test_timers_are_completed() -> None:
    with hosted() as (_, client):
        handle = client.dispatch(client.new_workflow(Sum).rest)
        client.complete_timers(handle, method_id=handle.workflow_id, confirm=True)
        assert handle.result(timeout=10) == "rested"


def test_a_terminated_workflow_raises_at_its_handle() -> None:
    with hosted() as (_, client):
        handle = client.dispatch(client.new_workflow(Sum).compute, 1)
        client.terminate(handle, reason="wrong", confirm=True)
        with pytest.raises(WorkflowTerminatedError, match="wrong"):
            handle.result(timeout=10)


def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    client = SyncClient(InMemoryTransport())
    with pytest.raises(UsageError, match="with SyncClient"):
        client.run(client.new_workflow(Sum).compute, 1)


def test_a_client_without_a_portal_starts_its_own() -> None:
    with SyncClient(InMemoryTransport()) as client:
        handle = client.dispatch(client.new_workflow(Sum).compute, 1)
        assert handle.workflow_id
