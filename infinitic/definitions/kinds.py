"""Tells workflow classes from service classes, without importing what either is made of."""

from __future__ import annotations

import inspect

WORKFLOW_MARK = "__infinitic_workflow__"
"""The attribute that is true for `Workflow` and its subclasses."""


def is_workflow(cls: type) -> bool:
    """Tell whether a class is a workflow: whether it derives from `infinitic.Workflow`."""
    return getattr(cls, WORKFLOW_MARK, False) is True


def is_contract(cls: type) -> bool:
    """Tell whether a class describes a workflow or a service without being one: ABC or Protocol."""
    return inspect.isabstract(cls) or bool(getattr(cls, "_is_protocol", False))
