"""Tells workflow classes from service classes, without importing what either is made of."""

from __future__ import annotations

WORKFLOW_MARK = "__infinitic_workflow__"
"""The attribute that is true for `Workflow` and its subclasses."""


def is_workflow(cls: type) -> bool:
    """Tell whether a class is a workflow: whether it derives from `infinitic.Workflow`."""
    return getattr(cls, WORKFLOW_MARK, False) is True
