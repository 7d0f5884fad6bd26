"""Tells workflow classes from service classes, without importing what either is made of."""

from __future__ import annotations

import inspect
from typing import Any

from infinitic.errors import UsageError

WORKFLOW_MARK = "__infinitic_workflow__"
"""The attribute that is true for `Workflow` and its subclasses."""


def is_workflow(cls: type) -> bool:
    """Tell whether a class is a workflow: whether it derives from `infinitic.Workflow`."""
    return getattr(cls, WORKFLOW_MARK, False) is True


def is_contract(cls: type) -> bool:
    """Tell whether a class describes a workflow or a service without being one: ABC or Protocol."""
    return inspect.isabstract(cls) or bool(getattr(cls, "_is_protocol", False))


def check_class(what: str, kind: str, given: object) -> type[Any]:
    """Check that something is a class.

    Args:
        what: what was given it, such as "new_service": the error begins so.
        kind: what the class should be of: "service" or "workflow".
        given: what should be a class.

    Returns:
        The class.

    Raises:
        UsageError: it is none, with a hint what to give instead.
    """
    if isinstance(given, type):
        return given
    if isinstance(given, str | int | float | None) or inspect.isroutine(given):
        raise UsageError(f"{what} takes the class of a {kind}, got {given!r}")
    name = type(given).__qualname__
    raise UsageError(f"{what} takes the class of a {kind}, got an instance of {name}: give {name} itself")
