"""The plain system: one worker on a broker without latency and faults."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

from infinitic.codec.payloads import PayloadCodec
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import InfiniticError
from infinitic.middleware.base import BaseMiddleware
from infinitic.runtime.service_executor import blocking
from infinitic.storage.integrity import ensure_checked
from infinitic.worker.listeners import Listener
from infinitic.worker.worker import Worker
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.choices import Choices
from infinitic_testing.cluster.system import System, Versions
from infinitic_testing.loop import VirtualClock, VirtualLoop
from infinitic_transports.memory import InMemoryTransport


class SingleWorker(System):
    """One worker, which hosts nothing at the start.

    Attributes:
        worker: the worker. Its client is the client of the test.

    Args:
        choices: their seed is that of the random numbers of retry policies, and of ids.
        cache_size: how many instances stay in memory.
        codec: encodes payloads.
        middleware: what stands around calls, attempts and activations.
    """

    def __init__(
        self,
        *,
        choices: Choices,
        cache_size: int,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        middleware: Sequence[BaseMiddleware] = (),
    ) -> None:
        self.clock = VirtualClock()
        self.transport = InMemoryTransport(clock=self.clock)
        self.database = Database()
        self.storage = ensure_checked(InMemoryStorage(self.database))
        self.worker = Worker(
            self.transport,
            self.storage,
            name="sim",
            clock=self.clock,
            cache_size=cache_size,
            run_blocking=blocking.inline,
            codec=codec,
            middleware=middleware,
            seed=choices.seed,
            on_stall=self._on_stall,
            make_id=choices.make_ids("client"),
        )
        self.client = self.worker.client
        self._stack = AsyncExitStack()

    @property
    def stalled(self) -> Mapping[str, InfiniticError]:
        return self.worker.stalled

    def _on_stall(self, workflow_id: str, fault: InfiniticError) -> None:
        self.client.give_up(workflow_id, fault)

    def add_service(self, implementation: object, **options: Any) -> None:
        self.worker.add_service(implementation, **options)

    def add_workflow(self, versions: Versions, **options: Any) -> None:
        self.worker.add_workflow(*versions, **options)

    def add_event_listener(self, listener: Listener, **options: Any) -> None:
        self.worker.add_event_listener(listener, **options)
        self.worker.events = True

    def find_specs(self, workflow: str) -> Mapping[int, WorkflowSpec]:
        return self.worker.workflow_specs(workflow)

    async def open(self) -> None:
        await self._stack.enter_async_context(self.worker.running(allow_empty=True))

    async def run_until_idle(self) -> None:
        await cast(VirtualLoop, asyncio.get_running_loop()).wait_idle()

    async def settle(self) -> None:
        """There is nothing to wait for: the replay check of the simulation is enough."""

    async def close(self, error: BaseException | None) -> None:
        try:
            # This raises the error that ended the worker, if there is one.
            await self._stack.__aexit__(
                None if error is None else type(error), error, None if error is None else error.__traceback__
            )
        finally:
            await self.transport.close()
            await self.storage.close()
