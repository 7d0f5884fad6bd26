"""What one worker hosts: services, state engines and workflow code, each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from infinitic import ids
from infinitic.clock import to_seconds
from infinitic.codec.payloads import Coder
from infinitic.definitions.batch_methods import limit_batch
from infinitic.definitions.batches import check_max_messages, check_max_seconds
from infinitic.definitions.retries import RetryPolicy
from infinitic.definitions.service_contract import ServiceImplementation, implementation_of, read_service_name
from infinitic.definitions.services import check_flag, check_timeout
from infinitic.definitions.workflow_spec import WorkflowSpec, workflow_name
from infinitic.definitions.workflows import ReplayCheck, Workflow
from infinitic.errors import RegistrationError, UsageError
from infinitic.middleware.chain import Middlewares
from infinitic.worker.hosting import check_concurrency, check_rate, make_instance, read_version
from infinitic.worker.listeners import HostedListener


@dataclass(frozen=True)
class HostedService:
    """A service whose tasks run here, `concurrency` of them at once.

    `max_per_second` is how many attempts begin in a second at most; None: any number.
    """

    implementation: ServiceImplementation
    concurrency: int
    max_per_second: float | None = None


@dataclass(frozen=True)
class HostedStateEngine:
    """A state engine that runs here, and works on `concurrency` instances at once.

    `retention` is how many seconds it keeps closed instances; None: what the class says.
    """

    concurrency: int
    retention: float | None


@dataclass(frozen=True)
class HostedCode:
    """The code of a workflow, by version. `concurrency` and `retention` are as for a state engine.

    `versions` grows when further versions are added.
    """

    versions: dict[int, WorkflowSpec]
    concurrency: int
    retention: float | None


class Hosted:
    """Everything that a worker hosts, by name.

    Args:
        coder: encodes the payloads of workflow code.
        middlewares: what stands around its activations.
    """

    def __init__(self, coder: Coder | None, middlewares: Middlewares | None = None) -> None:
        self._middlewares = middlewares or Middlewares()
        self.services: dict[str, HostedService] = {}
        self.state_engines: dict[str, HostedStateEngine] = {}
        self.tag_engines: dict[str, int] = {}
        """The workflows whose tag engine runs here, each with how many tags it works on at once."""
        self.service_tag_engines: dict[str, int] = {}
        """The services whose tag engine runs here, each with how many tags it works on at once."""
        self.listeners: dict[str, HostedListener] = {}
        """The event listeners that run here, by their names."""
        self.code: dict[str, HostedCode] = {}
        self._coder = coder

    def __bool__(self) -> bool:
        engines = self.state_engines or self.tag_engines or self.service_tag_engines
        return bool(self.services or self.code or engines or self.listeners)

    def add_service(
        self,
        implementation: object,
        concurrency: int,
        retry: RetryPolicy | None,
        attempt_timeout: float | timedelta | None,
        batch_max_messages: int | None = None,
        batch_max_seconds: float | timedelta | None = None,
        max_per_second: float | None = None,
        local: bool | None = None,
    ) -> str:
        """Host a service, and return its name.

        Arguments and errors are those of `Worker.add_service`.
        """
        seconds = check_timeout("attempt_timeout of a service", attempt_timeout)
        if not isinstance(implementation, ServiceImplementation):
            instance = make_instance(implementation)
            implementation = implementation_of(
                instance, retry=retry, attempt_timeout=seconds, local=check_flag("local of a service", local)
            )
        if batch_max_messages is not None or batch_max_seconds is not None:
            implementation = _limit_batches(implementation, batch_max_messages, batch_max_seconds)
        name = implementation.name
        if name in self.services:
            raise RegistrationError(f"This worker already hosts a service '{name}'")
        rate = check_rate(max_per_second)
        self.services[name] = HostedService(implementation, check_concurrency(concurrency), rate)
        return name

    def add_service_tag_engine(self, service: str | type[Any], concurrency: int) -> None:
        """Host the tag engine of a service.

        Arguments and errors are those of `Worker.add_service_tag_engine`.
        """
        name = read_service_name("add_service_tag_engine", service)
        if name in self.service_tag_engines:
            raise RegistrationError(f"This worker already hosts the tag engine of the service '{name}'")
        self.service_tag_engines[name] = check_concurrency(concurrency)

    def add_listener(self, listener: HostedListener) -> None:
        """Host an event listener. Errors are those of `Worker.add_event_listener`."""
        if listener.name in self.listeners:
            raise RegistrationError(
                f"This worker already has an event listener '{listener.name}': give each a name, name=…"
            )
        self.listeners[listener.name] = listener

    @property
    def service_names(self) -> list[str]:
        """The services of which something runs here."""
        return list(dict.fromkeys([*self.services, *self.service_tag_engines]))

    @property
    def workflow_names(self) -> list[str]:
        """The workflows of which something runs here."""
        return list(dict.fromkeys([*self.code, *self.state_engines, *self.tag_engines]))

    def add_state_engine(
        self, workflow: str | type[Workflow], concurrency: int, retention: float | timedelta | None
    ) -> None:
        """Host a state engine.

        Arguments and errors are those of `Worker.add_workflow_state_engine`.
        """
        name = _read_name(workflow)
        if name in self.state_engines:
            raise RegistrationError(f"This worker already hosts the state engine of '{name}'")
        self.state_engines[name] = HostedStateEngine(check_concurrency(concurrency), _seconds(retention))

    def add_tag_engine(self, workflow: str | type[Workflow], concurrency: int) -> None:
        """Host a tag engine.

        Arguments and errors are those of `Worker.add_workflow_tag_engine`.
        """
        name = _read_name(workflow)
        if name in self.tag_engines:
            raise RegistrationError(f"This worker already hosts the tag engine of '{name}'")
        self.tag_engines[name] = check_concurrency(concurrency)

    def add_versions(
        self,
        versions: Sequence[type[Workflow] | Callable[[], Workflow]],
        concurrency: int,
        retention: float | timedelta | None,
        replay_check: str | None,
    ) -> set[str]:
        """Host the code of these versions, and return the names of their workflows.

        Arguments and errors are those of `Worker.add_workflow_executor`.
        """
        if not versions:
            raise UsageError("add_workflow takes at least one workflow class")
        names: set[str] = set()
        for version in versions:
            spec = read_version(version)
            names.add(spec.name)
            new = HostedCode({}, check_concurrency(concurrency), _seconds(retention))
            known = self.code.setdefault(spec.name, new).versions
            if spec.version in known:
                other = known[spec.version].cls
                raise RegistrationError(
                    f"{spec.cls.__qualname__} and {other.__qualname__} are both version {spec.version} of the "
                    f"workflow '{spec.name}': give one another name or version"
                )
            check = spec.check if replay_check is None else ReplayCheck(replay_check)
            known[spec.version] = replace(
                spec,
                coder=self._coder,
                check=check,
                around=self._middlewares.activation,
                carried_meta=self._middlewares.carried_meta,
            )
        return names

    def versions_of(self, workflow: str) -> Mapping[int, WorkflowSpec]:
        """Return the versions of a workflow whose code is hosted here.

        The mapping grows when further versions are added.
        """
        code = self.code.get(workflow)
        return {} if code is None else code.versions


def _limit_batches(
    service: ServiceImplementation, max_messages: int | None, max_seconds: float | timedelta | None
) -> ServiceImplementation:
    """Give the batches of a service other limits. Errors are those of `Worker.add_service`."""
    most = None if max_messages is None else check_max_messages("batch_max_messages", max_messages)
    seconds = None if max_seconds is None else check_max_seconds("batch_max_seconds", max_seconds)
    batched = {name: task.batch for name, task in service.tasks.items() if task.batch is not None}
    if not batched:
        raise RegistrationError(f"The service '{service.name}' has no method with @batch: it has no limits of batches")
    limited = {
        name: replace(service.tasks[name], batch=limit_batch(method, most, seconds)) for name, method in batched.items()
    }
    return replace(service, tasks=service.tasks | limited)


def _read_name(workflow: str | type[Workflow]) -> str:
    name = workflow if isinstance(workflow, str) else workflow_name(workflow)
    return ids.check_name("The name of a workflow", name)


def _seconds(retention: Any) -> float | None:
    return None if retention is None else to_seconds(retention)
