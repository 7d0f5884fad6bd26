"""The rule for documents of runs: what `run_of` tells is what head and history hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from infinitic.engines.open_work import list_open_positions
from infinitic.engines.state import WorkflowHead
from infinitic.messages.events import Event, Reopened
from infinitic.replay.history import cut_to_run
from infinitic.replay.run import Run, RunStep, RunStepStatus
from infinitic.replay.run_reader import run_of

BEGINNINGS = 4
"""How many beginnings of a history are looked at, besides the whole of it."""


def check_run(head: WorkflowHead, segments: Sequence[Sequence[Event]]) -> str | None:
    """Say what is wrong with the document of a run; None if nothing is.

    Args:
        head: that of the instance.
        segments: its whole history.
    """
    if head.base:
        segments = [cut_to_run(segments[head.base - 1]), *segments[head.base :]]
    run = run_of(head, segments)
    wrong = _check_open(run, head) or _check_times(run)
    if wrong is not None:
        return wrong
    for part in range(1, BEGINNINGS + 1):
        count = len(segments) * part // (BEGINNINGS + 1)
        earlier = run_of(head, segments[:count])
        wrong = _check_times(earlier) or _check_beginning(earlier, run, _list_reopened(segments[count:]))
        if wrong is not None:
            return f"the document of its first {count} segments: {wrong}"
    return None


def _check_open(run: Run, head: WorkflowHead) -> str | None:
    """A task is open by the document if it is open by the head, once the code knows all."""
    if head.closed or head.pending or head.deciding:
        return None
    told = {step.position for step in run.steps if step.kind == "task" and step.status is RunStepStatus.OPEN}
    tasks = {step.position for step in run.steps if step.kind == "task"}
    held = {position for position, _ in list_open_positions(head)} & tasks
    if told != held:
        return f"the tasks {sorted(map(str, told))} are open in it, and {sorted(held)} are open by the head"
    waiting = {retry.position for retry in head.retries if retry.due is not None}
    shown = {step.position for step in run.steps for each in step.attempts if each.status is RunStepStatus.WAITING}
    return None if waiting == shown else f"the tasks {sorted(map(str, shown))} wait in it, and {sorted(waiting)} do"


def _check_times(run: Run) -> str | None:
    """The times of each step are in order, and its attempts follow one another."""
    for step in run.steps:
        if step.ended_at is not None and step.kind != "signal" and step.ended_at < step.at:
            return f"{step} ends before it begins"
        for attempt in step.attempts:
            instants = [each for each in (attempt.sent_at, attempt.began_at, attempt.ended_at) if each is not None]
            if attempt.began_at is not None and instants != sorted(instants):
                return f"{step.name} {step.position}: {attempt} goes back in time"
        if [attempt.number for attempt in step.attempts] != list(range(1, len(step.attempts) + 1)):
            return f"{step.name} {step.position}: its attempts are {[each.number for each in step.attempts]}"
    return None


def _list_reopened(segments: Sequence[Sequence[Event]]) -> set[int]:
    """List the positions that an operator has re-opened in these segments."""
    reopened = [event for events in segments for event in events if isinstance(event, Reopened)]
    tasks = {task.position for event in reopened for task in event.tasks}
    tasks |= {position for event in reopened for position in event.cancellations}
    return tasks | {timer.position for event in reopened for timer in event.timers}


def _check_beginning(earlier: Run, run: Run, reopened: Collection[int]) -> str | None:
    """What has ended in the document of a beginning has ended so in that of the whole."""
    steps: dict[int | None, RunStep] = {step.position: step for step in run.steps}
    for step in earlier.steps:
        if step.position in reopened:
            continue
        if step.position is not None and step.status is not RunStepStatus.OPEN and step != steps.get(step.position):
            return f"{step} has become {steps.get(step.position)}"
    return None
