"""Classes and functions by their paths."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from infinitic.config.importing import found, told
from infinitic.definitions.service_contract import service_name
from infinitic.definitions.workflow_spec import spec_of
from infinitic.definitions.workflows import Workflow
from infinitic.errors import ConfigurationError, InfiniticError


def service_class(path: str, name: str) -> type[Any]:
    """The class of the service `name`."""
    cls = _class(path)
    real = _service_name(cls)
    if real != name:
        raise ConfigurationError(f"{path} is the service '{real}', not '{name}'")
    return cls


def service_factory(path: str) -> Any:
    """A function that makes a service."""
    factory = found(path)
    if not callable(factory):
        raise ConfigurationError(f"{path} cannot be called")
    return factory


def made(implementation: Callable[[], object], name: str) -> object:
    """The service `name`, made by its class or factory."""
    try:
        inspect.signature(implementation).bind()
    except TypeError as error:
        hint = (
            "; give `factory`, a function that makes it, instead of `class`" if isinstance(implementation, type) else ""
        )
        raise ConfigurationError(f"it cannot be made without arguments: {error}{hint}") from error
    except ValueError:
        pass  # it has no signature that can be read: calling it will tell
    try:
        service = implementation()
    except Exception as error:
        raise ConfigurationError(f"making the service raised {told(error)}") from error
    real = _service_name(type(service))
    if real != name:
        raise ConfigurationError(f"what was made is the service '{real}', not '{name}'")
    return service


def workflow_class(path: str, name: str) -> type[Workflow]:
    """A class of the workflow `name`."""
    cls = _class(path)
    if not issubclass(cls, Workflow):
        raise ConfigurationError(f"{path} is no workflow: it does not derive from infinitic.Workflow")
    try:
        real = spec_of(cls).name
    except InfiniticError as error:
        raise ConfigurationError(str(error)) from error
    if real != name:
        raise ConfigurationError(f"{path} is the workflow '{real}', not '{name}'")
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise ConfigurationError(
            f"it cannot be made without arguments: {error}; give its parameters defaults, or host it in code with "
            "worker.add_workflow and a factory"
        ) from error
    except ValueError:
        pass  # it has no signature that can be read: making an instance will tell
    return cls


def _service_name(cls: type[Any]) -> str:
    try:
        return service_name(cls)
    except InfiniticError as error:
        raise ConfigurationError(str(error)) from error


def _class(path: str) -> type[Any]:
    cls = found(path)
    if not isinstance(cls, type):
        raise ConfigurationError(f"{path} is not a class")
    return cls
