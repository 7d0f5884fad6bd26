"""S19: what an input costs does not depend on how much is open, and neither does most of the head.

Costs are counted as instructions of the interpreter, so they do not depend on the machine. What C
code does is not counted: it copies some bytes for each of a thousand open tasks.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest
from msgspec import Raw

from infinitic.engines import state
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import Transition, begin, conclude, decide, take
from infinitic.messages.commands import Command, ScheduleTask, StartChild, StartTimer
from infinitic.messages.engine import AttemptFailed, Input, RemoteSettled, TaskCompleted, TaskFailed, Wake
from tests.unit.engine_samples import FAILURE, KEY, NOW, START, VALUE, WINDOW

LARGEST_HEAD = 24 * 1024
SIZES = (100, 1_000, 10_000)


def make_step(head: WorkflowHead | None, message: Input, now: float, commands: Sequence[Command] = ()) -> Transition:
    """What a worker does for one input, from the head to the bytes of the next one."""
    taken = take(head, KEY, message, now, WINDOW)
    assert taken.head is not None
    if not taken.events or not taken.head.pending:
        return conclude(head, taken.head, taken.events, taken.outbox, now)
    activated = begin(taken.head, now, each=False)
    decided, outbox = decide(taken.head, commands, 1, 60.0, activated)
    transition = conclude(head, decided, [*taken.events, activated, *commands], [*taken.outbox, *outbox], now)
    assert len(state.encode(transition.head)) > 0
    return transition


def count_instructions(work: Callable[[], object]) -> int:
    counted = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal counted
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        counted += event == "opcode"
        return trace

    before = sys.gettrace()
    # Python 3.12 notes only when tracing starts whether any frame wants opcodes, so one has to want
    # them before it does.
    current = inspect.currentframe()
    assert current is not None
    current.f_trace_opcodes = True
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return counted


def open_tasks(count: int, timeout: float | None) -> WorkflowHead:
    commands = [
        ScheduleTask(each, "Hotels", "book", Raw(b"[]"), timeout_at=None if timeout is None else NOW + timeout)
        for each in range(count)
    ]
    return make_step(None, START, NOW, commands).head


def open_children(count: int) -> WorkflowHead:
    commands = [StartChild(each, "Child", "run", Raw(b"[]"), timeout_at=NOW + 60.0) for each in range(count)]
    return make_step(None, START, NOW, commands).head


def open_timers(count: int) -> WorkflowHead:
    return make_step(None, START, NOW, [StartTimer(each, NOW + 60.0) for each in range(count)]).head


def fail_once(head: WorkflowHead, count: int) -> WorkflowHead:
    for each in range(count):
        report = AttemptFailed(made_at=NOW, position=each, failure=FAILURE, delay=0.0, sequence=1)
        taken = take(head, KEY, report, NOW, WINDOW)
        assert taken.head is not None
        head = conclude(head, taken.head, taken.events, taken.outbox, NOW).head
    return head


def complete(position: int) -> Input:
    return TaskCompleted(made_at=NOW, position=position, value=VALUE)


def end_child(position: int) -> Input:
    return RemoteSettled(made_at=NOW, position=position, value=VALUE)


def fail(position: int) -> Input:
    return TaskFailed(made_at=NOW, position=position, failure=FAILURE)


def fail_attempt(position: int) -> Input:
    return AttemptFailed(made_at=NOW, position=position, failure=FAILURE, delay=5.0, sequence=1)


CASES: list[tuple[str, Callable[[int], WorkflowHead], Callable[[int], Input]]] = [
    ("results", lambda count: open_tasks(count, None), complete),
    ("results of tasks with a timeout", lambda count: open_tasks(count, 60.0), complete),
    ("results of children with a timeout", open_children, end_child),
    ("failures", lambda count: open_tasks(count, 60.0), fail),
    ("failed attempts", lambda count: open_tasks(count, 60.0), fail_attempt),
    ("results of tasks that have failed before", lambda count: fail_once(open_tasks(count, 60.0), count), complete),
]


@pytest.mark.parametrize(("make_head", "make_input"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_input_costs_the_same_however_much_is_open(
    make_head: Callable[[int], WorkflowHead], make_input: Callable[[int], Input]
) -> None:
    """Results come in random order, and a block or a list is searched in a few more steps."""
    costs: list[float] = []
    for size in SIZES:
        head = make_head(size)
        order = random.Random(7).sample(range(size), 60)

        def settle(head: WorkflowHead = head, order: list[int] = order) -> None:
            for position in order:
                head = make_step(head, make_input(position), NOW + 1.0).head

        costs.append(count_instructions(settle) / len(order))
    assert costs[-1] < 1.25 * costs[0], costs


@pytest.mark.parametrize(
    ("make_head", "make_input"), [case[1:] for case in CASES[:3]], ids=[case[0] for case in CASES[:3]]
)
def test_ten_thousand_that_are_open_are_a_small_head(
    make_head: Callable[[int], WorkflowHead], make_input: Callable[[int], Input]
) -> None:
    head = make_head(10_000)
    for position in random.Random(7).sample(range(10_000), 5_000):
        assert len(state.encode(head)) <= LARGEST_HEAD
        head = make_step(head, make_input(position), NOW + 1.0).head


def test_ten_thousand_timers_of_one_time_are_a_small_head_and_fire_together() -> None:
    head = open_timers(10_000)
    assert len(state.encode(head)) <= LARGEST_HEAD
    fired = make_step(head, Wake(made_at=NOW, due=NOW + 60.0), NOW + 60.0)
    assert len(fired.events) == 10_001
    assert fired.head.timers == ()
