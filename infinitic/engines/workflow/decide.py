"""Activations and what the code asks for in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, assert_never

from msgspec.structs import replace

from infinitic.engines import positions
from infinitic.engines.effects import Answer, Effect, SendTask
from infinitic.engines.state import Method, Timer, WorkflowHead
from infinitic.messages.commands import (
    CancelMethod,
    CancelPosition,
    Command,
    CompleteMethod,
    FailMethod,
    RecordInline,
    ScheduleTask,
    StartTimer,
)
from infinitic.messages.events import Activated
from infinitic.messages.outcomes import Status


class Decided(NamedTuple):
    """The head after the commands of an activation, and what they cause."""

    head: WorkflowHead
    outbox: list[Effect]


def begin(head: WorkflowHead, now: float, *, elsewhere: bool = False) -> tuple[WorkflowHead, Activated]:
    """Open the next activation: all stimuli that wait go to the code. Its time never goes back (S16)."""
    number, at = head.activation + 1, max(now, head.at)
    deciding = head.pending if elsewhere else 0
    return replace(head, activation=number, at=at, pending=0, deciding=deciding), Activated(number, at)


def stall(head: WorkflowHead, reason: str) -> WorkflowHead:
    """The code cannot be run: keep everything, run nothing until `retry_workflow_task` (S34)."""
    return replace(head, stalled=reason)


def decide(head: WorkflowHead, commands: Sequence[Command], version: int, retention: float) -> Decided:
    """Apply the commands of the activation that runs. They go to the segment after `head.sequence`."""
    sequence = head.sequence + 1
    scheduled, cancelled = list[int](), set[int]()
    timers, methods = list(head.timers), list(head.methods)
    outbox: list[Effect] = []
    position = head.position
    for command in commands:
        match command:
            case ScheduleTask():
                position = command.position + 1
                scheduled.append(command.position)
                if command.timeout_at is not None:
                    timers.append(Timer(command.timeout_at, command.position, True))
            case StartTimer():
                position = command.position + 1
                timers.append(Timer(command.due, command.position))
            case RecordInline():
                position = command.position + 1
            case CancelPosition():
                cancelled.add(command.position)
            case CompleteMethod():
                outbox += _end(methods, command.method_id, Status.COMPLETED, sequence)
            case FailMethod():
                outbox += _end(methods, command.method_id, Status.FAILED, sequence)
            case CancelMethod():
                outbox += _end(methods, command.method_id, Status.CANCELED, sequence)
            case _:
                assert_never(command)
    blocks, retries = head.open, head.retries
    if cancelled:
        timers = [timer for timer in timers if timer.position not in cancelled]
        retries = tuple(retry for retry in retries if retry.position not in cancelled)
        scheduled = [each for each in scheduled if each not in cancelled]
        for each in cancelled:
            remaining = positions.close(blocks, each)
            blocks = blocks if remaining is None else remaining
    if scheduled:
        blocks = (*blocks, positions.open_block(sequence, scheduled))
        outbox += [SendTask(each, sequence) for each in scheduled]
    decided = replace(
        head,
        version=version,
        retention=retention,
        deciding=0,
        open=blocks,
        timers=tuple(timers),
        retries=retries,
        methods=tuple(methods),
        position=position,
    )
    return Decided(decided, outbox)


def _end(methods: list[Method], method_id: str, how: Status, sequence: int) -> list[Effect]:
    """End a method: its waiters are answered at once (S28). The first one stays, for those who ask later."""
    index = next(index for index, method in enumerate(methods) if method.id == method_id)
    method = methods[index]
    if index == 0:
        methods[0] = Method(method.id, method.name, (), how, sequence)
    else:
        del methods[index]
    return [Answer(waiter, method_id, sequence) for waiter in method.waiters]
