"""Imports the services and workflows that a configuration names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infinitic.config import Config
from infinitic.config.nodes import Node
from infinitic.config.problems import Problems
from infinitic.config.sections import (
    ServiceExecutorSection,
    StateEngineSection,
    TagEngineSection,
    WorkflowExecutorSection,
)
from infinitic.definitions.service_contract import service_name
from infinitic.definitions.workflow_spec import spec_of
from infinitic.definitions.workflows import Workflow
from infinitic.errors import ConfigurationError, InfiniticError
from infinitic.importing import describe_error, import_object


@dataclass(frozen=True)
class ConfiguredService:
    """A service of the file whose class or factory was imported.

    Args:
        name: the name of the service.
        implementation: its class or factory, called without arguments.
        executor: what the file says of its executor.
        place: where the file names the class or factory.
    """

    name: str
    implementation: Callable[[], object]
    executor: ServiceExecutorSection
    place: Node = field(repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """The options with which a worker adds it."""
        retry, batch = self.executor.retry, self.executor.batch
        return {
            "concurrency": self.executor.concurrency,
            "attempt_timeout": self.executor.attempt_timeout_seconds,
            "retry": None if retry is None else retry.make_policy(),
            "batch_max_messages": None if batch is None else batch.max_messages,
            "batch_max_seconds": None if batch is None else batch.max_seconds,
            "max_per_second": self.executor.max_per_second,
            "local": self.executor.local,
        }

    def make(self) -> object:
        """Make the service.

        Raises:
            ConfigurationError: it cannot be made, or has another name. The message names the place
                in the file.
        """
        problems = Problems()
        service: object = None
        with problems.collect(self.place):
            service = make_service(self.implementation, self.name)
        problems.raise_if_any()
        return service


@dataclass(frozen=True)
class ConfiguredWorkflow:
    """A workflow of the file whose classes were imported.

    Args:
        name: the name of the workflow.
        versions: its classes, one for each version; none if only its state engine is hosted.
        executor: what the file says of its executor, if there is one.
        state_engine: what the file says of its state engine, if there is one.
        tag_engine: what the file says of its tag engine, if there is one.
    """

    name: str
    versions: tuple[type[Workflow], ...]
    executor: WorkflowExecutorSection | None
    state_engine: StateEngineSection | None
    tag_engine: TagEngineSection | None = None

    @property
    def executor_options(self) -> dict[str, Any] | None:
        """The options with which a worker adds its code; None if it hosts no code."""
        if self.executor is None:
            return None
        retention = self.executor.retention_seconds
        if retention is None and self.state_engine is not None:
            retention = self.state_engine.retention_seconds
        return {
            "concurrency": self.executor.concurrency,
            "retention": retention,
            "replay_check": self.executor.replay_check,
        }

    @property
    def state_engine_options(self) -> dict[str, Any] | None:
        """The options with which a worker adds its state engine; None if it hosts none."""
        if self.state_engine is None:
            return None
        return {"concurrency": self.state_engine.concurrency, "retention": self.state_engine.retention_seconds}

    @property
    def tag_engine_options(self) -> dict[str, Any] | None:
        """The options with which a worker adds its tag engine; None if it hosts none."""
        return None if self.tag_engine is None else {"concurrency": self.tag_engine.concurrency}


def import_services(config: Config) -> list[ConfiguredService]:
    """Import the services of a configuration.

    Raises:
        ConfigurationError: some cannot be imported. The message has all of them, one a line.
    """
    problems = Problems()
    services: list[ConfiguredService] = []
    for index, each in enumerate(config.document.services):
        executor = each.executor
        if executor is None:
            continue
        place = config.reader.find_node("services", index, "executor", "class" if executor.class_path else "factory")
        with problems.collect(place):
            implementation: Callable[[], object] = (
                import_service_class(executor.class_path, each.name)
                if executor.class_path
                else import_service_factory(executor.factory or "")
            )
            services.append(ConfiguredService(each.name, implementation, executor, place))
    problems.raise_if_any()
    return services


def import_workflows(config: Config) -> list[ConfiguredWorkflow]:
    """Import the workflows of a configuration. Raises as `import_services`."""
    problems = Problems()
    workflows: list[ConfiguredWorkflow] = []
    for index, each in enumerate(config.document.workflows):
        versions: list[type[Workflow]] = []
        executor = each.executor
        for number, path in enumerate(executor.paths if executor else ()):
            key = ("class",) if executor and executor.class_path else ("classes", number)
            with problems.collect(config.reader.find_node("workflows", index, "executor", *key)):
                versions.append(import_workflow_class(path, each.name))
        workflows.append(ConfiguredWorkflow(each.name, tuple(versions), executor, each.state_engine, each.tag_engine))
    problems.raise_if_any()
    return workflows


def import_service_class(path: str, name: str) -> type[Any]:
    """Import the class of a service.

    Args:
        path: where the class is: `package.module.Class`.
        name: the name that the service must have.

    Raises:
        ConfigurationError: it cannot be imported, is no class, or is another service.
    """
    cls = _import_class(path)
    found = _read_service_name(cls)
    if found != name:
        raise ConfigurationError(f"{path} is the service '{found}', not '{name}'")
    return cls


def import_service_factory(path: str) -> Callable[[], object]:
    """Import a function that makes a service.

    Raises:
        ConfigurationError: it cannot be imported, or cannot be called.
    """
    factory: Callable[[], object] = import_object(path)
    if not callable(factory):
        raise ConfigurationError(f"{path} cannot be called")
    return factory


def make_service(implementation: Callable[[], object], name: str) -> object:
    """Make a service.

    Args:
        implementation: its class or factory.
        name: the name that the service must have.

    Raises:
        ConfigurationError: the class or factory needs arguments, raises, or makes another service.
    """
    try:
        inspect.signature(implementation).bind()
    except TypeError as error:
        is_class = isinstance(implementation, type)
        hint = "; give `factory`, a function that makes it, instead of `class`" if is_class else ""
        raise ConfigurationError(f"it cannot be made without arguments: {error}{hint}") from error
    except ValueError:
        # Its signature cannot be read. Calling it will tell.
        pass
    try:
        service = implementation()
    except Exception as error:
        raise ConfigurationError(f"making the service raised {describe_error(error)}") from error
    found = _read_service_name(type(service))
    if found != name:
        raise ConfigurationError(f"it makes the service '{found}', not '{name}'")
    return service


def import_workflow_class(path: str, name: str) -> type[Workflow]:
    """Import a class of a workflow.

    Args:
        path: where the class is: `package.module.Class`.
        name: the name that the workflow must have.

    Raises:
        ConfigurationError: it cannot be imported, is no workflow class, is another workflow, or
            needs arguments.
    """
    cls = _import_class(path)
    if not issubclass(cls, Workflow):
        raise ConfigurationError(f"{path} is not a workflow: it does not derive from infinitic.Workflow")
    try:
        found = spec_of(cls).name
    except InfiniticError as error:
        raise ConfigurationError(str(error)) from error
    if found != name:
        raise ConfigurationError(f"{path} is the workflow '{found}', not '{name}'")
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise ConfigurationError(
            f"it cannot be made without arguments: {error}; give its parameters defaults, or host it in code with "
            "worker.add_workflow and a factory"
        ) from error
    except ValueError:
        # Its signature cannot be read. Making an instance will tell.
        pass
    return cls


def _read_service_name(cls: type[Any]) -> str:
    try:
        return service_name(cls)
    except InfiniticError as error:
        raise ConfigurationError(str(error)) from error


def _import_class(path: str) -> type[Any]:
    cls = import_object(path)
    if not isinstance(cls, type):
        raise ConfigurationError(f"{path} is not a class")
    return cls
