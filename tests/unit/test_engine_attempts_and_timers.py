"""`take`: results, failed attempts and wakes are recognised by their position (S2, S10, S24)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from infinitic.engines import timers
from infinitic.engines.effects import ArmWake, Postpone, SendTask
from infinitic.engines.positions import open_block
from infinitic.engines.state import Retry
from infinitic.engines.timers import Timer
from infinitic.engines.workflow import InputResult
from infinitic.engines.workflow.tasks import UNTIL
from infinitic.messages import events
from tests.unit.engine_samples import (
    ATTEMPT,
    COMPLETED,
    FAILED,
    FAILURE,
    NOW,
    RUNNING,
    VALUE,
    WAKE,
    changed,
    taken,
)


def test_a_result_closes_its_position_once() -> None:
    """S10, S13: by its position, and for this run only."""
    first = taken(RUNNING, replace(COMPLETED, position=3))
    assert first.events == (events.TaskResult(3, VALUE),)
    assert changed(first).timers == RUNNING.timers[:1], "its total timeout goes with it"
    assert changed(first).pending == 2
    assert changed(first).open == (open_block(1, [0, 1]),) or changed(first).open[0].bits == b"\x03"
    assert taken(first.head, replace(COMPLETED, position=3)) == InputResult(first.head)
    for position in (2, 4, 99):
        assert taken(RUNNING, replace(COMPLETED, position=position)) == InputResult(RUNNING)
    assert taken(RUNNING, replace(COMPLETED, run=1)) == InputResult(RUNNING)


def test_a_failure_of_an_older_sequence_is_dropped_and_a_success_of_any_counts() -> None:
    """S10."""
    retried = replace(RUNNING, retries=(Retry(1, 1, 0, 2, 0, None),))
    assert taken(retried, replace(FAILED, retry_sequence=1)) == InputResult(retried)
    assert taken(retried, replace(FAILED, retry_sequence=2)).events == (events.TaskError(1, FAILURE),)
    assert taken(retried, COMPLETED).events == (events.TaskResult(1, VALUE),)
    assert changed(taken(retried, COMPLETED)).retries == ()


def test_a_failed_attempt_counts_only_if_it_was_the_last_one_sent() -> None:
    """S2, S10: the engine counts, waits, and sends the next index."""
    waits = taken(RUNNING, ATTEMPT)
    assert waits.events == (events.AttemptError(1, FAILURE, {"n": b"1"}, next_at=NOW + 5),)
    assert waits.outbox == (ArmWake(NOW + 5.0),)
    assert changed(waits).retries == (Retry(1, 1, 2, 0, 1, NOW + 5.0),)
    assert changed(waits).pending == 0, "the code is not told"
    assert taken(waits.head, ATTEMPT) == InputResult(waits.head), "a repeat, while it waits"

    sent = taken(waits.head, WAKE, NOW + 5.0)
    assert sent.outbox == (SendTask(1, 1, 0, 1, 2),)
    assert changed(sent).retries == (Retry(1, 1, 2, 0, 1, None),)
    assert taken(sent.head, ATTEMPT) == InputResult(sent.head), "a repeat, after the next one was sent"
    for other in (
        {"retry_index": 2},
        {"retry_sequence": 1, "retry_index": 1},
        {"run": 1, "retry_index": 1},
        {"position": 2},
    ):
        assert taken(sent.head, replace(ATTEMPT, **other)) == InputResult(sent.head)

    again = taken(sent.head, replace(ATTEMPT, retry_index=1, delay=0.0), NOW + 6.0)
    assert again.outbox == (SendTask(1, 1, 0, 2, 2),), "no delay: at once"
    assert changed(again).retries == (Retry(1, 1, 2, 0, 2, None),)
    done = taken(again.head, COMPLETED)
    assert changed(done).retries == ()
    assert taken(done.head, replace(ATTEMPT, retry_index=2)) == InputResult(done.head)


def test_a_wake_fires_what_is_due_in_the_order_of_due_times() -> None:
    """S24. The total timeout of an open task closes it; that of a settled one is gone with it."""
    late = taken(RUNNING, WAKE, NOW + 30.0)
    assert late.events == (events.TimerFired(2), events.TaskTimeout(3))
    assert changed(late).timers == ()
    assert changed(late).armed is None
    assert changed(late).open[0].bits == b"\x03"
    first = taken(RUNNING, WAKE, NOW + 10.0)
    assert first.events == (events.TimerFired(2),)
    assert changed(first).timers == RUNNING.timers[1:]


def test_a_wake_that_comes_early_is_put_off_by_what_the_clock_lacks() -> None:
    """It comes again when it is due by this clock. If it is early again, it is put off again."""
    first = taken(RUNNING, WAKE, NOW + 8.0).handling
    assert isinstance(first, Postpone)
    assert first == Postpone(NOW + 12.05, UNTIL, repr(NOW + 12.05), early=2.0)
    again = taken(RUNNING, WAKE, NOW + 9.9, {UNTIL: first.value}).handling
    assert isinstance(again, Postpone)
    assert again.at == pytest.approx(NOW + 12.2)
    for forged in ("", "nan", "inf", "-1", "1e300", "now"):
        assert taken(RUNNING, WAKE, NOW + 8.0, {UNTIL: forged}).handling == first


def test_a_final_failure_of_an_older_attempt_is_dropped() -> None:
    """S10: its retry runs or waits. Release 0.1 does not say which attempt failed."""
    waits, runs = (replace(RUNNING, retries=(Retry(1, 1, 2, 0, 1, due),)) for due in (NOW + 5.0, None))
    assert taken(runs, replace(FAILED, retry_index=0)) == InputResult(runs)
    assert taken(runs, replace(FAILED, retry_index=2)) == InputResult(runs)
    assert taken(runs, replace(FAILED, retry_index=1)).events == (events.TaskError(1, FAILURE),)
    for index in (0, 1):
        assert taken(waits, replace(FAILED, retry_index=index)) == InputResult(waits)
    assert taken(RUNNING, replace(FAILED, retry_index=1)) == InputResult(RUNNING)
    for head in (RUNNING, waits, runs):
        assert taken(head, FAILED).events == (events.TaskError(1, FAILURE),)


def test_early_repeated_and_foreign_wakes_fire_nothing() -> None:
    """S24, F11."""
    early = taken(RUNNING, WAKE, NOW + 9.0)
    assert early == InputResult(RUNNING, handling=early.handling), (
        "the clock of the broker is ahead: nothing is committed"
    )
    later = replace(RUNNING, timers=timers.add((), [Timer(NOW + 99.0, 2)]))
    used = taken(later, WAKE, NOW + 10.0)
    assert used == InputResult(replace(later, armed=None)), "used up: the transition arms the next one"
    foreign = replace(WAKE, due=NOW + 3.0)
    assert taken(RUNNING, foreign, NOW + 9.0) == InputResult(RUNNING)
    fired = taken(RUNNING, WAKE, NOW + 10.0).head
    assert taken(fired, WAKE, NOW + 10.0) == InputResult(fired)
