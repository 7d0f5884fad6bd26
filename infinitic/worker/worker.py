"""A worker hosts services and workflows: any subset of the roles, any number of each."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from infinitic import ids, topics
from infinitic.client.client import Client
from infinitic.clock import Clock, SystemClock, to_seconds
from infinitic.codec.payloads import PayloadCodec, coder_of
from infinitic.definitions.retries import RetryPolicy
from infinitic.definitions.service_contract import ServiceImplementation, implementation_of
from infinitic.definitions.services import timeout
from infinitic.definitions.workflow_spec import WorkflowSpec, workflow_name
from infinitic.definitions.workflows import ReplayCheck, Workflow
from infinitic.errors import InfiniticError, RegistrationError, UsageError
from infinitic.runtime import blocking
from infinitic.runtime.attempt import Attempts
from infinitic.runtime.backoff import insist
from infinitic.runtime.committer import Committer
from infinitic.runtime.deaths import Trials
from infinitic.runtime.ending import Ending
from infinitic.runtime.maintenance import Maintenance
from infinitic.runtime.memory_bounds import DEFAULT_BUFFER_BYTES, DEFAULT_CACHE_BYTES, DEFAULT_CACHE_SIZE, MemoryBounds
from infinitic.runtime.namesakes import warn_of_namesakes
from infinitic.runtime.process import Stop, stop_signals, tuned
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor import ServiceExecutor
from infinitic.runtime.state_engine import StateEngine
from infinitic.runtime.step import Told
from infinitic.runtime.supervisor import Component, Supervisor
from infinitic.runtime.workflow_executor import WorkflowExecutor
from infinitic.storage import Storage
from infinitic.storage.integrity import checked
from infinitic.transport import Transport
from infinitic.worker.hosting import concurrency_of, instance_of, spec_of_version

if TYPE_CHECKING:
    from infinitic.config import Config

_logger = logging.getLogger("infinitic.worker")

DEFAULT_CONCURRENCY = 100
DEFAULT_GRACE = 30.0
REMEMBERED = 1000
"""Instances in `Worker.stalled`: the last that stalled. All of them are found by `client.list_workflows`."""


class Worker:
    """Hosts services and workflows on one transport and one storage.

    ::

        worker = Worker(transport=InMemoryTransport(), storage=InMemoryStorage())
        worker.add_service(StripePayments())
        worker.add_workflow(Trip)
        await worker.run()

    Args:
        transport: the connection to the broker. The worker does not close it.
        storage: where workflows are kept; services alone need none. The worker prepares it, and does not close it.
        name: unique among all workers; chosen if not given.
        clock: the time of day.
        cache_size: how many workflow instances stay live in memory, for each workflow.
        cache_bytes: how many bytes of history these have together, for each workflow; one alone may have more. 0: as
            `cache_size` 0.
        buffer_bytes: how many bytes of messages each consumer holds; as many again of those that cannot be handled now.
        shutdown_grace_period: seconds (or timedelta) that running work may take when the worker stops.
        run_blocking: where `def` tasks run; worker threads by default.
        codec: codes payloads, one or a chain of `PayloadCodec`; clients must have the same.
        seed: of the random numbers of retry policies; by chance if not given.
        on_stall: called with the id of an instance that stalls at this worker, and the reason.
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
        seed: int | None = None,
        on_stall: Callable[[str, InfiniticError], None] | None = None,
    ) -> None:
        self.name = ids.check_name("The name of a worker", f"worker-{ids.new_id()[:12]}" if name is None else name)
        self._named = name is not None
        self.stalled: dict[str, InfiniticError] = {}
        """Ids of the instances that stalled at this worker, and why."""
        self._transport = transport
        self._storage = None if storage is None else checked(storage)
        self._clock = clock or SystemClock()
        self.bounds = MemoryBounds(cache_size, cache_bytes, buffer_bytes).check()
        """How much it keeps in memory."""
        self._grace = to_seconds(shutdown_grace_period)
        self._blocking = run_blocking
        self._random = random.Random(seed)
        self._on_stall = on_stall
        self._publisher = Publisher(transport)
        self._coder = coder_of(codec)
        self._client = Client(transport, storage=storage, name=f"{self.name}-client", clock=self._clock, codec=codec)
        self._committer = None if self._storage is None else Committer(self._storage.states)
        self._ending = Ending()
        self._supervisor = Supervisor(self._ending)
        self._trials = Trials()
        self._services: dict[str, tuple[ServiceImplementation, int]] = {}
        self._engines: dict[str, tuple[int, float | None]] = {}
        self._executors: dict[str, tuple[dict[int, WorkflowSpec], int, float | None]] = {}
        self._maintained: set[str] = set()
        self._started: set[tuple[str, str]] = set()
        self._told = Told()
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
    ) -> Self:
        """Make a worker with the services and workflows of a configuration.

        The worker closes the transport and the storage that the file names.

        Args:
            path: the file; `infinitic.yml` by default.
            text: the content of a file, instead of a path.
            config: what `infinitic.config.load` returned, instead of a path.
            codec: as for `Worker`.

        Raises:
            ConfigurationError: the file has mistakes, or a class cannot be imported.
            RegistrationError: a class of the configuration cannot be hosted.
        """
        # Imported here: it needs pydantic, which is slow to import.
        from infinitic.config import load
        from infinitic.worker.configured import import_services, import_workflows

        config = load(path, text=text) if config is None else config
        # Before anything is made: a class that cannot be imported leaves nothing to close.
        services, workflows = import_services(config), import_workflows(config)
        adapters = config.make_adapters()
        grace = config.document.transport.shutdown_grace_period_seconds
        name, bounds = config.document.name, config.document.memory_bounds
        worker = cls(*adapters, name=name, shutdown_grace_period=grace, codec=codec, **bounds._asdict())
        worker._owned = adapters.all
        for each in services:
            worker.add_service_executor(each.make(), **each.options)
        for flow in workflows:
            if flow.executor_options is not None:
                worker.add_workflow_executor(*flow.versions, **flow.executor_options)
            if flow.state_engine_options is not None:
                worker.add_workflow_state_engine(flow.name, **flow.state_engine_options)
        return worker

    # Roles.

    def add_service(
        self,
        implementation: object,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        retry: RetryPolicy | None = None,
        attempt_timeout: float | timedelta | None = None,
    ) -> None:
        """Host a service.

        Args:
            implementation: an instance, or a class or factory that is called without arguments.
            concurrency: how many tasks run at once.
            retry: a retry policy that wins over `@task` and `@service`.
            attempt_timeout: seconds that an attempt may take; wins over `@task` and `@service`.

        Raises `RegistrationError` if it is not a service, or one of its name is hosted here already.
        """
        self.add_service_executor(implementation, concurrency=concurrency, retry=retry, attempt_timeout=attempt_timeout)

    def add_service_executor(
        self,
        implementation: object,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        retry: RetryPolicy | None = None,
        attempt_timeout: float | timedelta | None = None,
    ) -> None:
        """Host only the executor of a service. Arguments as for `add_service`."""
        seconds = timeout("attempt_timeout of a service", attempt_timeout)
        service = (
            implementation
            if isinstance(implementation, ServiceImplementation)
            else implementation_of(instance_of(implementation), retry=retry, attempt_timeout=seconds)
        )
        if service.name in self._services:
            raise RegistrationError(f"This worker hosts a service '{service.name}' already")
        self._services[service.name] = (service, concurrency_of(concurrency))
        self._start_more()

    def add_workflow(
        self,
        *versions: type[Workflow] | Callable[[], Workflow],
        concurrency: int = DEFAULT_CONCURRENCY,
        retention: float | timedelta | None = None,
    ) -> None:
        """Host a workflow: its state engine and its code, fused.

        Args:
            versions: classes of one workflow (or factories without arguments), one for each version.
            concurrency: how many instances are worked on at once.
            retention: seconds to keep closed instances; wins over `@workflow`.

        Raises `RegistrationError` for a class that cannot run, or whose name and version is here already.
        """
        for name in self._add_versions(versions, concurrency, retention):
            if name not in self._engines:
                self.add_workflow_state_engine(name, concurrency=concurrency, retention=retention)
        self._start_more()

    def add_workflow_executor(
        self,
        *versions: type[Workflow] | Callable[[], Workflow],
        concurrency: int = DEFAULT_CONCURRENCY,
        retention: float | timedelta | None = None,
        replay_check: str | None = None,
    ) -> None:
        """Host only the code of a workflow. Arguments as for `add_workflow`; `replay_check` wins over `@workflow`."""
        self._add_versions(versions, concurrency, retention, replay_check)
        self._start_more()

    def _add_versions(
        self,
        versions: Sequence[type[Workflow] | Callable[[], Workflow]],
        concurrency: int,
        retention: float | timedelta | None,
        replay_check: str | None = None,
    ) -> set[str]:
        """Take in the code of these versions, and return the names of their workflows."""
        self._need_storage("A workflow")
        if not versions:
            raise UsageError("add_workflow takes at least one workflow class")
        names: set[str] = set()
        for version in versions:
            spec = spec_of_version(version)
            names.add(spec.name)
            seconds = None if retention is None else to_seconds(retention)
            specs, _, _ = self._executors.setdefault(spec.name, ({}, concurrency_of(concurrency), seconds))
            if spec.version in specs:
                other = specs[spec.version].cls
                raise RegistrationError(
                    f"{spec.cls.__qualname__} and {other.__qualname__} are both version {spec.version} of the workflow "
                    f"'{spec.name}': give one another name or version"
                )
            check = spec.check if replay_check is None else ReplayCheck(replay_check)
            specs[spec.version] = replace(spec, coder=self._coder, check=check)
        return names

    def add_workflow_state_engine(
        self,
        workflow: str | type[Workflow],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        retention: float | timedelta | None = None,
    ) -> None:
        """Host only the state engine of a workflow, given by class or name. Arguments as for `add_workflow`."""
        self._need_storage("A state engine")
        name = workflow if isinstance(workflow, str) else workflow_name(workflow)
        ids.check_name("The name of a workflow", name)
        if name in self._engines:
            raise RegistrationError(f"This worker hosts the state engine of '{name}' already")
        self._engines[name] = (
            concurrency_of(concurrency),
            None if retention is None else to_seconds(retention),
        )
        self._start_more()

    # Life.

    @property
    def ready(self) -> bool:
        """True while it works: all its consumers are subscribed."""
        return self._supervisor.ready

    @property
    def left(self) -> Sequence[str]:
        """What did not end in time when the worker stopped: threads of it may keep the process from ending."""
        return self._ending.left

    @property
    def client(self) -> Client:
        """A client on the transport of this worker, ready while it runs."""
        return self._client

    async def run(self, *, on_ready: Callable[[], None] | None = None) -> None:
        """Work until SIGTERM or SIGINT, then drain: stop taking, finish what runs, hand the rest back.

        A second signal stops at once. A task that raises `SystemExit` or `KeyboardInterrupt` ends the worker as the
        first signal does; then this raises it, so that the process ends with its code. `on_ready` is called when all
        consumers are subscribed and signals heeded.
        Raises `UsageError` if nothing is hosted, or if the worker ran before.
        """
        with stop_signals() as stop:
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
        with tuned():
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
        """Work in the background while the block runs; leaving it drains as SIGTERM does.

        A failure that the worker cannot ride out cancels the block, and is raised by it.

        Args:
            allow_empty: start although nothing is hosted yet; services and workflows may be added at any time.
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
        if not allow_empty and not (self._services or self._engines or self._executors):
            raise UsageError("This worker hosts nothing: add_service(…) or add_workflow(…) first")
        self._used = True
        try:
            if self._storage is not None:
                await insist("Preparing the storage", self._storage.prepare)
            await self._client.start()
            if self._named:
                await warn_of_namesakes(self._transport, topics.client(self._client.name), self.name)
            await self._supervisor.start(self._components())
        except BaseException:
            await self._kill()
            raise

    def _start_more(self) -> None:
        """What is added while the worker runs starts at the next turn of the loop."""
        if self._supervisor.running:
            components = self._components()
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

    def _components(self) -> list[Component]:
        """The components of all roles that have not been started yet."""
        components: list[Component] = []
        for name, (specs, concurrency, retention) in self._executors.items():
            sources: list[int | None] = [None] if self._new("executor", name) else []
            sources += [version for version in specs if self._new("version", f"{version}:{name}")]
            storage, _ = self._need_storage(name)
            executor = partial(WorkflowExecutor, name, specs, self._publisher, storage, self._clock, told=self._told)
            components += [
                executor(concurrency=concurrency, bounds=self.bounds, retention=retention, version=version)
                for version in sources
            ]
        for name, (concurrency, retention) in self._engines.items():
            if self._new("engine", name):
                storage, committer = self._need_storage(name)
                specs, _, _ = self._executors.get(name, ({}, 0, None))
                engine = partial(StateEngine, name, specs, self._publisher, storage, committer, self._clock)
                components.append(
                    engine(
                        concurrency=concurrency,
                        bounds=self.bounds,
                        retention=retention,
                        told=self._told,
                        on_stall=self._stalls,
                    )
                )
                self._maintained.add(name)
                if self._new("maintenance", ""):
                    components.append(Maintenance(self._maintained, storage, self._publisher, self._clock))
        limit = self._transport.capabilities.max_payload
        for name, (service, concurrency) in self._services.items():
            if self._new("service", name):
                threads = blocking.Threads(name) if self._blocking is None else None
                run_blocking = self._blocking or threads or blocking.inline
                attempts = Attempts(
                    service, self.name, self._client, self._clock, run_blocking, self._random, limit, self._coder
                )
                components.append(
                    ServiceExecutor(
                        attempts,
                        self._publisher,
                        self._clock,
                        concurrency,
                        trials=self._trials,
                        threads=threads,
                        leave=self._supervisor.leave,
                    )
                )
        return components

    def _stalls(self, workflow_id: str, fault: InfiniticError) -> None:
        self.stalled[workflow_id] = fault
        if len(self.stalled) > REMEMBERED:
            del self.stalled[next(iter(self.stalled))]
        if self._on_stall is not None:
            self._on_stall(workflow_id, fault)

    def workflow_specs(self, name: str) -> Mapping[int, WorkflowSpec]:
        """The versions of a workflow whose code is hosted here."""
        return self._executors.get(name, ({}, 0, None))[0]

    def _new(self, role: str, name: str) -> bool:
        if (role, name) in self._started:
            return False
        self._started.add((role, name))
        return True

    def _need_storage(self, what: str) -> tuple[Storage, Committer]:
        if self._storage is None or self._committer is None:
            raise UsageError(f"{what} needs a storage: Worker(transport=…, storage=…)")
        return self._storage, self._committer
