"""`continue_as_new`: the first method leaves its code, and hands over to the next run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from msgspec import Raw

from infinitic.definitions.channels import BoundChannel
from infinitic.definitions.workflow_spec import MethodSpec, WorkflowSpec
from infinitic.errors import UsageError
from infinitic.messages.commands import ContinueRun
from infinitic.messages.events import Carry, MethodStarted


class ContinueRequested(BaseException):
    """The first method asks for the next run. Nothing of its code runs after this.

    Like a cancellation, it crosses `except Exception`.
    """

    def __init__(self, method: str, arguments: Raw) -> None:
        super().__init__(f"The next run begins with {method}")
        self.method = method
        self.arguments = arguments


def find_request(error: BaseException) -> ContinueRequested | None:
    """Find the request in what left a method. A task group wraps what leaves its block."""
    found = error
    while isinstance(found, BaseExceptionGroup):
        first, *others = cast("BaseExceptionGroup[BaseException]", found).exceptions
        if others:
            return None
        found = first
    return found if isinstance(found, ContinueRequested) else None


def find_method(spec: WorkflowSpec, workflow: object, method: object) -> MethodSpec:
    """Find the method with which the next run is to begin.

    Raises:
        UsageError: it is no method of this workflow.
    """
    found = spec.attributes.get(getattr(method, "__name__", ""))
    if found is None or getattr(method, "__self__", None) is not workflow:
        raise UsageError(
            f"continue_as_new takes a method of this workflow, as in self.continue_as_new(self.run, …), got {method!r}"
        )
    return found


def make_carry(
    next_run: ContinueRun,
    held: Iterable[MethodStarted],
    channels: Mapping[str, BoundChannel[Any]],
    tags: tuple[str, ...],
    custom_id: str,
) -> Carry:
    """Make what this run hands over.

    Args:
        next_run: what the first method asked for.
        held: methods that were called since then.
        channels: those of the instance, by name.
        tags: those of the instance.
        custom_id: that of the instance; empty: it has none.
    """
    signals = [signal for channel in channels.values() for signal in channel.list_kept()]
    return Carry(next_run.method, next_run.arguments, tuple(signals), tuple(held), tags, custom_id)
