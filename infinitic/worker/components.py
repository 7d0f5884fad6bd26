"""Makes the components of a worker: one consumer for each thing that it hosts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial

from infinitic.client.client import Client
from infinitic.clock import Clock
from infinitic.codec.payloads import Coder
from infinitic.errors import InfiniticError, UsageError
from infinitic.middleware.chain import Middlewares
from infinitic.runtime.event_listener.conversion import EventReader
from infinitic.runtime.event_listener.listener import EventListener
from infinitic.runtime.event_switch import EventSwitch
from infinitic.runtime.lifecycle.supervisor import Component
from infinitic.runtime.local_tasks import LocalRunner
from infinitic.runtime.memory_bounds import MemoryBounds
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor import blocking
from infinitic.runtime.service_executor.attempt import Attempts
from infinitic.runtime.service_executor.deaths import Trials
from infinitic.runtime.service_executor.executor import ServiceExecutor
from infinitic.runtime.state_engine.engine import StateEngine
from infinitic.runtime.state_engine.group_commit import GroupCommit
from infinitic.runtime.state_engine.maintenance import Maintenance
from infinitic.runtime.tag_engine.engine import WorkflowTagEngine
from infinitic.runtime.tag_engine.task_engine import ServiceTagEngine
from infinitic.runtime.versions import Told
from infinitic.runtime.workflow_executor.executor import WorkflowExecutor
from infinitic.shared_commit import find_shared_commit
from infinitic.storage import Storage
from infinitic.transport import Transport
from infinitic.worker.hosted import Hosted
from infinitic.worker.task_context import make_task_context


class ComponentFactory:
    """Makes each component of a worker once, also when something is hosted while the worker runs.

    Args:
        worker_name: the name of the worker, which tasks may ask for.
        hosted: what the worker hosts.
        run_blocking: where `def` tasks run; None: in threads of each service.
        rng: the random numbers of retry policies.
        on_stall: called with the id of an instance that stalls, and the reason.
        leave: called with what a task raises to end the process.
        event_switch: whether event listeners are told.
    """

    def __init__(
        self,
        worker_name: str,
        hosted: Hosted,
        transport: Transport,
        storage: Storage | None,
        clock: Clock,
        *,
        client: Client,
        coder: Coder | None,
        middlewares: Middlewares,
        bounds: MemoryBounds,
        run_blocking: blocking.Blocking | None,
        rng: random.Random,
        on_stall: Callable[[str, InfiniticError], None],
        leave: Callable[[BaseException], None],
        event_switch: EventSwitch,
    ) -> None:
        self._worker_name = worker_name
        self._hosted = hosted
        self._transport = transport
        self._storage = storage
        self._clock = clock
        self._client = client
        self._coder = coder
        self._middlewares = middlewares
        self._bounds = bounds
        self._run_blocking = run_blocking
        self._random = rng
        self._on_stall = on_stall
        self._leave = leave
        self._event_switch = event_switch
        self._listeners: dict[str, EventListener] = {}
        self.publisher = Publisher(transport)
        """What all components publish with."""
        self._group_commit = None if storage is None else GroupCommit(storage.states)
        self._shared_commit = None if storage is None else find_shared_commit(transport, storage)
        self._told = Told()
        self._trials = Trials()
        self._maintained: set[str] = set()
        self._local_runners: dict[str, LocalRunner] = {}
        self._upkeep: Maintenance | None = None
        self._made: set[tuple[str, str, int | None]] = set()

    def make_new(self) -> list[Component]:
        """The components of everything hosted that has none yet."""
        return [
            # They are subscribed before anything happens here.
            *self._event_listeners(),
            *self._workflow_executors(),
            *self._state_engines(),
            *self._tag_engines("tag engine", WorkflowTagEngine, self._hosted.tag_engines),
            *self._tag_engines("service tag engine", ServiceTagEngine, self._hosted.service_tag_engines),
            *self._service_executors(),
        ]

    def check_listeners(self) -> None:
        """Check that each event listener listens to something.

        Raises:
            UsageError: one does not.
        """
        for name, listener in self._listeners.items():
            if not list(listener.topics):
                raise UsageError(
                    f"The event listener '{name}' listens to nothing, because this worker hosts no service and no "
                    "workflow: say which ones, services=[…] or workflows=[…]"
                )

    def need_storage(self, what: str) -> Storage:
        """Return the storage. Without one, raise a `UsageError` that says that `what` needs it."""
        if self._storage is None:
            raise UsageError(f"{what} needs a storage: Worker(transport=…, storage=…)")
        return self._storage

    def _workflow_executors(self) -> list[Component]:
        components: list[Component] = []
        for name, code in self._hosted.code.items():
            # One takes what any version can run, and one for each version takes what waits for it.
            sources = [version for version in (None, *code.versions) if self._is_new("code", name, version)]
            if not sources:
                continue
            storage = self.need_storage(name)
            make = partial(WorkflowExecutor, name, code.versions, self.publisher, storage, self._clock, told=self._told)
            components += [
                make(concurrency=code.concurrency, bounds=self._bounds, retention=code.retention, version=version)
                for version in sources
            ]
        return components

    def _state_engines(self) -> list[Component]:
        components: list[Component] = []
        for name, engine in self._hosted.state_engines.items():
            if not self._is_new("state engine", name):
                continue
            storage = self.need_storage(name)
            assert self._group_commit is not None
            components.append(
                StateEngine(
                    name,
                    self._hosted.versions_of(name),
                    self.publisher,
                    storage,
                    self._group_commit,
                    self._clock,
                    concurrency=engine.concurrency,
                    bounds=self._bounds,
                    retention=engine.retention,
                    told=self._told,
                    on_stall=self._on_stall,
                    purge_soon=self._find_maintenance(storage).purge_soon,
                    event_switch=self._event_switch,
                    shared_commit=self._shared_commit,
                    runners=self._local_runners,
                )
            )
            self._maintained.add(name)
            components += self._maintenance(storage)
        return components

    def _maintenance(self, storage: Storage) -> list[Component]:
        """One for all engines of this worker."""
        if not self._is_new("maintenance", ""):
            return []
        return [self._find_maintenance(storage)]

    def _find_maintenance(self, storage: Storage) -> Maintenance:
        if self._upkeep is None:
            self._upkeep = Maintenance(self._maintained, storage, self.publisher, self._clock)
        return self._upkeep

    def _tag_engines(
        self, kind: str, make: type[WorkflowTagEngine] | type[ServiceTagEngine], hosted: Mapping[str, int]
    ) -> list[Component]:
        components: list[Component] = []
        for name, concurrency in hosted.items():
            if not self._is_new(kind, name):
                continue
            storage = self.need_storage(name)
            buffer_bytes = self._bounds.buffer_bytes
            components.append(
                make(name, self.publisher, storage, self._clock, concurrency=concurrency, buffer_bytes=buffer_bytes)
            )
            components += self._maintenance(storage)
        return components

    def _service_executors(self) -> list[Component]:
        components: list[Component] = []
        limit = self._transport.capabilities.max_payload
        for name, service in self._hosted.services.items():
            if not self._is_new("service", name):
                continue
            threads = blocking.Threads(name) if self._run_blocking is None else None
            run_blocking = self._run_blocking or threads or blocking.inline
            attempts = Attempts(
                service.implementation,
                self._worker_name,
                partial(make_task_context, self._worker_name, self._client),
                self._clock,
                run_blocking,
                self._random,
                limit,
                self._coder,
                self._middlewares.task,
            )
            executor = ServiceExecutor(
                attempts,
                self.publisher,
                self._clock,
                service.concurrency,
                trials=self._trials,
                threads=threads,
                leave=self._leave,
                event_switch=self._event_switch,
                max_per_second=service.max_per_second,
            )
            components.append(executor)
            if executor.local is not None:
                self._local_runners[name] = executor.local
        return components

    def _event_listeners(self) -> list[Component]:
        """Make listeners. Those that run hear of what is hosted since then."""
        components: list[Component] = []
        hosted = self._hosted
        for name, each in hosted.listeners.items():
            listener = self._listeners.get(name)
            if listener is None:
                threads = blocking.Threads(f"event listener {name}") if self._run_blocking is None else None
                listener = self._listeners[name] = EventListener(
                    name,
                    each.call,
                    each.subscription,
                    EventReader(each.types),
                    self.publisher,
                    max_events=each.max_events,
                    max_seconds=each.max_seconds,
                    blocking=self._run_blocking or threads or blocking.inline,
                    close_blocking=None if threads is None else threads.close,
                )
                components.append(listener)
            for topic in each.find_topics(hosted.service_names, hosted.workflow_names):
                listener.listen_to(topic)
        return components

    def _is_new(self, role: str, name: str, version: int | None = None) -> bool:
        """True the first time that it is asked for this component."""
        key = (role, name, version)
        if key in self._made:
            return False
        self._made.add(key)
        return True
