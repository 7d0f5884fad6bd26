"""A broker and a storage that outlive workers.

Each worker may bring other code for the same instances.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from infinitic import Worker, Workflow, WorkflowInfo, service
from infinitic.runtime.service_executor import blocking
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.loop import VirtualClock, run
from infinitic_transports.memory import InMemoryTransport
from tests.replay.harness import Desk


class Site:
    """One broker and one storage. `said` is what the service was asked to say, over all workers."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.transport = InMemoryTransport(clock=self.clock)
        self.storage = InMemoryStorage()
        self.said: list[str] = []
        self._workers = 0

    def _worker(self) -> Worker:
        self._workers += 1
        name = f"worker-{self._workers}"
        return Worker(self.transport, self.storage, name=name, clock=self.clock, run_blocking=blocking.inline, seed=0)

    @asynccontextmanager
    async def executor(self, workflow: type[Workflow]) -> AsyncGenerator[Worker, None]:
        """A worker that hosts the code of a workflow, and nothing else."""
        worker = self._worker()
        worker.add_workflow_executor(workflow)
        async with worker.running():
            yield worker

    @asynccontextmanager
    async def worker(self, *workflows: type[Workflow] | str) -> AsyncGenerator[Worker, None]:
        """A worker that hosts the service and these workflows.

        Of one that is given by name, it hosts only the state engine.
        """
        worker = self._worker()
        said = self.said

        @service(name="Desk")
        class Recorder(Desk):
            async def say(self, word: str, after: float = 0.0) -> str:
                said.append(word)
                return await super().say(word, after)

        worker.add_service(Recorder)
        for workflow in workflows:
            if isinstance(workflow, str):
                worker.add_workflow_state_engine(workflow)
            else:
                worker.add_workflow(workflow)
        async with worker.running():
            yield worker


async def stalled(worker: Worker, target: object) -> WorkflowInfo:
    """What is known of an instance once it stalls.

    Fails if it does not within the time that messages are retried.
    """
    info = await worker.client.describe(target)
    for _ in range(100):
        if info.stalled is not None:
            return info
        await asyncio.sleep(1)
        info = await worker.client.describe(target)
    raise AssertionError(f"{info} does not stall")


def line_of(code: Callable[..., Any] | type, mark: str = "# HERE") -> str:
    """The line of a function or class that carries a mark, as reports name it."""
    lines, first = inspect.getsourcelines(code)
    offset = next(index for index, line in enumerate(lines) if mark in line)
    return f"{inspect.getsourcefile(code)}:{first + offset}"


def on_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    """Run a test that builds its own workers."""
    run(main)
