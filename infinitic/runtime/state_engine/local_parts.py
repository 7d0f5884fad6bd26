"""Small parts of `local_tasks`, each a function of what it is given."""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines import positions
from infinitic.engines.effects import CancelSent, SendTask
from infinitic.engines.state import OpenBlock, WorkflowHead
from infinitic.messages import engine as inputs
from infinitic.messages.events import AttemptError, Event, TaskError, TaskResult
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.state_engine.lane_attempts import BegunAttempt, OpenStep
from infinitic.runtime.state_engine.receiving import ReceivedStep


def take_back(head: WorkflowHead | None, received: ReceivedStep) -> WorkflowHead:
    """Have the head count the segments before this step only, as inputs expect it."""
    assert head is not None
    stored = received.instance.head
    sequence = 0 if stored is None else stored.sequence
    return head if head.sequence == sequence else replace(head, sequence=sequence)


def make_next(before: BegunAttempt, effect: SendTask, now: float) -> ExecuteTask:
    """Make the attempt that follows one that has failed in the same step."""
    assert before.attempt.report is not None
    report = inputs.decode(before.attempt.report.message.body)
    assert isinstance(report, inputs.AttemptFailed)
    return replace(
        before.message,
        retry_index=effect.retry_index,
        last_failure=report.failure,
        meta=report.meta,
        last_heartbeat=report.heartbeat,
        made_at=now,
    )


def is_same(kept: ExecuteTask, message: ExecuteTask) -> bool:
    """Whether two attempts ask for the same, though at another time."""
    return (kept.service, kept.task, kept.arguments, kept.meta) == (
        message.service,
        message.task,
        message.arguments,
        message.meta,
    )


def mark_local(event: Event) -> Event:
    """Mark what came of an attempt in the history."""
    if isinstance(event, TaskResult | TaskError | AttemptError):
        return replace(event, local=True)
    return event


def stop_cancelled(step: OpenStep, effect: CancelSent) -> CancelSent | None:
    """Stop what runs here of what the code has cancelled. Returns what others have to stop."""
    running = {entry.effect.position: entry for entry in step.running}
    if not running:
        return effect
    blocks: list[OpenBlock] = []
    for block in effect.blocks:
        meant = list(positions.list_positions(block))
        left = [position for position in meant if position not in running]
        for position in meant:
            if position in running:
                step.running.remove(running[position])
                running[position].attempt.stop()
        if len(left) == len(meant):
            blocks.append(block)
        elif left:
            blocks.append(positions.open_block(block.sequence, left))
    if not blocks and not effect.waiting:
        return None
    return replace(effect, blocks=tuple(blocks))
