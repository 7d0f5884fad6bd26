"""What is given to a worker to host: instances, classes and factories, checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FunctionType, MethodType
from typing import Any, cast

from infinitic.definitions.workflow_spec import WorkflowSpec, spec_of
from infinitic.definitions.workflows import Workflow
from infinitic.errors import RegistrationError, UsageError


def check_concurrency(value: object) -> int:
    """Return how many things are done at once, as it was given.

    Raises:
        UsageError: it is no whole number above zero.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"concurrency must be a whole number above zero, got {value!r}")
    return value


def check_rate(value: object) -> float | None:
    """Return how many attempts begin in a second at most; None: any number.

    Raises:
        UsageError: it is no number above zero.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"max_per_second must be a number above zero, got {value!r}")
    return float(value)


def make_instance(implementation: object) -> object:
    """Return an instance of a service. Call its class or factory if that was given.

    Raises:
        RegistrationError: the class or factory needs arguments.
        UsageError: it is a workflow.
    """
    given: Any = implementation
    if isinstance(implementation, type):
        if issubclass(implementation, Workflow):
            name = implementation.__qualname__
            raise UsageError(f"{name} is a workflow, not a service: add_workflow({name}) hosts it")
        if inspect.isabstract(given):
            raise RegistrationError(f"{implementation.__qualname__} is abstract: host a class that implements it")
    elif not isinstance(implementation, FunctionType | MethodType | partial):
        return implementation
    factory = cast("Callable[[], object]", implementation)
    _check_callable("add_service an instance, or", factory)
    made = factory()
    if made is None:
        raise UsageError(f"{_name(factory)} returned None: a factory returns the service that it made")
    return made


def read_version(version: Any) -> WorkflowSpec:
    """Read a workflow class, or the class of what a factory makes.

    Raises:
        UsageError: it is something else.
        RegistrationError: the class or factory needs arguments.
    """
    if isinstance(version, type):
        spec = spec_of(version)
        if not spec.plain:
            _check_callable("add_workflow", version)
        return spec
    if isinstance(version, Workflow):
        name = type(version).__qualname__
        raise UsageError(
            f"add_workflow makes an object for each instance: give the class {name}, or a factory, lambda: {name}(…)"
        )
    if not callable(version):
        raise UsageError(f"add_workflow takes workflow classes or factories, got {version!r}")
    _check_callable("add_workflow", version)
    factory = cast("Callable[[], Workflow]", version)
    return replace(spec_of(type(factory())), factory=factory)


def _check_callable(given_to: str, factory: Callable[..., object]) -> None:
    """Raise `RegistrationError` if a class or factory cannot be called without arguments."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return  # it is written in C: calling it tells
    try:
        signature.bind()
    except TypeError as error:
        needed = [each.name for each in signature.parameters.values() if each.default is each.empty]
        call = f"{_name(factory)}({', '.join(f'{each}=…' for each in needed)})"
        raise RegistrationError(
            f"{_name(factory)} cannot be called without arguments ({error}): give {given_to} a factory, lambda: {call}"
        ) from error


def _name(factory: Callable[..., object]) -> str:
    return str(getattr(factory, "__qualname__", repr(factory))).rpartition("<locals>.")[2]
