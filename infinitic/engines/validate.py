"""Checks what an input says about an instance against its head, before anything is done with it.

Names, encodings and sizes are checked when a message is decoded. Here is what only the head can
tell.
"""

from __future__ import annotations

import math
from typing import assert_never

from infinitic import ids
from infinitic.bounds import MAX_SECONDS
from infinitic.engines.state import WorkflowHead
from infinitic.errors import InfiniticError, UsageError
from infinitic.limits import MAX_OPEN, MAX_VERSION
from infinitic.messages.commands import (
    CallRemote,
    CancelMethod,
    CancelPosition,
    CompleteMethod,
    ContinueRun,
    FailMethod,
    RecordInline,
    RecordPatch,
    RefuseCall,
    Remote,
    ScheduleTask,
    SignalRemote,
    StartChild,
    StartTimer,
)
from infinitic.messages.engine import Decision
from infinitic.messages.outcomes import WorkflowStatus

MAX_DECIDED = 32_768
"""Commands in one decision, without cancelled positions. Executors stop well before that."""
MAX_DIGEST = 64
"""Characters of a digest."""
MAX_HANDED = 2**31 - 1
"""Stimuli in one activation."""


class InvalidInput(InfiniticError):
    """An input can be decoded, but it contradicts the head or exceeds what is possible.

    The message goes to the dead letters, and its instance goes on. If it was the decision that the
    instance waits for, the instance stalls. This is a bug of whoever sent it: read the reason in
    the dead letter.
    """


def check_decision(head: WorkflowHead, decision: Decision) -> None:
    """Check that code can have decided this in the activation that runs.

    Nothing is allocated before. Positions become bits in the head, so a wrong one could take all
    memory.

    Args:
        head: the instance.
        decision: what a workflow executor sent.

    Raises:
        InvalidInput: what is wrong with it.
    """
    if len(decision.commands) > MAX_DECIDED:
        cancelled = sum(type(each) is CancelPosition for each in decision.commands)
        count = len(decision.commands) - min(cancelled, MAX_OPEN)
        if count > MAX_DECIDED:
            raise InvalidInput(f"A decision has {count:,} commands; at most {MAX_DECIDED:,} are possible")
    if decision.handed is not None and not 0 < decision.handed <= MAX_HANDED:
        raise InvalidInput(f"A decision is for {decision.handed} stimuli; possible are 1 to {MAX_HANDED:,}")
    if not 0 <= decision.version <= MAX_VERSION:
        raise InvalidInput(f"A decision is of version {decision.version}; possible are 0 to {MAX_VERSION:,}")
    if not 0 <= decision.retention <= MAX_SECONDS:
        raise InvalidInput(f"A decision has a retention of {decision.retention} s, not 0 to {MAX_SECONDS:,.0f} s")
    if len(decision.digest) > MAX_DIGEST:
        raise InvalidInput(f"A decision has a digest of {len(decision.digest):,} characters, not {MAX_DIGEST} or less")
    running = {method.id for method in head.methods if method.status is WorkflowStatus.RUNNING}
    position = head.position
    for command in decision.commands:
        match command:
            case ScheduleTask():
                position = _count_position(position, command.position)
                _check_instant(command.timeout_at)
                _check_names(command)
            case StartTimer():
                position = _count_position(position, command.position)
                _check_instant(command.due)
            case RecordInline():
                position = _count_position(position, command.position)
            case CancelPosition():
                if not 0 <= command.position < position:
                    raise InvalidInput(f"A decision cancels position {command.position}, which nothing has asked for")
            case CompleteMethod() | FailMethod() | CancelMethod():
                if command.method_id not in running:
                    raise InvalidInput(f"A decision ends the method {command.method_id[:80]!r}, which does not run")
                running.remove(command.method_id)
            case ContinueRun():
                if command.method_id != head.id or command.method_id not in running:
                    raise InvalidInput(f"A decision continues the method {command.method_id[:80]!r}, not the first one")
            case RefuseCall() | RecordPatch():
                pass
            case StartChild() | CallRemote():
                position = _count_position(position, command.position)
                _check_instant(command.timeout_at)
                _check_remote(command)
            case SignalRemote():
                position = _count_position(position, command.position)
                _check_remote(command)
            case _:
                assert_never(command)
    if decision.cleanup is not None and decision.cleanup > position:
        raise InvalidInput(f"A decision was cancelled at position {decision.cleanup}; the next free one is {position}")


def _count_position(free: int, position: int) -> int:
    """Check that positions count on without a gap. A history with a gap counts as damaged."""
    if position != free:
        raise InvalidInput(f"A decision asks for something at position {position}; the next free one is {free}")
    return position + 1


def _check_instant(instant: float | None) -> None:
    if instant is not None and not math.isfinite(instant):
        raise InvalidInput(f"A decision waits until {instant}, which is no point in time")


def _check_remote(command: Remote) -> None:
    try:
        ids.check_name("The name of a workflow", command.workflow)
        if isinstance(command, StartChild):
            for tag in command.tags:
                ids.check_name("A tag", tag)
        else:
            tag = command.tag if isinstance(command, SignalRemote) else ""
            ids.check_name("The id of an instance", command.workflow_id or command.custom_id or tag)
        if isinstance(command, SignalRemote):
            ids.check_name("The name of a channel", command.channel)
        else:
            ids.check_name("The name of a method", command.method)
    except UsageError as error:
        raise InvalidInput(f"A decision asks for an impossible request: {error}") from error


def _check_names(command: ScheduleTask) -> None:
    try:
        ids.check_name("The name of a service", command.service)
        ids.check_name("The name of a task", command.task)
        for tag in command.tags:
            ids.check_name("A tag", tag)
    except UsageError as error:
        raise InvalidInput(f"A decision asks for an impossible task: {error}") from error
