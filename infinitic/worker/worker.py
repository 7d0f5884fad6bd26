"""A worker hosts services and workflows: any subset of the roles, any number of each."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from infinitic import ids, topics
from infinitic.client.client import Client
from infinitic.clock import Clock, SystemClock, to_seconds
from infinitic.codec.payloads import PayloadCodec, make_coder
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import InfiniticError, UsageError
from infinitic.middleware.base import BaseMiddleware
from infinitic.middleware.chain import Middlewares
from infinitic.runtime.backoff import retry_while_unavailable
from infinitic.runtime.event_switch import EventSwitch
from infinitic.runtime.lifecycle.ending import Ending
from infinitic.runtime.lifecycle.namesakes import warn_of_namesakes
from infinitic.runtime.lifecycle.process import Stop, heed_signals, tune_process
from infinitic.runtime.lifecycle.supervisor import Supervisor
from infinitic.runtime.memory_bounds import DEFAULT_BUFFER_BYTES, DEFAULT_CACHE_BYTES, DEFAULT_CACHE_SIZE, MemoryBounds
from infinitic.runtime.service_executor import blocking
from infinitic.storage import Storage
from infinitic.storage.integrity import ensure_checked
from infinitic.transport import Transport
from infinitic.worker.components import ComponentFactory
from infinitic.worker.hosted import Hosted
from infinitic.worker.listener_names import warn_of_unknown_names
from infinitic.worker.roles import Roles

if TYPE_CHECKING:
    from infinitic.config import Config

_logger = logging.getLogger("infinitic.worker")

DEFAULT_GRACE = 30.0
"""Seconds that running work may take when a worker stops."""
REMEMBERED = 1000
"""How many instances are in `Worker.stalled`: those that stalled last.

