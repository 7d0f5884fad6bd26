"""Classes and functions by their paths."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infinitic.errors import ConfigurationError, InfiniticError
from infinitic.registry import service_name
from infinitic.replay.spec import spec_of
from infinitic.workflows import Workflow


def found(path: str) -> Any:
    """What stands at `package.module.Class` or `package.module:Class`; it may be in the working directory.

    Raises `ConfigurationError` in one sentence, whatever importing does.
    """
    module_name, _, name = path.rpartition(":" if ":" in path else ".")
    if not module_name or not name or module_name.startswith("."):
        raise ConfigurationError(f"'{path}' is no path of a class: write package.module.Class")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"there is no module '{error.name}'") from error
        raise ConfigurationError(f"importing {module_name} raised {type(error).__name__}: {error}") from error
    except Exception as error:
        raise ConfigurationError(f"importing {module_name} raised {type(error).__name__}: {error}") from error
    made: Any = module
    for part in name.split("."):
        try:
            made = getattr(made, part)
        except AttributeError:
            raise ConfigurationError(f"the module {module_name} has no '{name}'") from None
    return made


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
        service = implementation()
    except Exception as error:
        raise ConfigurationError(f"making the service raised {type(error).__name__}: {error}") from error
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
