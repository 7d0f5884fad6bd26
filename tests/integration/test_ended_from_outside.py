"""S5, S6, S25, S35, S36 on real servers: what runs on another worker is stopped."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench import servers
from infinitic import (
    Client,
    TaskTimedOutError,
    Worker,
    Workflow,
    WorkflowCanceledError,
    WorkflowTerminatedError,
    ids,
    task_context,
)
from tests.integration.stack import DATABASES, need


class Notes:
    """Tells for each task that it has begun, and that it was cancelled."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, str], asyncio.Event] = {}

    def __getitem__(self, what: tuple[str, str]) -> asyncio.Event:
        return self._events.setdefault(what, asyncio.Event())


class Desk:
    """Tasks that never end by themselves."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    async def work(self, name: str) -> None:
        self._notes[name, "began"].set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert task_context().is_cancelled
            self._notes[name, "cancelled"].set()
            raise


class Office(Workflow):
    desk = Workflow.new_service(Desk)
    hurried = Workflow.new_service(Desk, total_timeout=1.0)

    async def wait(self, name: str) -> None:
        await self.desk.work(name)

    async def time_out(self, name: str) -> str:
        try:
            await self.hurried.work(name)
        except TaskTimedOutError:
            return "timed out"
        return "done"

    async def give_up(self, name: str) -> str:
        deferred = self.dispatch(self.desk.work, name)
        await self.timer(1.0)
        deferred.cancel()
        return "given up"

    async def rest(self) -> str:
        await self.timer(86_400.0)
        return "rested"


@pytest.mark.parametrize("database", DATABASES)
def test_what_runs_on_another_worker_is_stopped(database: str, tmp_path: Path) -> None:
    need(database)
    label = f"test_{ids.new_id()[:8]}"
    notes = Notes()

    async def play() -> None:
        async with AsyncExitStack() as stack:
            for number in range(3):
                transport = await stack.enter_async_context(servers.broker(database, label, tmp_path))
                storage = await stack.enter_async_context(servers.storage(database, label, tmp_path))
                worker = Worker(transport, storage)
                if number:
                    worker.add_service(Desk(notes))
                else:
                    worker.add_workflow(Office)
                await stack.enter_async_context(worker.running())
            transport = await stack.enter_async_context(servers.broker(database, label, tmp_path))
            client = await stack.enter_async_context(Client(transport))
            async with asyncio.timeout(60):
                await scenario(client)

    async def scenario(client: Client) -> None:
        new = client.new_workflow(Office)
        cancelled = await client.dispatch(new.wait, "cancelled")
        terminated = await client.dispatch(new.wait, "terminated")
        resting = await client.dispatch(new.rest)
        for name in ("cancelled", "terminated"):
            await notes[name, "began"].wait()
        await client.cancel(cancelled, confirm=True)
        await client.terminate(terminated, reason="no longer needed", confirm=True)
        with pytest.raises(WorkflowCanceledError):
            await cancelled.result()
        with pytest.raises(WorkflowTerminatedError, match="no longer needed"):
            await terminated.result()
        outcomes = await asyncio.gather(new.time_out("timed out"), new.give_up("given up"))
        assert list(outcomes) == ["timed out", "given up"]
        for name in ("cancelled", "terminated", "timed out", "given up"):
            await notes[name, "cancelled"].wait()
        await client.complete_timers(resting, confirm=True)
        assert await resting.result() == "rested"

    asyncio.run(play())
