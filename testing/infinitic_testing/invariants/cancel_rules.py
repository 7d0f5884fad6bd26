"""Rules about tasks that nobody waits for any more: whoever has them in hand is told to stop."""

from __future__ import annotations

from infinitic.engines import positions
from infinitic.engines.effects import CancelSent
from infinitic.messages import commands, events
from infinitic.messages.control import CancelTasks
from infinitic_testing.invariants.instances import ObservedInstance, WrittenStep
from infinitic_testing.invariants.traffic import Sent


def check_cancel_is_told(step: WrittenStep, sent: Sent) -> str | None:
    """What a step closes without a result is stopped, if an attempt of it is with an executor.

    And nothing else is stopped.
    """
    told = set[int]()
    for effect in step.outbox:
        if isinstance(effect, CancelSent):
            for block in effect.blocks:
                told |= set(positions.list_positions(block))
    before = step.instance
    if before is None or before.purged:
        return f"tasks {sorted(told)} are stopped, and the instance is new" if told else None
    waiting = {retry.position for retry in before.head.retries if retry.due is not None}
    open_before = {position for block in before.head.open for position in positions.list_positions(block)}
    closed = set[int]()
    for event in step.events:
        if isinstance(event, commands.CancelPosition | events.TaskTimeout | events.TaskCanceled):
            closed.add(event.position)
    if any(isinstance(event, events.Abandoned) for event in step.events):
        closed |= open_before
    elif step.head.closed:
        closed |= {position for position in open_before if position < step.head.cleanup}
    # An attempt that fails, or that is due, in the same step need not be stopped, but may be.
    failed = {each.position for each in step.events if isinstance(each, events.AttemptError)}
    results = (events.TaskResult, events.TaskError, events.RemoteResult, events.RemoteError)
    settled = {each.position for each in step.events if isinstance(each, results)}
    untold = (closed & open_before) - waiting - failed - settled - told
    if untold:
        return f"tasks {sorted(untold)} are closed without a result, and nobody is told to stop them"
    # An older child may have returned, and the one that was asked for again is cancelled then.
    again = {retry.position for retry in before.head.retries if retry.retry_sequence}
    returned = {each.position for each in step.events if isinstance(each, events.RemoteResult)}
    wrong = told - closed - (again & returned)
    return f"tasks {sorted(wrong)} are stopped, and this step does not close them" if wrong else None


def check_cancel_was_asked(message: CancelTasks, instance: ObservedInstance | None) -> str | None:
    """Only what is not open any more is stopped."""
    if instance is None:
        return f"{message} is sent for an instance that is not in the storage"
    if instance.is_over or message.run < instance.head.run:
        # Nothing of an earlier run is open. Positions of the run that goes on are others.
        return None
    if message.run > instance.head.run:
        return f"tasks of run {message.run} are stopped, and that has not begun"
    again = {retry.position: retry.retry_sequence for retry in instance.head.retries}
    for position, sequence in message.tasks:
        if position in instance.history.open_tasks and sequence >= again.get(position, 0):
            return f"task {position} is stopped, and is open"
    return None
