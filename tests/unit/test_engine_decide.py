"""Activations: `begin`, `decide`, `stall`, and `conclude`, which ends a transition."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic.engines import state, timers
from infinitic.engines.effects import Answer, ArmWake, CancelSent, Effect, SendTask
from infinitic.engines.positions import count, open_block
from infinitic.engines.state import Method, Retry, TimerKind, WorkflowHead
from infinitic.engines.timers import Timer
from infinitic.engines.workflow import Transition, begin, begin_elsewhere, conclude, decide, is_runnable, stall
from infinitic.engines.workflow.decide import MAX_TOLD
from infinitic.errors import ExceptionDetail
from infinitic.messages.client import ReplyTo
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
from infinitic.messages.events import Activated, Event, TimerFired
from infinitic.messages.outcomes import MethodFailure, WorkflowStatus
from infinitic.storage import Entry
from tests.unit.engine_samples import CLOSED, DECIDING, ENDED, ME, NOW, RUNNING, VALUE

DAY = 86_400.0
FAILED = MethodFailure(ExceptionDetail("builtins.ValueError", "no"))
ALONE = replace(RUNNING, open=(), timers=(), armed=None)


def task(position: int, timeout_at: float | None = None) -> ScheduleTask:
    return ScheduleTask(position, "Flights", "book", Raw(b"[]"), timeout_at=timeout_at)


def decided(head: WorkflowHead, *commands: Command) -> tuple[WorkflowHead, list[Effect]]:
    """Decide, and prove that nothing but the arguments decides."""
    before = state.encode(head)
    result = decide(head, commands, 3, 100.0)
    assert decide(head, commands, 3, 100.0) == result
    assert state.encode(head) == before
    return result


def concluded(
    before: WorkflowHead | None,
    head: WorkflowHead,
    events: Sequence[Event] = (),
    outbox: Sequence[Effect] = (),
    now: float = NOW,
) -> Transition:
    """Conclude, and prove the same."""
    encoded = state.encode(head)
    given = list(outbox)
    result = conclude(before, head, events, given, now)
    assert conclude(before, head, events, given, now) == result
    assert (given, state.encode(head)) == (list(outbox), encoded)
    return result


def test_activations_are_numbered_and_their_time_never_goes_back() -> None:
    """S16."""
    assert begin(replace(RUNNING, at=NOW), NOW + 1.0, each=True) == Activated(2, NOW + 1.0, True)
    assert begin(replace(RUNNING, at=NOW), NOW - 1.0, each=False) == Activated(2, NOW)
    elsewhere = begin_elsewhere(replace(RUNNING, pending=2), Activated(2, NOW))
    assert (elsewhere.activation, elsewhere.at, elsewhere.pending, elsewhere.deciding) == (2, NOW, 0, 2)


def test_code_is_run_when_stimuli_wait_and_nothing_keeps_it_from_running() -> None:
    waiting = replace(RUNNING, pending=2)
    assert is_runnable(waiting)
    assert not is_runnable(RUNNING)
    assert not is_runnable(replace(waiting, deciding=2))
    assert not is_runnable(stall(waiting, "a bug"))
    assert not is_runnable(replace(CLOSED, pending=2))
    assert stall(waiting, "a bug") == replace(waiting, stalled="a bug")


def test_tasks_open_positions_in_the_segment_of_the_decision() -> None:
    head, outbox = decided(
        RUNNING, task(4), RecordInline(5, "draw", VALUE), task(6, NOW + 9.0), StartTimer(7, NOW + 3.0)
    )
    assert outbox == [ArmWake(NOW + 3.0), SendTask(4, 2), SendTask(6, 2)]
    assert head.open == (*RUNNING.open, open_block(2, [4, 6]))
    assert head.timers == timers.add(RUNNING.timers, [Timer(NOW + 9.0, 6, TimerKind.TIMEOUT), Timer(NOW + 3.0, 7)])
    assert (head.position, head.version, head.retention) == (8, 3, 100.0)


def test_a_decision_from_elsewhere_ends_the_waiting_for_it() -> None:
    head, _ = decided(DECIDING)
    assert (head.deciding, head.activation) == (0, DECIDING.activation)


def test_cancelling_a_position_leaves_nothing_of_it_behind() -> None:
    """S25: an open task, one that waits for its retry, a timer, and new commands."""
    before = replace(RUNNING, retries=(Retry(1, 1, 1, 0, 1, NOW + 5.0),))
    cancelled = [CancelPosition(each) for each in (1, 2, 3, 4)]
    head, outbox = decided(before, task(4), *cancelled, task(5, NOW + 1.0), CancelPosition(5))
    assert outbox == [CancelSent((open_block(1, [3]),))], "with nobody are 1, which waits, and 4"
    assert count(head.open) == 1
    assert (head.timers, head.retries, head.position) == ((), (), 6)
    assert decided(head, CancelPosition(1))[0].open == head.open, "a second time it is nothing"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (CompleteMethod("t1", VALUE), WorkflowStatus.COMPLETED),
        (FailMethod("t1", FAILED), WorkflowStatus.FAILED),
        (CancelMethod("t1"), WorkflowStatus.CANCELED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_end_of_the_first_method_is_kept(command: Command, status: WorkflowStatus) -> None:
    """S28: and its waiters are answered at once."""
    waited = replace(RUNNING, methods=(Method("t1", "book", (ME, ReplyTo("other", "1"))),))
    head, outbox = decided(waited, command)
    assert head.methods == (Method("t1", "book", (), status, 2),)
    assert outbox == [Answer(ME, "t1", 2), Answer(ReplyTo("other", "1"), "t1", 2)]


def test_the_end_of_another_method_is_answered_and_forgotten() -> None:
    two = replace(RUNNING, methods=(*RUNNING.methods, Method("m2", "change", (ME,))))
    head, outbox = decided(two, CompleteMethod("m2", VALUE))
    assert head.methods == RUNNING.methods
    assert outbox == [Answer(ME, "m2", 2)]


# The closing rule (S28).


def test_of_the_instances_that_waited_for_methods_that_failed_a_bounded_number_is_kept() -> None:
    """Otherwise each transition would write all that ever failed."""
    told = tuple((f"m{number}", ReplyTo("parent", str(number), "Parent")) for number in range(MAX_TOLD))
    mine = ReplyTo("parent", "last", "Parent")
    head = replace(RUNNING, methods=(*RUNNING.methods, Method("m", "change", (mine,))), told=told)
    failed = FailMethod("m", MethodFailure(ExceptionDetail("builtins.ValueError", "no")))
    assert decide(head, [failed], 0, 0.0)[0].told == (*told[1:], ("m", mine))


@pytest.mark.parametrize("status", [WorkflowStatus.COMPLETED, WorkflowStatus.FAILED, WorkflowStatus.CANCELED])
def test_it_closes_once_all_methods_have_returned_and_all_tasks_are_settled(status: WorkflowStatus) -> None:
    ended = replace(
        ENDED, open=(), methods=(replace(ENDED.methods[0], status=status),), meta={"k": b"v"}, retention=50.0, version=2
    )
    closed = concluded(ENDED, ended, [TimerFired(2)])
    assert closed.head == replace(
        ended, status=status, closed_at=NOW, timers=(), armed=None, sequence=ENDED.sequence + 1
    ), "its meta stays: a replay of the history may read it"
    assert closed.expires_at == NOW + 50.0
    assert closed.entry == Entry(status, ended.started_at, 2, NOW)
    assert ArmWake not in map(type, closed.outbox), "timers do not keep it open, nor are they armed"


def test_it_stays_open_for_whatever_is_not_done() -> None:
    done = replace(ENDED, open=())
    for open_still in (
        replace(done, open=(open_block(1, [0]),)),
        replace(done, methods=(*done.methods, Method("m2", "change"))),
        replace(done, methods=(replace(done.methods[0], status=WorkflowStatus.RUNNING, ended=0), *done.methods[1:])),
        replace(done, pending=6),
        replace(done, deciding=6),
    ):
        transition = concluded(ENDED, open_still)
        assert transition.head.closed_at is None
        assert transition.expires_at is None


def test_cancelled_it_waits_for_its_methods_but_for_no_task() -> None:
    """S28, S35."""
    cancelled = replace(ENDED, canceling=True, retries=(Retry(1, 1, 1, 0, 1, NOW + 5.0),))
    closed = concluded(ENDED, cancelled)
    assert closed.head.closed
    assert (closed.head.open, closed.head.timers, closed.head.retries) == ((), (), ())
    assert not concluded(RUNNING, replace(RUNNING, canceling=True)).head.closed


def test_nothing_changes_a_tombstone() -> None:
    """F1: not its times, and so not the end of its retention."""
    expires_at = NOW - 1.0 + CLOSED.retention
    assert concluded(CLOSED, CLOSED, now=NOW + 100.0) == Transition(CLOSED, (), [], None, expires_at)


# One armed wake (S24).


def test_a_timer_that_is_earlier_than_the_armed_wake_is_armed() -> None:
    head, outbox = decided(ALONE, StartTimer(4, NOW + 9.0), StartTimer(5, NOW + 5.0))
    armed = concluded(ALONE, head, (), [*outbox, ArmWake(NOW + 7.0)])
    assert armed.outbox == [ArmWake(NOW + 5.0)]
    assert armed.head.armed == NOW + 5.0
    found_if_the_wake_is_lost = Entry(WorkflowStatus.RUNNING, ALONE.started_at, 3, None, NOW + 5.0)
    assert armed.entry == found_if_the_wake_is_lost


def test_at_most_one_is_armed_and_none_later_than_the_one_that_is() -> None:
    head = replace(ALONE, timers=timers.add((), [Timer(NOW + 10.0, 2)]), armed=NOW + 10.0)
    for later in (NOW + 10.0, NOW + 11.0):
        assert concluded(head, head, (), [ArmWake(later)]).outbox == []
    sooner = concluded(head, head, (), [ArmWake(NOW + 11.0), ArmWake(NOW + 9.0)])
    assert sooner.outbox == [ArmWake(NOW + 9.0)]
    assert concluded(head, replace(head, timers=())).outbox == [], "what is not needed any more comes, and harms not"


def test_after_a_wake_the_earliest_of_timers_and_retries_is_armed() -> None:
    left = timers.add((), [Timer(NOW + 10.0, 2), Timer(NOW + 8.0, 3)])
    before = replace(ALONE, timers=left, retries=(Retry(1, 1, 1, 0, 1, NOW + 7.0),), armed=NOW)
    armed = concluded(before, replace(before, armed=None))
    assert armed.outbox == [ArmWake(NOW + 7.0)]
    assert armed.head.armed == NOW + 7.0
    assert concluded(before, replace(before, armed=None, retries=())).outbox == [ArmWake(NOW + 8.0)]
    added = concluded(before, replace(before, armed=None), (), [ArmWake(NOW + 9.0)])
    assert added.outbox == [ArmWake(NOW + 7.0)], "what was added in the same step does not hide it"
    nothing = concluded(before, replace(before, armed=None, retries=(), timers=()))
    assert (nothing.outbox, nothing.head.armed) == ([], None)


def test_no_wake_is_more_than_a_day_away() -> None:
    head, outbox = decided(ALONE, StartTimer(4, NOW + 30 * DAY))
    month = concluded(ALONE, head, (), outbox)
    assert month.outbox == [ArmWake(NOW + DAY)]
    assert month.head.armed == NOW + DAY
    used_up = replace(month.head, armed=None)
    assert concluded(month.head, used_up, now=NOW + 29.5 * DAY).outbox == [ArmWake(NOW + 30 * DAY)]


def test_a_retry_that_was_sent_arms_nothing() -> None:
    before = replace(ALONE, armed=NOW)
    assert concluded(before, replace(ALONE, retries=(Retry(1, 1, 1, 0, 1, None),))).outbox == []


# Segments and entries.


def test_of_the_attempts_of_a_task_the_newest_is_sent_if_it_is_open() -> None:
    """A task fails an attempt and completes in one batch: there is nothing left to send."""
    again = SendTask(1, 1, 0, 1, 2)
    runs = replace(RUNNING, retries=(Retry(1, 1, 2, 0, 1, None),))
    assert concluded(RUNNING, runs, (), [again, SendTask(0, 1)]).outbox[:2] == [again, SendTask(0, 1)]
    closed = replace(RUNNING, open=(open_block(1, [0, 3]),))
    assert again not in concluded(RUNNING, closed, (), [again]).outbox
    newer = replace(RUNNING, retries=(Retry(1, 1, 3, 0, 2, None),))
    assert concluded(RUNNING, newer, (), [again, SendTask(1, 1, 0, 2, 3)]).outbox == [SendTask(1, 1, 0, 2, 3)]
    waits = replace(RUNNING, retries=(Retry(1, 1, 3, 0, 2, NOW + 5.0),))
    assert again not in concluded(RUNNING, waits, (), [again]).outbox


def test_what_cleanup_code_asks_for_is_sent_though_a_cancelled_instance_closes_with_it() -> None:
    """S28, S35: it does not wait for its tasks."""
    ended = replace(ENDED, canceling=True, open=(open_block(6, [5]),), timers=())
    transition = concluded(RUNNING, ended, (), [SendTask(5, 6)])
    assert transition.head.closed
    assert transition.outbox == [SendTask(5, 6)]


def test_a_cancelled_instance_that_closes_sends_no_attempt_again() -> None:
    """S6: the delay of one is over in the same step."""
    again = SendTask(1, 1, 0, 1, 2)
    due = replace(ENDED, canceling=True, timers=(), retries=(Retry(1, 1, 2, 0, 1, None),))
    transition = concluded(RUNNING, due, (), [again])
    assert transition.head.closed
    assert again not in transition.outbox


def test_a_cancelled_instance_stops_what_it_leaves_open_when_it_closes() -> None:
    """S6: but not what its clean-up has asked for, and what waits for its retry."""
    opened = (open_block(1, [0, 1, 3]), open_block(2, [4, 6]))
    waits = Retry(1, 1, 1, 0, 1, NOW + 5.0)
    again = Retry(0, 1, 1, 2, 1, None)
    canceling = replace(RUNNING, canceling=True, cleanup=6, open=opened, retries=(again, waits), position=7)
    assert decided(canceling)[1] == [], "a method runs"
    _, outbox = decided(canceling, task(7), CancelMethod("t1"))
    stopped = CancelSent((open_block(1, [0, 3]), open_block(2, [4])), ((0, 2),))
    assert outbox == [Answer(ReplyTo("other", "1"), "t1", 2), stopped, SendTask(7, 2)]


def test_what_was_left_to_the_next_activation_has_a_wake_that_brings_it_about() -> None:
    """The outbox of a runnable head resumes it: perhaps no other message ever comes."""
    left = replace(RUNNING, pending=2, skip=3)
    assert concluded(RUNNING, left).outbox == [ArmWake(NOW)]
    for waits in (replace(left, deciding=2), replace(left, stalled="a bug")):
        assert concluded(RUNNING, waits).outbox == []


def test_an_activation_that_handed_over_some_leaves_the_others() -> None:
    head = replace(RUNNING, pending=2)
    fused, _ = decide(head, [task(4)], 0, 0.0, Activated(2, NOW, each=True), 3)
    assert (fused.pending, fused.skip, fused.activation) == (2, 3, 2)
    again, _ = decide(fused, [], 0, 0.0, Activated(3, NOW, each=True), 2)
    assert (again.pending, again.skip) == (2, 5)
    done, _ = decide(again, [], 0, 0.0, Activated(4, NOW, each=True))
    assert (done.pending, done.skip) == (0, 0)
    elsewhere = replace(DECIDING, pending=3)
    left, _ = decide(elsewhere, [], 0, 0.0, handed=3)
    assert (left.deciding, left.pending, left.skip) == (0, 2, 3)
    handed, _ = decide(replace(elsewhere, skip=3), [], 0, 0.0)
    assert (handed.deciding, handed.pending, handed.skip) == (0, 3, 0), "what came meanwhile was not handed over"


def test_a_segment_is_written_for_events_or_an_outbox_and_for_nothing_else() -> None:
    assert concluded(RUNNING, RUNNING).head is RUNNING
    assert concluded(RUNNING, replace(RUNNING, digest="d")).head.sequence == RUNNING.sequence
    assert concluded(RUNNING, RUNNING, [TimerFired(2)]).head.sequence == RUNNING.sequence + 1
    assert concluded(RUNNING, RUNNING, (), [SendTask(0, 1)]).head.sequence == RUNNING.sequence + 1


def test_a_decision_is_written_in_the_segment_that_it_counts_or_in_none() -> None:
    """Effects name that segment, so it may be neither counted twice nor left out."""
    head, outbox = decided(DECIDING, task(DECIDING.position))
    result = concluded(DECIDING, head, [task(DECIDING.position)], outbox)
    assert result.head.sequence == head.sequence == DECIDING.sequence + 1
    assert [each.request for each in outbox if isinstance(each, SendTask)] == [result.head.sequence]
    nothing, outbox = decided(DECIDING)
    assert outbox == []
    assert concluded(DECIDING, nothing).head.sequence == DECIDING.sequence


def test_the_searchable_facts_are_written_only_when_they_change() -> None:
    assert concluded(None, RUNNING).entry is not None
    assert concluded(RUNNING, replace(RUNNING, digest="d")).entry is None
    assert concluded(RUNNING, replace(RUNNING, version=5)).entry is not None
