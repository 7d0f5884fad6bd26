"""A whole system in one test: broker, storage, worker and client, on virtual time.

The engines are the real ones. Nothing is shared between two simulations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import infinitic
from infinitic.client.client import Client
from infinitic.clock import to_datetime, to_seconds
from infinitic.codec.payloads import PayloadCodec
from infinitic.definitions.retries import RetryPolicy
from infinitic.definitions.workflows import Workflow
from infinitic.errors import InfiniticError, UsageError
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.replay.waits import waits_of
from infinitic.runtime import blocking
from infinitic.runtime.revival import head_of, replayed
from infinitic.storage import Found, Query
from infinitic.storage.integrity import ensure_checked
from infinitic.topics import DEAD_LETTERS
from infinitic.worker.worker import Worker
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing import determinism
from infinitic_testing.doubles import ServiceDouble, hosted
from infinitic_testing.loop import VirtualClock, VirtualLoop, run
from infinitic_transports.memory import InMemoryTransport

T = TypeVar("T")

LISTED = 20
"""Workflows that an error shows, and what each of them waits for."""


class Simulation:
    """Broker, storage, virtual clock, one worker and its client. In pytest, the fixture `sim` is one.

    Elsewhere::

        async def main() -> None:
            async with Simulation() as sim:
                sim.add_workflow(Trip)
                ...

        Simulation.run(main())

    Args:
        seed: of the random numbers of retry policies.
        cache_size: how many workflow instances stay live in memory; 0 replays at every step.
        codec: codes payloads, one or a chain of `PayloadCodec`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        cache_size: int = 1000,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
    ) -> None:
        self.options: dict[str, Any] = {"seed": seed, "cache_size": cache_size, "codec": codec}
        """What this was made with."""
        self.clock = VirtualClock()
        self.transport = InMemoryTransport(clock=self.clock)
        self.storage = ensure_checked(InMemoryStorage())
        self.worker = Worker(
            self.transport,
            self.storage,
            name="sim",
            clock=self.clock,
            cache_size=cache_size,
            run_blocking=blocking.inline,
            codec=codec,
            seed=seed,
            on_stall=self._on_stall,
        )
        self._stack = AsyncExitStack()

    @staticmethod
    def run(main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on virtual time. Raises `DeadlockError` if it waits for what can never come."""
        return run(main)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise UsageError("A simulation runs on virtual time: use Simulation.run(main()) or the fixture `sim`")
        loop.on_deadlock = self._explain
        loop.is_internal = _is_of_the_engines
        loop.look_at_calls = determinism.look_at
        await self._stack.enter_async_context(self.worker.running(allow_empty=True))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc_type is None:
                await self.check_replay()
        finally:
            await self._stack.__aexit__(exc_type, exc, traceback)  # raises what ended the worker, if something did
            await self.transport.close()
            await self.storage.close()

    @property
    def client(self) -> Client:
        """A client of this simulation."""
        return self.worker.client

    @property
    def now(self) -> datetime:
        """The virtual time, aware UTC."""
        return to_datetime(self.clock.now())

    async def sleep(self, duration: float | timedelta) -> None:
        """Let virtual time pass (seconds or timedelta). It takes no real time."""
        await asyncio.sleep(to_seconds(duration))

    async def run_until_idle(self) -> None:
        """Return when nothing can run any more at this instant. Time does not move."""
        await cast(VirtualLoop, asyncio.get_running_loop()).wait_idle()

    def add_service(
        self,
        implementation: object,
        *,
        concurrency: int = 100,
        retry: RetryPolicy | None = None,
        attempt_timeout: float | timedelta | None = None,
    ) -> None:
        """Host a service, as `Worker.add_service` does. `def` tasks run inline."""
        self.worker.add_service(implementation, concurrency=concurrency, retry=retry, attempt_timeout=attempt_timeout)

    def add_workflow(
        self,
        *versions: type[Workflow] | Callable[[], Workflow],
        concurrency: int = 100,
        retention: float | timedelta | None = None,
    ) -> None:
        """Host a workflow, as `Worker.add_workflow` does."""
        self.worker.add_workflow(*versions, concurrency=concurrency, retention=retention)

    def mock(self, contract: type[Any]) -> ServiceDouble:
        """Host a double of a service, and return it: ``flights.on(Flights.book).returns(Flight("AF1"))``."""
        double = ServiceDouble(contract)
        self.worker.add_service(hosted(double))
        return double

    async def check_replay(self) -> None:
        """Replay every instance that is still kept, and raise what diverges: the code must be deterministic."""
        cursor: str | None = None
        while True:
            page = await self.storage.states.find(Query(limit=500, cursor=cursor))
            for found in page.found:
                await self._replay(found)
            cursor = page.cursor
            if cursor is None:
                return

    async def _replay(self, found: Found) -> None:
        stored = (await self.storage.states.load([found.key])).get(found.key)
        if stored is None:
            return
        head = head_of(found.key, stored)
        spec = None if head.version is None else self.worker.workflow_specs(head.name).get(head.version)
        if spec is None or head.stalled is not None:
            return
        instance, _ = await replayed(found.key, head, spec, self.storage.states)
        instance.close()

    async def _workflows(self) -> list[str]:
        """What each workflow waits for, that neither is closed nor stalls."""
        lines: list[str] = []
        found = (await self.storage.states.find(Query(status=WorkflowStatus.RUNNING, limit=LISTED + 1))).found
        for each in found[:LISTED]:
            stored = (await self.storage.states.load([each.key])).get(each.key)
            head = None if stored is None else head_of(each.key, stored)
            if head is None or head.closed or head.stalled is not None:
                continue
            lines.append(f"workflow {each.key.name} {each.key.id}:")
            spec = None if head.version is None else self.worker.workflow_specs(head.name).get(head.version)
            if spec is not None:
                instance, pending = await replayed(each.key, head, spec, self.storage.states)
                waits = waits_of(instance)
                instance.close()
                lines += [f"  {line}" for line in waits[:LISTED]]
                if len(waits) > LISTED:
                    lines.append(f"  and {len(waits) - LISTED} more")
                if pending:
                    lines.append(f"  {len(pending)} input(s) have not been handed to its code")
            lines += [f"  a background task failed: {failure}" for failure in head.failures]
        if len(found) > LISTED:
            lines.append("and more workflows")
        return lines

    def _on_stall(self, workflow_id: str, fault: InfiniticError) -> None:
        self.client.give_up(workflow_id, fault)

    def _explain(self) -> str:
        """Why nothing can go on: for the error at a deadlock."""
        lines = [
            f"stalled: {fault}" if key in str(fault) else f"workflow {key} stalls: {fault}"
            for key, fault in self.worker.stalled.items()
        ]
        lines += _at_once(self._workflows())
        for topic, subscriptions in self.transport.broker.overview().items():
            kind, _, name = topic.partition(":")
            waiting = sum(stats.backlog for stats in subscriptions.values() if not stats.consumers)
            if waiting and topic.startswith(DEAD_LETTERS):
                lines.append(f"{waiting} message(s) are in the dead letters {topic}: the log says why")
                continue
            if waiting and kind == "service-executor":
                lines.append(
                    f"{waiting} task(s) of service '{name}' wait, and nobody hosts it: "
                    f"sim.add_service(…) or sim.mock({name})"
                )
            elif waiting and kind in ("workflow-engine", "workflow-executor"):
                lines.append(
                    f"{waiting} message(s) for workflow '{name}' wait, and nobody hosts it: sim.add_workflow(…)"
                )
        return "\n".join(lines)


def _at_once(lines: Coroutine[Any, Any, list[str]]) -> list[str]:
    """What a coroutine returns that waits for nothing: the loop stands still. Empty if it does wait."""
    try:
        lines.send(None)
    except StopIteration as returned:
        return cast("list[str]", returned.value)
    except InfiniticError as error:  # a replay that diverges: that is what the test has to know
        return [str(error)]
    lines.close()
    return []


def _is_of_the_engines(task: asyncio.Task[Any]) -> bool:
    """True for the tasks that a worker or client consists of: that they wait explains nothing."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_PACKAGES)


_PACKAGES = (str(Path(infinitic.__file__).parent), str(Path(__file__).parent))
