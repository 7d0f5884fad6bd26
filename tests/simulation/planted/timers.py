"""Bugs in timers, wakes and timeouts."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from infinitic.engines import timers
from infinitic.engines.state import WorkflowHead
from infinitic.engines.timers import Timer
from infinitic.engines.workflow import tasks, transition
from infinitic.messages import engine as inputs
from infinitic.messages.events import Activated, TimerFired
from infinitic.runtime.state_engine import activation
from tests.simulation.planted.planting import Part, Planter, bug

TIMERS = "engine, timers"


@bug(TIMERS)
def timer_fires_twice(planter: Planter) -> None:
    """A timer stays open after it has fired, until the next one fires."""

    @planter.wrap(tasks, "wake")
    def wake(original: Part, head: WorkflowHead, message: inputs.Wake, now: float, headers: Any) -> Any:
        result = original(head, message, now, headers)
        fired = [event.position for event in result.events if isinstance(event, TimerFired)]
        if len(fired) != 1 or len(result.events) != 1:
            return result
        # Two of them are handed over in one step otherwise.
        again = timers.add(result.head.timers, [Timer(now + 1.0, fired[0])])
        return replace(result, head=replace(result.head, timers=again))


@bug(TIMERS)
def timer_fires_early(planter: Planter) -> None:
    """A wake fires all timers that are due within the next seconds."""

    @planter.wrap(tasks, "wake")
    def wake(original: Part, head: WorkflowHead, message: inputs.Wake, now: float, headers: Any) -> Any:
        return original(head, message, now + 2.0, headers)


@bug(TIMERS)
def wake_not_armed_again(planter: Planter) -> None:
    """After a wake the head still says that it is armed, so the next one is not armed."""

    @planter.wrap(tasks, "wake")
    def wake(original: Part, head: WorkflowHead, message: inputs.Wake, now: float, headers: Any) -> Any:
        result = original(head, message, now, headers)
        return result if result.head is head else replace(result, head=replace(result.head, armed=head.armed))


@bug(TIMERS)
def wake_armed_for_the_last_timer(planter: Planter) -> None:
    """The wake is armed for the last timer in place of the first one."""

    def find_last_due(head: WorkflowHead) -> float | None:
        due = [block.due for block in head.timers]
        due += [retry.due for retry in head.retries if retry.due is not None]
        return max(due) if due else None

    planter.put(transition, "find_next_due", find_last_due)


@bug(TIMERS)
def earlier_timer_not_armed(planter: Planter) -> None:
    """No wake is armed for a timer that is due before the wake that is armed."""

    @planter.wrap(transition, "_prune")
    def prune(original: Part, head: WorkflowHead, outbox: Any) -> Any:
        left, due = original(head, outbox)
        return left, due if head.armed is None else None


@bug(TIMERS)
def timeouts_left_behind(planter: Planter) -> None:
    """The total timeout of a settled task stays open if other tasks have the same one."""

    @planter.wrap(timers, "remove")
    def remove(original: Part, blocks: timers.Blocks, position: int) -> Any:
        left = original(blocks, position)
        return blocks if len(left) == len(blocks) else left


@bug(TIMERS)
def one_timer_of_many_fires(planter: Planter) -> None:
    """Of the timers that were set at once for one time, the last one is forgotten."""

    @planter.wrap(timers, "take_due")
    def take_due(original: Part, blocks: timers.Blocks, now: float) -> Any:
        left, due = original(blocks, now)
        return left, due if len(due) == 1 else due[:-1]


@bug(TIMERS)
def early_wake_dropped(planter: Planter) -> None:
    """A wake that comes too early is dropped, and no other one is on its way."""

    @planter.wrap(tasks, "wake")
    def wake(original: Part, head: WorkflowHead, message: inputs.Wake, now: float, headers: Any) -> Any:
        return replace(original(head, message, now, headers), handling=None)


@bug(TIMERS)
def no_timeout_while_backing_off(planter: Planter) -> None:
    """The total timeout of a task is forgotten while the task waits for its next attempt."""

    @planter.wrap(tasks, "wake")
    def wake(original: Part, head: WorkflowHead, message: inputs.Wake, now: float, headers: Any) -> Any:
        waiting = {retry.position for retry in head.retries if retry.due is not None}
        left = head.timers
        for position in waiting:
            left = timers.remove(left, position)
        return original(replace(head, timers=left), message, now, headers)


@bug(TIMERS)
def retry_sent_twice(planter: Planter) -> None:
    """An attempt that was sent when it was due is sent again by each later wake."""

    @planter.wrap(tasks, "wake")
    def wake(original: Part, head: WorkflowHead, message: inputs.Wake, now: float, headers: Any) -> Any:
        result = original(head, message, now, headers)
        if result.head is head:
            return result
        due = {retry.position: retry.due for retry in head.retries}
        retries = tuple(replace(retry, due=due.get(retry.position)) for retry in result.head.retries)
        return replace(result, head=replace(result.head, retries=retries))


@bug("engine")
def time_goes_back(planter: Planter) -> None:
    """The code sees the clock of its worker, also when another worker was ahead before."""

    def begin(head: WorkflowHead, now: float, *, each: bool) -> Activated:
        return Activated(head.activation + 1, now, each)

    planter.put(activation, "begin", begin)
