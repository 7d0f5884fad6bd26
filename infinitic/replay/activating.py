"""Runs an activation for the first time, inside the middlewares that stand around it.

Replay calls `Instance.activate` itself: no middleware sees what is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infinitic.definitions.home import WorkflowContext
from infinitic.limits import Limits
from infinitic.messages.commands import Command
from infinitic.messages.events import Stimulus
from infinitic.replay.instance import Instance


def activate(
    instance: Instance, at: float, stimuli: Sequence[Stimulus], *, each: bool = True, limits: Limits | None = None
) -> list[Command]:
    """Run an activation. Arguments, result and errors are those of `Instance.activate`."""
    around = instance.spec.around
    if around is None:
        return instance.activate(at, stimuli, each=each, limits=limits)
    return activate_inside(around, instance, at, stimuli, each=each, limits=limits)


def activate_inside(
    around: Callable[[WorkflowContext, Callable[[], None]], None],
    instance: Instance,
    at: float,
    stimuli: Sequence[Stimulus],
    *,
    each: bool = True,
    limits: Limits | None = None,
) -> list[Command]:
    """Run an activation inside middlewares. For the rest see `activate`.

    Raises:
        MiddlewareError: a middleware raised, or did not run the activation exactly once. The
            instance must not be used any more.
    """
    commands: list[Command] = []

    def run() -> None:
        nonlocal commands
        commands = instance.activate(at, stimuli, each=each, limits=limits)

    around(instance.context, run)
    return commands
