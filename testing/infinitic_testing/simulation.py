"""A whole system in one test: broker, storage, worker and client, in virtual time.

The worker runs the same engines as in production. Two simulations share nothing.

In pytest, use the fixture `sim` of `infinitic_testing.plugin`. It makes and closes a `Simulation`.
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
from infinitic.replay.waits import list_waits
from infinitic.runtime.history import decode_head, replay_history
from infinitic.runtime.service_executor import blocking
from infinitic.storage import Found, Query
from infinitic.storage.integrity import ensure_checked
from infinitic.topics import DEAD_LETTERS
from infinitic.worker.worker import Worker
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing import determinism
from infinitic_testing.doubles import ServiceDouble, implement_double
from infinitic_testing.loop import VirtualClock, VirtualLoop, run
from infinitic_transports.memory import InMemoryTransport

T = TypeVar("T")

MAX_LISTED = 20
"""How many workflows an error shows, and how many waits of each."""


class Simulation:
    """A broker, a storage, a virtual clock, one worker and its client. The fixture `sim` is one.

    Outside pytest::

        async def main() -> None:
            async with Simulation() as sim:
                sim.add_service(Flights)
                sim.add_workflow(Trip)
                assert await sim.client.new_workflow(Trip).book("Paris") == "AF1"

        Simulation.run(main())

    When the block ends without an error, each workflow is replayed from its history. If a replay
    differs, the block raises `NonDeterminismError`: see `check_replay`.

    Attributes:
        worker: the only worker. It hosts nothing at the start.
        transport: the in-memory broker of the simulation.
        storage: the in-memory storage of the simulation.
        clock: the virtual clock.
        options: the arguments of this simulation, by name.

    Args:
        seed: the seed of the random numbers of retry policies.
        cache_size: how many workflow instances stay in memory. With 0, each step replays the
            workflow from its history, as after a crash.
        codec: encodes payloads, for instance encrypts them. One `PayloadCodec`, or a chain of
            them: the first one encodes first and decodes last.

    Raises:
        UsageError: the block is entered in a loop that is not a `VirtualLoop`, for instance under
            `asyncio.run`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        cache_size: int = 1000,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
    ) -> None:
        self.options: dict[str, Any] = {"seed": seed, "cache_size": cache_size, "codec": codec}
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
        """Run a coroutine on a fresh loop in virtual time, and return its result.

        Args:
            main: usually opens one simulation (see the example of the class).

        Raises:
            DeadlockError: nothing can run, no timer is left, and `main` still waits.
            LivelockError: code runs on and on, and time cannot move.
            UsageError: an event loop already runs in this thread.
        """
        return run(main)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise UsageError("A simulation needs virtual time: use Simulation.run(main()) or the fixture `sim`")
        loop.on_deadlock = self._explain
        loop.is_internal = _belongs_to_engines
        loop.look_at_calls = determinism.check_call
        await self._stack.enter_async_context(self.worker.running(allow_empty=True))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc_type is None:
                await self.check_replay()
        finally:
            # This raises the error that ended the worker, if there is one.
            await self._stack.__aexit__(exc_type, exc, traceback)
            await self.transport.close()
            await self.storage.close()

    @property
    def client(self) -> Client:
        """The client of the worker. It has all that a client has in production."""
        return self.worker.client

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC. It begins at 2030-01-01T00:00:00Z."""
        return to_datetime(self.clock.now())

    async def sleep(self, duration: float | timedelta) -> None:
        """Let virtual time pass. It takes no real time. What becomes due meanwhile happens.

        Args:
            duration: seconds, or a timedelta.

        Example::

            handle = await sim.client.dispatch(sim.client.new_workflow(Trip).book, "Paris")
            await sim.sleep(timedelta(days=29))
        """
        await asyncio.sleep(to_seconds(duration))

    async def run_until_idle(self) -> None:
        """Wait until nothing can run any more at this instant. Time does not move.

        Use it to look at what happened so far: tasks have run and messages have arrived, unless
        they wait for a later time. To let time pass, use `sleep`.
        """
        await cast(VirtualLoop, asyncio.get_running_loop()).wait_idle()

    def add_service(
        self,
        implementation: object,
        *,
        concurrency: int = 100,
        retry: RetryPolicy | None = None,
        attempt_timeout: float | timedelta | None = None,
    ) -> None:
        """Host a real service, as `Worker.add_service` does. This may be done at any time.

        Unlike on a worker, a task that is a plain `def` runs on the event loop, not in a thread.

        Args:
            implementation: an instance, or a class or function that makes one without arguments.
            concurrency: how many of its tasks run at once.
            retry: a retry policy that wins over those of `@task` and `@service`.
            attempt_timeout: how long an attempt may take: seconds, or a timedelta. It wins over
                `@task` and `@service`.

        Raises:
            RegistrationError: it is not a service, or a service of this name is hosted already.
        """
        self.worker.add_service(implementation, concurrency=concurrency, retry=retry, attempt_timeout=attempt_timeout)

    def add_workflow(
        self,
        *versions: type[Workflow] | Callable[[], Workflow],
        concurrency: int = 100,
        retention: float | timedelta | None = None,
    ) -> None:
        """Host a workflow, as `Worker.add_workflow` does. This may be done at any time.

        Args:
            versions: classes of one workflow, or functions that make an instance without
                arguments. One for each version.
            concurrency: how many instances are worked on at once.
            retention: how long a closed instance is kept: seconds, or a timedelta. It wins over
                `@workflow`.

        Raises:
            RegistrationError: the class cannot run as a workflow, or its name and version are
                hosted already.
        """
        self.worker.add_workflow(*versions, concurrency=concurrency, retention=retention)

    def mock(self, contract: type[Any]) -> ServiceDouble:
        """Host a double of a service, and return it, to say what it answers.

        The double has the names, signatures and retry policies of the contract. So a call that
        the real service cannot take fails here too, and a failed attempt is retried.

        Args:
            contract: the class with which the workflow calls `Workflow.new_service`.

        Raises:
            RegistrationError: it is not a service, or a service of this name is hosted already.

        Example::

            flights = sim.mock(Flights)
            flights.book.raises(ConnectionError).returns("AF1")
        """
        double = ServiceDouble(contract)
        self.worker.add_service(implement_double(double))
        return double

    async def check_replay(self) -> None:
        """Replay each instance that is still kept. Code that does not repeat its history raises.

        A simulation does this when it ends. Call it yourself to check at an earlier moment.
        Instances that stall, and those whose code is not hosted, are left out.

        Raises:
            NonDeterminismError: the code asked for something else than its history says. The
                error shows both, and your source line.
        """
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
        head = decode_head(found.key, stored)
        spec = None if head.version is None else self.worker.workflow_specs(head.name).get(head.version)
        if spec is None or head.stalled is not None:
            return
        instance, _, _ = await replay_history(found.key, head, spec, self.storage.states)
        instance.close()

    async def _describe_workflows(self) -> list[str]:
        """One line for each running workflow, and indented ones: what its code waits for."""
        lines: list[str] = []
        found = (await self.storage.states.find(Query(status=WorkflowStatus.RUNNING, limit=MAX_LISTED + 1))).found
        for each in found[:MAX_LISTED]:
            stored = (await self.storage.states.load([each.key])).get(each.key)
            head = None if stored is None else decode_head(each.key, stored)
            if head is None or head.closed or head.stalled is not None:
                continue
            lines.append(f"workflow {each.key.name} {each.key.id}:")
            spec = None if head.version is None else self.worker.workflow_specs(head.name).get(head.version)
            if spec is not None:
                instance, pending, _ = await replay_history(each.key, head, spec, self.storage.states)
                waits = list_waits(instance)
                instance.close()
                lines += [f"  {line}" for line in waits[:MAX_LISTED]]
                if len(waits) > MAX_LISTED:
                    lines.append(f"  and {len(waits) - MAX_LISTED} more")
                if pending:
                    lines.append(f"  {len(pending)} input(s) were not yet given to its code")
            lines += [f"  a background task failed: {failure}" for failure in head.failures]
        if len(found) > MAX_LISTED:
            lines.append("and more workflows")
        return lines

    def _on_stall(self, workflow_id: str, fault: InfiniticError) -> None:
        self.client.give_up(workflow_id, fault)

    def _explain(self) -> str:
        """Say why nothing can run: the end of the message of a `DeadlockError`."""
        lines = [
            f"stalled: {fault}" if key in str(fault) else f"workflow {key} is stalled: {fault}"
            for key, fault in self.worker.stalled.items()
        ]
        lines += _run_without_waiting(self._describe_workflows())
        for topic, subscriptions in self.transport.broker.overview().items():
            kind, _, name = topic.partition(":")
            waiting = sum(stats.backlog for stats in subscriptions.values() if not stats.consumers)
            if waiting and topic.startswith(DEAD_LETTERS):
                lines.append(f"{waiting} message(s) became dead letters in {topic}: the log says why")
                continue
            if waiting and kind == "service-executor":
                lines.append(
                    f"{waiting} task(s) of service '{name}' wait, but nobody hosts it: "
                    f"call sim.add_service(…) or sim.mock({name})"
                )
            elif waiting and kind in ("workflow-engine", "workflow-executor"):
                lines.append(
                    f"{waiting} message(s) for workflow '{name}' wait, but nobody hosts it: call sim.add_workflow(…)"
                )
        return "\n".join(lines)


def _run_without_waiting(lines: Coroutine[Any, Any, list[str]]) -> list[str]:
    """Run a coroutine while the loop stands still. If it waits for something, return no lines."""
    try:
        lines.send(None)
    except StopIteration as returned:
        return cast("list[str]", returned.value)
    except InfiniticError as error:
        # A replay differs from its history. The test has to know that first of all.
        return [str(error)]
    lines.close()
    return []


def _belongs_to_engines(task: asyncio.Task[Any]) -> bool:
    """True for the asyncio tasks of workers and clients: their waiting explains nothing."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_PACKAGES)


_PACKAGES = (str(Path(infinitic.__file__).parent), str(Path(__file__).parent))
