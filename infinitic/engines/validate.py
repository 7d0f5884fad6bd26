"""What an input may say about an instance: checked against the head before anything is done with it.

Names, encodings and sizes are checked when a message is decoded. Here is what only the head can tell.
"""

from __future__ import annotations

import math
from typing import assert_never

from infinitic import ids
from infinitic.bounds import MAX_SECONDS
from infinitic.engines.state import WorkflowHead
from infinitic.errors import InfiniticError, UsageError
from infinitic.limits import MAX_VERSION
from infinitic.messages.commands import (
    CancelMethod,
    CancelPosition,
    CompleteMethod,
    FailMethod,
    RecordInline,
    RefuseCall,
    ScheduleTask,
    StartTimer,
)
from infinitic.messages.engine import Decision
from infinitic.messages.outcomes import WorkflowStatus

MAX_DECIDED = 32_768
"""Commands in one decision. Executors stop well before."""
MAX_DIGEST = 64
MAX_TAKEN = 2**31 - 1


class InvalidInput(InfiniticError):
    """An input that decodes, but says what cannot be. It goes to the dead letters alone; its instance goes on."""


def check_decision(head: WorkflowHead, decision: Decision) -> None:
    """Raise `InvalidInput` if no code can have decided this for the activation that runs.

    Nothing is allocated before: positions become bits in the head.
    """
    if len(decision.commands) > MAX_DECIDED:
        raise InvalidInput(f"A decision of {len(decision.commands):,} commands; {MAX_DECIDED:,} are possible")
    if decision.taken is not None and not 0 < decision.taken <= MAX_TAKEN:
        raise InvalidInput(f"A decision for {decision.taken} of the stimuli")
    if not 0 <= decision.version <= MAX_VERSION:
        raise InvalidInput(f"A decision of version {decision.version}")
    if not 0 <= decision.retention <= MAX_SECONDS:
        raise InvalidInput(f"A decision with a retention of {decision.retention} s")
    if len(decision.digest) > MAX_DIGEST:
        raise InvalidInput(f"A decision with a digest of {len(decision.digest):,} characters")
    running = {method.id for method in head.methods if method.status is WorkflowStatus.RUNNING}
    position = head.position
    for command in decision.commands:
        match command:
            case ScheduleTask():
                position = _next(position, command.position)
                _check_instant(command.timeout_at)
                _check_names(command)
            case StartTimer():
                position = _next(position, command.position)
                _check_instant(command.due)
            case RecordInline():
                position = _next(position, command.position)
            case CancelPosition():
                if not 0 <= command.position < position:
                    raise InvalidInput(f"A decision cancels position {command.position}, which was never asked for")
            case CompleteMethod() | FailMethod() | CancelMethod():
                if command.method_id not in running:
                    raise InvalidInput(f"A decision ends the method {command.method_id[:80]!r}, which does not run")
                running.remove(command.method_id)
            case RefuseCall():
                pass
            case _:
                assert_never(command)


def _next(free: int, position: int) -> int:
    """Positions count on, without a gap: a history with one is taken for damaged."""
    if position != free:
        raise InvalidInput(f"A decision asks for something at position {position}; the next free one is {free}")
    return position + 1


def _check_instant(instant: float | None) -> None:
    if instant is not None and not math.isfinite(instant):
        raise InvalidInput(f"A decision waits until {instant}")


def _check_names(command: ScheduleTask) -> None:
    try:
        ids.check_name("The name of a service", command.service)
        ids.check_name("The name of a task", command.task)
        for tag in command.tags:
            ids.check_name("A tag", tag)
    except UsageError as error:
        raise InvalidInput(f"A decision asks for a task that cannot be: {error}") from error
