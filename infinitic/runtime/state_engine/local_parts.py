"""Small parts of `local_tasks`, each a function of what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter

from msgspec.structs import replace

from infinitic.engines import positions
from infinitic.engines.effects import CancelSent, Effect, SendRemote, SendTask
from infinitic.engines.state import OpenBlock, WorkflowHead
from infinitic.messages import engine as inputs
from infinitic.messages.events import AttemptError, Event, TaskError, TaskResult
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.state_engine.lane_attempts import BegunAttempt, LaneAttempts, OpenStep
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


def choose_round(over: Sequence[BegunAttempt]) -> Sequence[BegunAttempt]:
    """Choose whose reports are taken next.

    If the step was tried before, the code gets them in the order of that time. Otherwise it might
    ask for other things at the same positions, and those would run again.
    """
    placed = [(entry.place, entry) for entry in over if entry.place is not None]
    if not placed:
        return over
    first = min(number for (number, _), _ in placed)
    again = [(index, entry) for (number, index), entry in placed if number == first]
    return [entry for _, entry in sorted(again, key=itemgetter(0))]


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


def stop_cancelled(
    under_way: LaneAttempts, step: OpenStep, effect: CancelSent, effects: list[Effect]
) -> CancelSent | None:
    """Stop what the code has cancelled of what it has asked for in this very step.

    What runs is stopped, and what was to be sent is not.

    Args:
        under_way: what was begun for the lane.
        step: the step.
        effect: what the code has cancelled.
        effects: those of the step so far. What need not be sent is removed.

    Returns:
        What others have to stop; None: nothing.
    """
    sequence = take_back(step.draft.head, step.received).sequence + 1
    blocks: list[OpenBlock] = []
    gone = set[int]()
    for block in effect.blocks:
        if block.later is None and block.sequence != sequence:
            blocks.append(block)
            continue
        meant = list(positions.list_requests((block,)))
        gone |= {position for position, asked in meant if asked == sequence}
        left: dict[int, list[int]] = {}
        for position, asked in meant:
            if asked != sequence:
                left.setdefault(asked, []).append(position)
        blocks += [positions.open_block(asked, found) for asked, found in left.items()]
    if gone:
        for entry in [entry for entry in step.running if entry.effect.position in gone]:
            step.running.remove(entry)
            entry.attempt.stop()
        for entry in under_way.entries.values():
            if entry.effect.position in gone and entry.attempt in under_way.adopted:
                under_way.adopted.remove(entry.attempt)
                entry.attempt.stop()
        step.rest[:] = [each for each in step.rest if each.position not in gone]
        effects[:] = [
            each
            for each in effects
            if not (isinstance(each, SendTask | SendRemote) and each.position in gone and each.request == sequence)
        ]
    if not blocks and not effect.waiting:
        return None
    return replace(effect, blocks=tuple(blocks))


def hold(under_way: LaneAttempts, step: OpenStep, entry: BegunAttempt, delay: float) -> None:
    """Wait in place until the next attempt is due.

    Args:
        under_way: what was begun for the lane.
        step: the step.
        entry: the attempt that has failed.
        delay: seconds until the next one.
    """
    step.running.append(entry)
    entry.is_held = True

    def release() -> None:
        entry.is_held, entry.was_held, entry.timer = False, True, None
        under_way.note_end()

    entry.timer = asyncio.get_running_loop().call_later(delay, release)


def end_run(under_way: LaneAttempts, step: OpenStep) -> None:
    """Stop what is left of a run, once the next one has begun in the same step.

    The next run counts its positions from 0 again. So no task of this one may be sent any more: it
    would be taken for that of the next run. All of them have ended, or the code has cancelled them.
    The next run itself begins with the next step.

    Args:
        under_way: what was begun for the lane.
        step: the step. Its last activation has not been looked at.
    """
    draft = step.draft
    effects: list[Effect] = list(draft.outbox[: step.effects])
    for effect in draft.outbox[step.effects :]:
        left = stop_cancelled(under_way, step, effect, effects) if type(effect) is CancelSent else effect
        if left is not None:
            effects.append(left)
    for attempt in (*(entry.attempt for entry in step.running), *under_way.adopted):
        attempt.stop()
    step.running, step.rest, under_way.adopted = [], [], []
    effects = [effect for effect in effects if type(effect) is not SendTask]
    step.draft = replace(draft, outbox=effects)
    step.events, step.effects = len(draft.events), len(effects)
