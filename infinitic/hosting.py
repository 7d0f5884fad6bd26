"""What is given to a worker to host: instances, classes and factories, checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FunctionType, MethodType
from typing import Any, cast

from infinitic.errors import RegistrationError, UsageError
from infinitic.replay.spec import WorkflowSpec, spec_of
from infinitic.workflows import Workflow


def concurrency_of(value: object) -> int:
    """How many things are done at once, as it was given. Raises `UsageError` for what is no such number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"concurrency must be a whole number above zero, got {value!r}")
    return value


def instance_of(implementation: object) -> object:
    """An instance of a service, made by its class or factory if that was given.

    Raises `RegistrationError` for a class or factory that needs arguments.
    """
    if isinstance(implementation, type | FunctionType | MethodType | partial):
        factory = cast("Callable[[], object]", implementation)
        try:
            return factory()
        except TypeError as error:
            raise RegistrationError(f"{implementation!r} cannot be called without arguments: {error}") from error
    return implementation


def _class(version: type[Workflow] | Callable[[], Workflow]) -> type[Workflow]:
    return version if isinstance(version, type) else type(version())


def spec_of_version(version: Any) -> WorkflowSpec:
    """What is known of a workflow class, or of what a factory makes.

    Raises `UsageError` for something else, `RegistrationError` for a class that needs arguments.
    """
    if isinstance(version, type):
        spec = spec_of(version)
        try:
            inspect.signature(version).bind()
        except TypeError as error:
            raise RegistrationError(
                f"{version.__qualname__} cannot be made without arguments ({error}): give add_workflow a factory"
            ) from error
        return spec
    if not callable(version):
        raise UsageError(f"add_workflow takes workflow classes or factories, got {version!r}")
    factory = cast("Callable[[], Workflow]", version)
    return replace(spec_of(_class(factory)), factory=factory)
