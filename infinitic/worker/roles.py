"""The roles of a worker: what it can be told to host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any

from infinitic.definitions.retries import RetryPolicy
from infinitic.definitions.workflows import Workflow
from infinitic.runtime.event_listener.conversion import EventReader
from infinitic.storage import Storage
from infinitic.worker.components import ComponentFactory
from infinitic.worker.hosted import Hosted
from infinitic.worker.listeners import DEFAULT_LISTENER, Listener, read_listener

DEFAULT_CONCURRENCY = 100
"""How many tasks, instances or tags are worked on at once, for each thing that is hosted."""


class Roles(ABC):
    """A part of `Worker`: each method has it host one more thing, also while it runs."""

    _hosted: Hosted
    _components: ComponentFactory
    _storage: Storage | None

    @abstractmethod
    def _start_more(self) -> None:
        """What is added while the worker runs starts at the next turn of the loop."""

    def add_service(
        self,
        implementation: object,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        retry: RetryPolicy | None = None,
        attempt_timeout: float | timedelta | None = None,
        batch_max_messages: int | None = None,
        batch_max_seconds: float | timedelta | None = None,
        max_per_second: float | None = None,
        local: bool | None = None,
    ) -> None:
        """Host a service: run its tasks. If the worker has a storage, it has its tag engine, too.

        Args:
            implementation: an instance, or a class or factory that is called without arguments.
            concurrency: how many tasks and batches run at once.
            retry: a retry policy that wins over those of `@task` and `@service`.
            attempt_timeout: seconds (or timedelta) that an attempt may take. It wins over those of
                `@task` and `@service`.
            batch_max_messages: how many tasks a batch has at most. It wins over those of `@batch`.
            batch_max_seconds: seconds (or timedelta) that the first task of a batch waits for
                others. It wins over those of `@batch`.
            max_per_second: how many attempts begin in a second at most, in this worker. They are
                spread evenly. Retries count, and each task of a batch. It may be a fraction.
            local: whether workflows whose engine and code run in this worker run these tasks
                themselves, without messages. It wins over those of `@task` and `@service`.

        Raises:
            RegistrationError: it is not a service, or this worker already hosts one of its name.
            UsageError: a number cannot be one.
        """
        name = self._hosted.add_service(
            implementation,
            concurrency,
            retry,
            attempt_timeout,
            batch_max_messages,
            batch_max_seconds,
            max_per_second,
            local,
        )
        if self._storage is not None and name not in self._hosted.service_tag_engines:
            self._hosted.add_service_tag_engine(name, concurrency)
        self._start_more()

    def add_service_executor(
        self,
        implementation: object,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        retry: RetryPolicy | None = None,
        attempt_timeout: float | timedelta | None = None,
        batch_max_messages: int | None = None,
        batch_max_seconds: float | timedelta | None = None,
        max_per_second: float | None = None,
        local: bool | None = None,
    ) -> None:
        """Host only the executor of a service. Arguments and errors are those of `add_service`."""
        self._hosted.add_service(
            implementation,
            concurrency,
            retry,
            attempt_timeout,
            batch_max_messages,
            batch_max_seconds,
            max_per_second,
            local,
        )
        self._start_more()

    def add_service_tag_engine(self, service: str | type[Any], *, concurrency: int = DEFAULT_CONCURRENCY) -> None:
        """Host only the tag engine of a service: which tasks have a tag, messages by tag.

        Args:
            service: its class, or its name.
            concurrency: how many tags are worked on at once.

        Raises:
            RegistrationError: it is no class of a service, or this worker already hosts that tag
                engine.
            UsageError: this worker has no storage, or an argument cannot be.
        """
        self._components.need_storage("A tag engine")
        self._hosted.add_service_tag_engine(service, concurrency)
        self._start_more()

    def add_workflow(
        self,
        *versions: type[Workflow] | Callable[[], Workflow],
        concurrency: int = DEFAULT_CONCURRENCY,
        retention: float | timedelta | None = None,
    ) -> None:
        """Host a workflow: its state engine and its code, fused, and its tag engine.

        Args:
            versions: classes of one workflow (or factories without arguments), one for each
                version. A new instance takes the highest version.
            concurrency: how many instances are worked on at once.
            retention: seconds (or timedelta) to keep closed instances. It wins over that of
                `@workflow`.

        Raises:
            RegistrationError: a class cannot run, or this worker already hosts its name and
                version.
            UsageError: this worker has no storage, or an argument cannot be.
        """
        for name in self._add_versions(versions, concurrency, retention):
            if name not in self._hosted.state_engines:
                self.add_workflow_state_engine(name, concurrency=concurrency, retention=retention)
            if name not in self._hosted.tag_engines:
                self.add_workflow_tag_engine(name, concurrency=concurrency)
        self._start_more()

    def add_workflow_executor(
        self,
        *versions: type[Workflow] | Callable[[], Workflow],
        concurrency: int = DEFAULT_CONCURRENCY,
        retention: float | timedelta | None = None,
        replay_check: str | None = None,
    ) -> None:
        """Host only the code of a workflow: a state engine on another worker asks for it.

        Arguments and errors are those of `add_workflow`.

        Args:
            replay_check: "none", "simple" or "strict" (see `@workflow`), which it wins over.
        """
        self._add_versions(versions, concurrency, retention, replay_check)
        self._start_more()

    def add_event_listener(
        self,
        listener: Listener | type[Any],
        *,
        services: Collection[str | type[Any]] | None = None,
        workflows: Collection[str | type[Workflow]] | None = None,
        max_events: int = 1000,
        max_seconds: float | timedelta = 1.0,
        name: str = DEFAULT_LISTENER,
        types: Collection[str] | None = None,
        without_services: Collection[str | type[Any]] = (),
        without_workflows: Collection[str | type[Workflow]] = (),
    ) -> None:
        """Host an event listener: call a function with what happens, in batches.

        It gets what is published by workers with `events=True`. Its events are acknowledged when it
        returns. If it raises, it is called again with the same ones, later each time. An event may
        come twice: it has the same `id` then.

        Listeners of different names each get all events. Those of one name, on several workers,
        share them. A listener gets what happens after it has first started.

        It needs the library `cloudevents`: ``pip install "infinitic[events]"``.

        Args:
            listener: a function, `def` or `async def`, that takes a list of events of the class
                `cloudevents.core.v1.event.CloudEvent`. Or a class with such a method `__call__`.
            services: the services to listen to, by class or name. None: those that this worker
                hosts.
            workflows: the workflows to listen to, by class or name. None: those that this worker
                hosts.
            max_events: how many events a call gets at most, 10,000 or less.
            max_seconds: how long an event waits for others, in seconds (or timedelta).
            name: that of the listener, on all workers.
            types: the types of events that it gets, such as "task.failed", see `EventType`. None:
                all.
            without_services: services that it does not listen to.
            without_workflows: workflows that it does not listen to.

        Raises:
            RegistrationError: it cannot be called with a list, or this worker has a listener of
                this name.
            MissingDriverError: `cloudevents` is not installed.
            UsageError: there is no such type of event, or an argument cannot be.
        """
        hosted = read_listener(
            listener,
            name=name,
            services=services,
            workflows=workflows,
            without_services=without_services,
            without_workflows=without_workflows,
            types=types,
            max_events=max_events,
            max_seconds=max_seconds,
        )
        EventReader(None)  # says now that the library is missing
        self._hosted.add_listener(hosted)
        self._start_more()

    def _add_versions(
        self,
        versions: Sequence[type[Workflow] | Callable[[], Workflow]],
        concurrency: int,
        retention: float | timedelta | None,
        replay_check: str | None = None,
    ) -> set[str]:
        self._components.need_storage("A workflow")
        return self._hosted.add_versions(versions, concurrency, retention, replay_check)

    def add_workflow_state_engine(
        self,
        workflow: str | type[Workflow],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        retention: float | timedelta | None = None,
    ) -> None:
        """Host only the state engine of a workflow: its code runs on other workers.

        Args:
            workflow: its class, or its name.
            concurrency: how many instances are worked on at once.
            retention: seconds (or timedelta) to keep closed instances, where the executor names
                none.

        Raises:
            RegistrationError: this worker already hosts that state engine.
            UsageError: this worker has no storage, or an argument cannot be.
        """
        self._components.need_storage("A state engine")
        self._hosted.add_state_engine(workflow, concurrency, retention)
        self._start_more()

    def add_workflow_tag_engine(
        self, workflow: str | type[Workflow], *, concurrency: int = DEFAULT_CONCURRENCY
    ) -> None:
        """Host only the tag engine of a workflow: who has a tag or custom id, messages by tag.

        Args:
            workflow: its class, or its name.
            concurrency: how many tags are worked on at once.

        Raises:
            RegistrationError: this worker already hosts that tag engine.
            UsageError: this worker has no storage, or an argument cannot be.
        """
        self._components.need_storage("A tag engine")
        self._hosted.add_tag_engine(workflow, concurrency)
        self._start_more()
