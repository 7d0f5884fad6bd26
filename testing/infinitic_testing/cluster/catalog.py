"""What a test has added to a simulation: services and versions of workflows, for any worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from infinitic.codec.payloads import PayloadCodec, make_coder
from infinitic.definitions.service_contract import ServiceImplementation, implementation_of
from infinitic.definitions.services import check_timeout
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.worker.hosted import Hosted
from infinitic.worker.hosting import make_instance, read_version
from infinitic.worker.listeners import DEFAULT_LISTENER, Listener, read_listener
from infinitic.worker.roles import DEFAULT_CONCURRENCY
from infinitic.worker.worker import Worker
from infinitic_testing.cluster.forced_local import ForcedLocal
from infinitic_testing.cluster.layouts import Role, Seat
from infinitic_testing.cluster.system import Versions
from infinitic_testing.cluster.task_faults import TaskFaults


class Added(ABC):
    """Something that was added. It can be hosted by any number of workers."""

    @abstractmethod
    def host(self, worker: Worker, seat: Seat, roles: frozenset[Role]) -> None:
        """Host it on a worker.

        Args:
            worker: a new one, or one that runs.
            seat: of this worker.
            roles: which parts of it the worker hosts.
        """


class AddedService(Added):
    """A service. An instance is shared by all workers; of a class, each worker makes its own.

    Args:
        name: the name of the service.
        implementation: the instance, class, or factory.
        task_faults: the faults of tasks.
        forced_local: says which tasks are local that are not declared so.
        options: all those of `Worker.add_service`.
    """

    def __init__(
        self,
        name: str,
        implementation: object,
        task_faults: TaskFaults,
        forced_local: ForcedLocal,
        options: Mapping[str, Any],
    ) -> None:
        self._name = name
        self._implementation = implementation
        self._task_faults = task_faults
        self._forced_local = forced_local
        self._options = options

    def host(self, worker: Worker, seat: Seat, roles: frozenset[Role]) -> None:
        if Role.TAGS in roles:
            worker.add_service_tag_engine(self._name, concurrency=self._options["concurrency"])
        if Role.SERVICE not in roles:
            return
        service = self._implementation
        if not isinstance(service, ServiceImplementation):
            timeout = check_timeout("attempt_timeout of a service", self._options["attempt_timeout"])
            service = implementation_of(
                make_instance(service),
                retry=self._options["retry"],
                attempt_timeout=timeout,
                local=self._options["local"],
            )
        # These are in the service itself.
        read = ("retry", "attempt_timeout", "local")
        rest = {name: value for name, value in self._options.items() if name not in read}
        service = self._forced_local.apply(service, f"seat {seat.number}")
        worker.add_service_executor(self._task_faults.apply(service), **rest)


class AddedWorkflow(Added):
    """Versions of one or several workflows.

    Args:
        versions: all of them.
        older: without the newest version of each workflow: what workers with old code host.
        engines: the names of those workflows that were not added before.
        options: all those of `Worker.add_workflow`.
    """

    def __init__(
        self, versions: Versions, older: Versions, engines: Collection[str], options: Mapping[str, Any]
    ) -> None:
        self._versions = versions
        self._older = older
        self._engines = engines
        self._options = options

    @property
    def has_older(self) -> bool:
        """True if workers with old code host something else than others."""
        return len(self._older) < len(self._versions)

    def host(self, worker: Worker, seat: Seat, roles: frozenset[Role]) -> None:
        versions = self._older if seat.has_old_code else self._versions
        options = dict(self._options)
        if seat.settings.concurrency is not None:
            options["concurrency"] = min(seat.settings.concurrency, options["concurrency"])
        if Role.CODE in roles and versions:
            worker.add_workflow_executor(*versions, **options)
        if Role.ENGINE in roles:
            for name in self._engines:
                worker.add_workflow_state_engine(name, **options)
        if Role.TAGS in roles:
            for name in self._engines:
                worker.add_workflow_tag_engine(name, concurrency=options["concurrency"])


class AddedListener(Added):
    """An event listener. Every second seat has it, so one may run while another does not.

    Args:
        listener: the function.
        options: all those of `Worker.add_event_listener`. They name services and workflows.
    """

    def __init__(self, listener: Listener, options: Mapping[str, Any]) -> None:
        self._listener = listener
        self._options = options

    def host(self, worker: Worker, seat: Seat, roles: frozenset[Role]) -> None:
        worker.events = True
        if seat.number % 2 == 0:
            worker.add_event_listener(self._listener, **self._options)


class Catalog:
    """Everything that was added so far, in order.

    Args:
        codec: encodes payloads.
        task_faults: the faults of tasks.
        forced_local: says which tasks are local that are not declared so.
    """

    def __init__(
        self,
        codec: PayloadCodec | Sequence[PayloadCodec] | None,
        task_faults: TaskFaults,
        forced_local: ForcedLocal,
    ) -> None:
        self._task_faults = task_faults
        self._forced_local = forced_local
        self._hosted = Hosted(make_coder(codec))
        self._added: list[Added] = []

    def __len__(self) -> int:
        return len(self._added)

    def __iter__(self) -> Iterator[tuple[int, Added]]:
        return iter(enumerate(self._added))

    def add_service(self, implementation: object, options: Mapping[str, Any]) -> Added:
        """Check and remember a service. Errors are those of `Worker.add_service`."""
        options = {
            "concurrency": DEFAULT_CONCURRENCY,
            "retry": None,
            "attempt_timeout": None,
            "batch_max_messages": None,
            "batch_max_seconds": None,
            "local": None,
            **options,
        }
        name = self._hosted.add_service(implementation, **options)
        return self._remember(AddedService(name, implementation, self._task_faults, self._forced_local, options))

    def add_workflow(self, versions: Versions, options: Mapping[str, Any]) -> Added:
        """Check and remember workflows. Errors are those of `Worker.add_workflow`."""
        options = {"concurrency": DEFAULT_CONCURRENCY, "retention": None, **options}
        known = set(self._hosted.code)
        names = self._hosted.add_versions(versions, replay_check=None, **options)
        return self._remember(AddedWorkflow(versions, _leave_newest_out(versions), sorted(names - known), options))

    def add_event_listener(self, listener: Listener, options: Mapping[str, Any]) -> Added:
        """Check and remember an event listener. Errors are those of `Worker.add_event_listener`.

        By default it listens to all that was added before it.
        """
        options = {
            "name": DEFAULT_LISTENER,
            "services": list(self._hosted.services),
            "workflows": list(self._hosted.code),
            "without_services": (),
            "without_workflows": (),
            "types": None,
            "max_events": 1000,
            "max_seconds": 1.0,
            **{name: given for name, given in options.items() if given is not None},
        }
        self._hosted.add_listener(read_listener(listener, **options))
        return self._remember(AddedListener(listener, options))

    @property
    def services(self) -> Collection[str]:
        """The names of the services that were added."""
        return self._hosted.services

    def find_specs(self, workflow: str) -> Mapping[int, WorkflowSpec]:
        """Return the versions of a workflow that were added, by its name."""
        return self._hosted.versions_of(workflow)

    def _remember(self, added: Added) -> Added:
        self._added.append(added)
        return added


def _leave_newest_out(versions: Versions) -> Versions:
    """Return the versions without the newest one of each workflow. A single version stays."""
    specs = [read_version(version) for version in versions]
    newest = dict[str, int]()
    oldest = dict[str, int]()
    for spec in specs:
        newest[spec.name] = max(spec.version, newest.get(spec.name, spec.version))
        oldest[spec.name] = min(spec.version, oldest.get(spec.name, spec.version))
    return [
        version
        for version, spec in zip(versions, specs, strict=True)
        if spec.version != newest[spec.name] or newest[spec.name] == oldest[spec.name]
    ]
