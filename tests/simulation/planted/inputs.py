"""Bugs in how the engine takes its inputs, and recognises those that come again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from infinitic.engines import positions, retries, timers
from infinitic.engines.effects import Effect
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import tasks, transition
from infinitic.engines.workflow.input_result import InputResult, stimulate
from infinitic.messages import engine as inputs, events
from infinitic.messages.events import Event
from infinitic.runtime.state_engine import closing
from tests.simulation.planted.planting import TAKE, Part, Planter, bug

ENGINE = "engine"


def _forget_id(planter: Planter, kind: type[inputs.Input]) -> None:
    @planter.wrap_handler(kind)
    def handle(original: Part, *args: Any) -> Any:
        return replace(original(*args), deduplication_id=None)


@bug(ENGINE)
def signals_not_deduplicated(planter: Planter) -> None:
    """A signal that comes again is taken again."""
    _forget_id(planter, inputs.Signal)


@bug(ENGINE)
def calls_not_deduplicated(planter: Planter) -> None:
    """A method call that comes again runs the method again."""
    _forget_id(planter, inputs.CallMethod)


@bug(ENGINE)
def cancels_not_deduplicated(planter: Planter) -> None:
    """A cancellation that comes again cancels the clean-up, too."""

    @planter.wrap_handler(inputs.Cancel)
    def cancel(original: Part, head: WorkflowHead, message: inputs.Cancel, now: float) -> Any:
        return replace(original(replace(head, canceling=False), message, now), deduplication_id=None)


@bug(ENGINE)
def starts_not_deduplicated(planter: Planter) -> None:
    """A start that comes again runs the first method again."""

    @planter.wrap_handler(inputs.Start)
    def start(original: Part, head: WorkflowHead, message: inputs.Start, now: float) -> Any:
        return stimulate(head, events.MethodStarted(head.id, message.method, message.arguments))


@bug(ENGINE)
def results_not_deduplicated(planter: Planter) -> None:
    """The result of a task is handed over although the task is settled."""

    def settle(head: WorkflowHead, position: int, event: Event) -> Any:
        still_open = positions.close(head.open, position)
        left = head.open if still_open is None else still_open
        pending = head.pending or head.sequence + 1
        changed = replace(
            head,
            open=left,
            timers=timers.remove(head.timers, position),
            retries=retries.remove(head.retries, position),
            pending=pending,
        )
        return InputResult(changed, (event,))

    planter.put(tasks, "settle", settle)


@bug(ENGINE)
def failed_attempts_not_deduplicated(planter: Planter) -> None:
    """The failure of an attempt counts for a later attempt, too."""

    @planter.wrap_handler(inputs.AttemptFailed)
    def attempt_failed(original: Part, head: WorkflowHead, message: inputs.AttemptFailed, now: float) -> Any:
        last = next((retry for retry in head.retries if retry.position == message.position), None)
        if last is not None and last.due is None:
            message = replace(message, retry_sequence=last.retry_sequence, retry_index=last.retry_index)
        return original(head, message, now)


@bug(ENGINE)
def retry_with_the_same_number(planter: Planter) -> None:
    """The next attempt of a task has the number of the one that failed."""

    @planter.wrap_handler(inputs.AttemptFailed)
    def attempt_failed(original: Part, head: WorkflowHead, message: inputs.AttemptFailed, now: float) -> Any:
        result = original(head, message, now)
        if result.head is head:
            return result
        same = tuple(
            replace(retry, retry_index=message.retry_index) if retry.position == message.position else retry
            for retry in result.head.retries
        )
        outbox = tuple(replace(each, retry_index=message.retry_index) for each in result.outbox)
        return replace(result, head=replace(result.head, retries=same), outbox=outbox)


@bug(ENGINE)
def retry_without_delay(planter: Planter) -> None:
    """The next attempt of a task is sent at once, whatever the retry policy says."""

    @planter.wrap_handler(inputs.AttemptFailed)
    def attempt_failed(original: Part, head: WorkflowHead, message: inputs.AttemptFailed, now: float) -> Any:
        return original(head, replace(message, delay=0.0), now)


@bug(ENGINE)
def effects_not_pruned(planter: Planter) -> None:
    """An attempt is sent although its task was settled in the same step."""

    def prune(head: WorkflowHead, outbox: Sequence[Effect]) -> Sequence[Effect]:
        return outbox

    planter.put(transition, "_prune", prune)


@bug(ENGINE)
def tombstone_takes_signals(planter: Planter) -> None:
    """A closed instance takes signals, and is written again."""

    @planter.wrap(TAKE, "_take_closed")
    def take_closed(original: Part, head: WorkflowHead, message: inputs.Input, **others: Any) -> Any:
        if isinstance(message, inputs.Signal):
            return stimulate(head, events.SignalReceived(message.channel, message.value))
        return original(head, message, **others)


@bug(ENGINE)
def late_result_rewrites_tombstone(planter: Planter) -> None:
    """A closed instance is written again when a late result comes, and then never expires."""

    @planter.wrap(TAKE, "_take_closed")
    def take_closed(original: Part, head: WorkflowHead, message: inputs.Input, **others: Any) -> Any:
        if isinstance(message, inputs.TaskCompleted):
            return InputResult(replace(head, failures=("late",)))
        return original(head, message, **others)


@bug(ENGINE)
def closed_with_open_tasks(planter: Planter) -> None:
    """An instance closes when its methods have returned, although its tasks still run."""

    @planter.wrap(closing, "conclude")
    def conclude(original: Part, before: Any, head: WorkflowHead, *others: Any) -> Any:
        alone = replace(head, open=())
        ends = head.closed_at is None and transition.make_closing_effects(replace(alone, tagged=True))
        return original(before, alone if ends else head, *others)


@bug(ENGINE)
def running_instance_expires(planter: Planter) -> None:
    """A purge removes instances that still run."""

    @planter.wrap(closing, "conclude")
    def conclude(original: Part, before: Any, head: Any, happened: Any, outbox: Any, now: float) -> Any:
        concluded = original(before, head, happened, outbox, now)
        closed = concluded.head.closed
        return concluded if closed else replace(concluded, expires_at=now + 60.0)


@bug(ENGINE)
def retention_ignored(planter: Planter) -> None:
    """A closed instance may be purged at once."""

    @planter.wrap(closing, "conclude")
    def conclude(original: Part, before: Any, head: Any, happened: Any, outbox: Any, now: float) -> Any:
        concluded = original(before, head, happened, outbox, now)
        return concluded if concluded.expires_at is None else replace(concluded, expires_at=now)


@bug(ENGINE)
def cancel_not_delivered(planter: Planter) -> None:
    """A cancellation is confirmed, but the code is not told."""

    @planter.wrap_handler(inputs.Cancel)
    def cancel(original: Part, head: WorkflowHead, message: inputs.Cancel, now: float) -> Any:
        return replace(original(head, message, now), head=replace(head, canceling=True), events=())


@bug(ENGINE)
def waiters_not_written(planter: Planter) -> None:
    """Who waits for a method is not noted in the head."""

    @planter.wrap_handler(inputs.Wait)
    def wait(original: Part, head: WorkflowHead, message: inputs.Wait, now: float) -> Any:
        return replace(original(head, message, now), head=head)


@bug(ENGINE)
def overtaking_signal_dropped(planter: Planter) -> None:
    """A signal that has overtaken the start of its instance is dropped."""

    @planter.wrap(TAKE, "_take_without_state")
    def take_without_state(original: Part, key: Any, message: inputs.Input, *rest: Any) -> Any:
        if isinstance(message, inputs.Signal) and message.reply_to is None:
            return InputResult(None)
        return original(key, message, *rest)


@bug(ENGINE)
def old_start_accepted(planter: Planter) -> None:
    """A start is taken however old it is, also when nobody knows any more whether it was taken."""

    @planter.wrap(TAKE, "_take_without_state")
    def take_without_state(
        original: Part, key: Any, message: inputs.Input, now: float, window: float, headers: Any
    ) -> Any:
        if isinstance(message, inputs.Start):
            return original(key, replace(message, made_at=now), now, window, headers)
        return original(key, message, now, window, headers)