`Client.list_workflows` finds all of them.
"""


class Worker(Roles):
    """Hosts services and workflows on one transport and one storage.

    ::

        worker = Worker(transport=InMemoryTransport(), storage=InMemoryStorage())
        worker.add_service(StripePayments())
        worker.add_workflow(Trip)
        await worker.run()

    Any number of workers, in any number of processes, share the work. `run` is for programs: it
    heeds signals. `running` is for tests and applications that do other things beside.

    Args:
        transport: the connection to the broker. The worker does not close it.
        storage: where workflows are kept. Services alone need none. The worker prepares it, and
            does not close it.
        name: unique among all workers; chosen if not given.
        clock: the time of day.
        cache_size: how many workflow instances stay live in memory, for each workflow.
        cache_bytes: how many bytes of history these have together, for each workflow. A single
            instance may have more. 0 keeps none, as `cache_size` 0 does.
        buffer_bytes: how many bytes of messages each consumer holds, and how many more of those
            that cannot be handled now.
        shutdown_grace_period: seconds (or timedelta) that running work may take when the worker
            stops.
        run_blocking: where `def` tasks run. By default each runs in a thread.
        codec: encodes payloads, one `PayloadCodec` or a chain of them. Clients must have the same.
        middleware: what stands around attempts of tasks, activations of workflows, and the calls of
            its client, outermost first, see `Middleware`.
        seed: for the random numbers of retry policies. None: chosen by chance.
        on_stall: called with the id of an instance that stalls at this worker, and the reason.
        make_id: makes the ids of what its client starts, see `Client`.
        events: whether it publishes what happens, for event listeners. All workers of a service or
            workflow should do the same.

    Raises:
        UsageError: the name or a number cannot be one, or a middleware is none.
    """

    def __init__(
        self,
        transport: Transport,
        storage: Storage | None = None,
        *,
        name: str | None = None,
        clock: Clock | None = None,
        cache_size: int = DEFAULT_CACHE_SIZE,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
        shutdown_grace_period: float | timedelta = DEFAULT_GRACE,
        run_blocking: blocking.Blocking | None = None,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        middleware: Sequence[BaseMiddleware] = (),
        seed: int | None = None,
        on_stall: Callable[[str, InfiniticError], None] | None = None,
        make_id: Callable[[], str] = ids.new_id,
        events: bool = False,
    ) -> None:
        self.name = ids.check_name("The name of a worker", f"worker-{make_id()[:12]}" if name is None else name)
        self._named = name is not None
        self.stalled: dict[str, InfiniticError] = {}
        """Ids of the instances that stalled at this worker, and why."""
        self._transport = transport
        self._storage = None if storage is None else ensure_checked(storage)
        self._clock = clock or SystemClock()
        self.bounds = MemoryBounds(cache_size, cache_bytes, buffer_bytes).check()
        """How much it keeps in memory."""
        self._grace = to_seconds(shutdown_grace_period)
        self._on_stall = on_stall
        coder, middlewares = make_coder(codec, run_blocking), Middlewares(middleware)
        self._client = Client(
            transport,
            storage=storage,
            name=f"{self.name}-client",
            clock=self._clock,
            codec=codec,
            make_id=make_id,
            middleware=middleware,
            run_blocking=run_blocking,
        )
        self._ending = Ending()
        self._supervisor = Supervisor(self._ending)
        self._hosted = Hosted(coder, middlewares)
        self._event_switch = EventSwitch(events)
        self._components = ComponentFactory(
            self.name,
            self._hosted,
            transport,
            self._storage,
            self._clock,
            client=self._client,
            coder=coder,
            middlewares=middlewares,
            bounds=self.bounds,
            run_blocking=run_blocking,
            rng=random.Random(seed),
            on_stall=self._note_stalled,
            leave=self._supervisor.leave,
            event_switch=self._event_switch,
        )
        self._starting: set[asyncio.Task[None]] = set()
        self._used = False
        self._owned: tuple[Transport | Storage, ...] = ()

    @classmethod
    def from_config(
        cls,
        path: str | Path | None = None,
        *,
        text: str | None = None,
        config: Config | None = None,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        middleware: Sequence[BaseMiddleware] | None = None,
    ) -> Self:
        """Make a worker with the services and workflows of a configuration.

        The worker closes the transport and the storage that the file names.

        Args:
            path: the file; `infinitic.yml` by default.
            text: the content of a file, instead of a path.
            config: what `infinitic.config.load` returned, instead of a path.
            codec: as for `Worker`; by default those that the file names.
            middleware: as for `Worker`; by default those that the file names.

        Raises:
            ConfigurationError: the file has mistakes, or a class cannot be imported.
            RegistrationError: a class of the configuration cannot be hosted.
        """
        # Imported here: it needs pydantic, which is slow to import.
        from infinitic.config import load
        from infinitic.worker.configured import import_services, import_workflows
        from infinitic.worker.configured_listener import add_listener, import_listener

        config = load(path, text=text) if config is None else config
        # Before anything is made: a class that cannot be imported leaves nothing to close.
        services, workflows, listener = import_services(config), import_workflows(config), import_listener(config)
        codec = config.make_codec() if codec is None else codec
        around = config.make_middleware() if middleware is None else middleware
        adapters = config.make_adapters()
        grace = config.document.transport.shutdown_grace_period_seconds
        name, bounds = config.document.name, config.document.memory_bounds
        worker = cls(
            *adapters,
            name=name,
            shutdown_grace_period=grace,
            codec=codec,
            middleware=around,
            events=config.document.events,
            **bounds._asdict(),
        )
        worker._owned = adapters.all
        for each in services:
            worker.add_service_executor(each.make(), **each.options)
        for section in config.document.services:
            if section.tag_engine is not None:
                worker.add_service_tag_engine(section.name, concurrency=section.tag_engine.concurrency)
        for flow in workflows:
            if flow.executor_options is not None:
                worker.add_workflow_executor(*flow.versions, **flow.executor_options)
            if flow.state_engine_options is not None:
                worker.add_workflow_state_engine(flow.name, **flow.state_engine_options)
            if flow.tag_engine_options is not None:
                worker.add_workflow_tag_engine(flow.name, **flow.tag_engine_options)
        add_listener(worker, listener, config)
        return worker

    # Life.

    @property
    def ready(self) -> bool:
        """True while it works: all its consumers are subscribed."""
        return self._supervisor.ready

    @property
    def events(self) -> bool:
        """Whether it publishes events for listeners. It may be set while the worker runs."""
        return self._event_switch.on

    @events.setter
    def events(self, on: bool) -> None:
        self._event_switch.on = on

    @property
    def left(self) -> Sequence[str]:
        """What did not end in time when the worker stopped.

        Threads of it may keep the process from ending.
        """
        return self._ending.left

    @property
    def client(self) -> Client:
        """A client on the transport of this worker, ready while it runs."""
        return self._client

    async def run(self, *, on_ready: Callable[[], None] | None = None) -> None:
        """Work until SIGTERM or SIGINT. Then drain: finish what runs, and hand back the rest.

        A second signal stops at once. Afterwards the application has its own signal handlers back.

        Args:
            on_ready: called when all consumers are subscribed and signals are heeded.

        Raises:
            UsageError: nothing is hosted, or the worker ran before.
            SystemExit, KeyboardInterrupt: a task raised it. The worker drained as for a signal, and
                the process is to end with its code.
        """
        with heed_signals() as stop:
            try:
                await self._run_until(stop, on_ready)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not stop.forced or task is None or task.uncancel():
                    raise

    async def _run_until(self, stop: Stop, on_ready: Callable[[], None] | None) -> None:
        starting = asyncio.ensure_future(self._start(allow_empty=False))
        try:
            await asyncio.wait({starting, stop.requested}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not starting.done():  # what is waited for may never come
                starting.cancel()
                await asyncio.wait({starting})
        if starting.cancelled():
            return
        starting.result()
        with tune_process():
            try:
                if on_ready is not None:
                    on_ready()
                try:
                    await self._supervisor.wait(stop.requested)
                except (SystemExit, KeyboardInterrupt) as leaving:
                    _logger.warning("A task wants this process to end (%r): the worker drains", leaving)
                    await self._stop()
                    raise
                await self._stop()
            finally:
                await self._kill()

    @asynccontextmanager
    async def running(self, *, allow_empty: bool = False) -> AsyncGenerator[Worker, None]:
        """Work in the background while the block runs. Leaving the block drains as SIGTERM does.

        A failure that the worker cannot survive cancels the block, and is raised by it.

        Unlike `run`, it changes nothing of the process: signals, garbage collector and memory are
        those of the application. How to tune it: docs/operations.md, "Inside an application".

        Args:
            allow_empty: start although nothing is hosted yet. Services and workflows may be added
                at any time.

        Raises:
            UsageError: nothing is hosted, or the worker ran before.
        """
        block = asyncio.current_task()
        self._supervisor.on_failure = None if block is None else block.cancel
        await self._start(allow_empty=allow_empty)
        try:
            yield self
            self._supervisor.on_failure = None
            await self._stop()
        except asyncio.CancelledError:
            failure = self._supervisor.failure
            if failure is None or block is None:
                raise
            block.uncancel()
            raise failure from None
        finally:
            self._supervisor.on_failure = None
            await self._kill()

    async def _start(self, *, allow_empty: bool) -> None:
        if self._used:
            raise UsageError("This worker runs already, or has run: make a new one")
        if not allow_empty and not self._hosted:
            raise UsageError("This worker hosts nothing: add_service(…) or add_workflow(…) first")
        self._used = True
        try:
            if self._storage is not None:
                await retry_while_unavailable("Preparing the storage", self._storage.prepare)
            await self._client.start()
            if self._named:
                await warn_of_namesakes(self._transport, topics.client(self._client.name), self.name)
            components = self._components.make_new()
            if not allow_empty:
                self._components.check_listeners()
            await self._supervisor.start(components)
            await self._warn_of_listeners()
        except BaseException:
            await self._kill()
            raise

    async def _warn_of_listeners(self) -> None:
        hosted = self._hosted
        if not hosted.listeners:
            return
        known = [*hosted.service_names, *hosted.workflow_names]
        if known and not self._event_switch.on:
            _logger.warning(
                "This worker has an event listener, but publishes no events of what it hosts: Worker(…, events=True)"
            )
        await warn_of_unknown_names(self._transport, hosted.listeners.values(), known)

    def _start_more(self) -> None:
        """What is added while the worker runs starts at the next turn of the loop."""
        if self._supervisor.running:
            components = self._components.make_new()
            if components:
                task = self._supervisor.start_soon(components)
                self._starting.add(task)
                task.add_done_callback(self._starting.discard)

    async def _stop(self) -> None:
        time = asyncio.get_running_loop().time
        ends = time() + self._grace
        self._ending.begin(self._grace)
        if self._starting:
            _, late = await asyncio.wait(self._starting, timeout=self._grace)
            for task in late:  # the broker is away
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._supervisor.drain(max(0.0, ends - time()))
        await self._ending.close("the client", self._client.close)

    async def _kill(self) -> None:
        for task in list(self._starting):
            task.cancel()
        owned, self._owned = self._owned, ()
        self._ending.begin(0.0)
        async with AsyncExitStack() as stack:
            for each in reversed(owned):
                stack.push_async_callback(self._ending.close, type(each).__name__, each.close)
            await self._supervisor.kill()
            await self._ending.close("the client", self._client.close)

    def count_held(self) -> Mapping[str, int]:
        """Count what this worker has in memory for work that is not done, by what it is.

        All is 0 once everything is done. Cached instances of running workflows do not count.
        """
        return self._supervisor.count_held()

    def _note_stalled(self, workflow_id: str, fault: InfiniticError) -> None:
        self.stalled[workflow_id] = fault
        if len(self.stalled) > REMEMBERED:
            del self.stalled[next(iter(self.stalled))]
        if self._on_stall is not None:
            self._on_stall(workflow_id, fault)

    def workflow_specs(self, name: str) -> Mapping[int, WorkflowSpec]:
        """The versions of a workflow whose code is hosted here."""
        return self._hosted.versions_of(name)
