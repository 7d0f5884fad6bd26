"""What no code can have decided is refused before anything is allocated for it."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic.engines.positions import open_block
from infinitic.engines.validate import MAX_DECIDED, InvalidInput
from infinitic.messages.commands import (
    CancelPosition,
    Command,
    CompleteMethod,
    RecordInline,
    ScheduleTask,
    StartTimer,
)
from infinitic.messages.outcomes import WorkflowStatus
from tests.unit.engine_samples import DECIDING, DECISION, ENDED, VALUE, changed, taken


def task(position: int, **fields: Any) -> ScheduleTask:
    return replace(ScheduleTask(position, "Flights", "book", Raw(b"[]")), **fields)


DECISIONS: dict[str, dict[str, Any]] = {
    "far away": {"commands": (task(4), task(2**32))},
    "beyond 64 bits": {"commands": (task(2**70),)},
    "negative": {"commands": (task(-1),)},
    "a gap": {"commands": (task(4), task(6))},
    "used before": {"commands": (task(3),)},
    "twice": {"commands": (task(4), task(4))},
    "backwards": {"commands": (StartTimer(6, 1.0), RecordInline(5, "f", VALUE))},
    "cancelled before it was asked for": {"commands": (CancelPosition(4), task(4))},
    "cancelled below zero": {"commands": (CancelPosition(-1),)},
    "a method that is not there": {"commands": (CompleteMethod("m9", VALUE),)},
    "a method twice": {"commands": (CompleteMethod("t1", VALUE), CompleteMethod("t1", VALUE))},
    "never": {"commands": (StartTimer(4, float("inf")),)},
    "no timeout": {"commands": (task(4, timeout_at=float("nan")),)},
    "no service": {"commands": (task(4, service=""),)},
    "a long service": {"commands": (task(4, service="s" * 9000),)},
    "a long task": {"commands": (task(4, task="s" * 9000),)},
    "a long tag": {"commands": (task(4, tags=("s" * 9000,)),)},
    "too many": {"commands": tuple(task(4 + index) for index in range(MAX_DECIDED + 1))},
    "version below zero": {"version": -1},
    "version": {"version": 2**31},
    "retention below zero": {"retention": -1.0},
    "retention": {"retention": 1e300},
    "retention without end": {"retention": float("nan")},
    "digest": {"digest": "d" * 65},
}


@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_that_cannot_be_is_refused(name: str) -> None:
    forged = replace(DECISION, **DECISIONS[name])
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            taken(DECIDING, forged)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_method_that_has_ended_ends_no_more() -> None:
    ended = replace(ENDED, deciding=2, activation=2)
    assert ended.methods[0].status is WorkflowStatus.COMPLETED
    with pytest.raises(InvalidInput):
        taken(ended, replace(DECISION, commands=(CompleteMethod("t1", VALUE),)))


def test_what_can_be_is_taken() -> None:
    commands: tuple[Command, ...] = (task(4), task(5, timeout_at=9.0), StartTimer(6, -1.0), CancelPosition(5))
    decided = taken(DECIDING, replace(DECISION, commands=(*commands, CompleteMethod("t1", VALUE))))
    assert changed(decided).position == 7


def test_a_decision_that_nobody_waits_for_is_a_repeat_whatever_it_says() -> None:
    forged = replace(DECISION, commands=(task(2**32),), activation=1)
    assert taken(DECIDING, forged).head is DECIDING


def test_what_is_cancelled_does_not_count_as_asked_for() -> None:
    """S35: it may have been asked for in many activations, and is cancelled in one."""
    many = (CancelPosition(1),) * (MAX_DECIDED + 1)
    assert changed(taken(DECIDING, replace(DECISION, commands=many))).open == (open_block(1, [0, 3]),)
    with pytest.raises(InvalidInput, match="commands"):
        taken(DECIDING, replace(DECISION, commands=many * 5))
