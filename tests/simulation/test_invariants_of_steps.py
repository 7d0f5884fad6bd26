"""Each rule about what is written finds a change that breaks it, and is named by that."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import TaskTimedOutError, Workflow
from infinitic.engines import state
from infinitic.engines.effects import ActivateElsewhere, Answer, CancelSent, Confirm, SendTask
from infinitic.engines.state import OpenBlock
from infinitic.messages import commands, events
from infinitic.messages.attempts import Execution
from infinitic.messages.client import ReplyTo
from infinitic.messages.events import Event
from infinitic.messages.outcomes import RemoteStatus
from infinitic.storage import Change, Published
from tests.simulation.cases import CASES, Case, Numbers, by_name
from tests.simulation.tape import (
    Note,
    Tape,
    changes,
    find,
    find_violation,
    has_event,
    is_published,
    move,
    read_events,
    read_head,
    record,
    record_once,
    rewrite,
)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_run_as_it_was_breaks_no_rule(case: Case, split: bool) -> None:
    assert find_violation(case, record_once(case.name, split=split)) is None


def double(kind: type[Event]) -> Callable[[list[Event]], list[Event]]:
    """Let the first event of a type happen twice."""

    def change(happened: list[Event]) -> list[Event]:
        first = next(index for index, event in enumerate(happened) if isinstance(event, kind))
        return [*happened[: first + 1], happened[first], *happened[first + 1 :]]

    return change


def alter(kind: type[Event], **fields: object) -> Callable[[list[Event]], list[Event]]:
    """Change fields of all events of a type."""
    return lambda happened: [replace(event, **fields) if isinstance(event, kind) else event for event in happened]


def last_change(tape: Tape) -> int:
    return [index for index, _ in changes(tape)][-1]


class Hasty(Workflow):
    numbers = Workflow.new_service(Numbers, total_timeout=10.0)

    async def run(self) -> str:
        try:
            await self.numbers.wait(1, 20.0)
        except TaskTimedOutError:
            return "too slow"
        return "in time"


HASTY = Case("hasty", (Hasty,), lambda client: client.new_workflow(Hasty).run())


def expect_another_version(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), expected=7)


def create_again_after_a_purge(tape: Tape) -> Tape:
    first = tape[find(tape, has_event(events.MethodStarted))]
    end = tape[-1].at + 100 * 86_400.0
    assert isinstance(first.change, Change)
    # Its checksum is for another version.
    again = replace(first.change, version=first.change.version + 10**15, head=state.encode(read_head(first)))
    return [*tape, Note(end, purged=True), Note(end, change=again)]


def write_a_tombstone_again(tape: Tape) -> Tape:
    note = tape[last_change(tape)]
    last = note.change
    assert isinstance(last, Change)
    head = state.encode(read_head(note))
    again = replace(last, expected=last.version, version=last.version + 1, segment=None, head=head)
    return [*tape, Note(tape[-1].at, change=again)]


def leave_a_gap_in_segments(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), sequence=1, head=lambda head: replace(head, sequence=head.sequence + 1))


def leave_a_gap_in_activations(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), happened=alter(events.Activated, number=99))


def leave_a_gap_in_positions(tape: Tape) -> Tape:
    index = find(tape, has_event(commands.ScheduleTask))
    return rewrite(tape, index, happened=alter(commands.ScheduleTask, position=5))


def cancel_what_nobody_asked_for(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), happened=lambda happened: [*happened, commands.CancelPosition(99)])


def turn_the_time_back(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), happened=alter(events.Activated, at=1.0))


def turn_the_time_of_the_head_back(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), head=lambda head: replace(head, at=1.0))


def ask_twice(tape: Tape) -> Tape:
    second = find(tape, has_event(commands.ScheduleTask), 1)
    return rewrite(tape, second, happened=alter(commands.ScheduleTask, position=0))


def end_twice(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), happened=double(commands.CompleteMethod))


def start_twice(tape: Tape) -> Tape:
    first = read_events(tape[find(tape, has_event(events.MethodStarted))])
    start = next(each for each in first if isinstance(each, events.MethodStarted))
    # It is an event of no input: that is another rule, which is looked at first.
    return rewrite(tape, last_change(tape), happened=lambda happened: [*happened, replace(start, method_id="other")])


def end_what_never_began(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), happened=alter(commands.CompleteMethod, method_id="other"))


def delegate_what_nobody_reported(tape: Tape) -> Tape:
    def change(happened: list[Event]) -> list[Event]:
        first = next(index for index, event in enumerate(happened) if isinstance(event, events.TaskResult))
        return [*happened[:first], events.TaskHandedOver(0), *happened[first:]]

    return rewrite(tape, find(tape, has_event(events.TaskResult)), happened=change)


def settle_twice(tape: Tape) -> Tape:
    return rewrite(tape, find(tape, has_event(events.TaskResult)), happened=double(events.TaskResult))


def settle_as_local_by_a_message(tape: Tape) -> Tape:
    change = alter(events.TaskResult, local=True)
    return rewrite(tape, find(tape, has_event(events.TaskResult)), happened=change)


def settle_a_child_twice(tape: Tape) -> Tape:
    return rewrite(tape, find(tape, has_event(events.RemoteResult)), happened=double(events.RemoteResult))


def record_another_result_of_a_child(tape: Tape) -> Tape:
    index = find(tape, has_event(events.RemoteResult))
    return rewrite(tape, index, happened=alter(events.RemoteResult, value=Raw(b"666")))


def record_a_failure_that_no_child_has(tape: Tape) -> Tape:
    index = find(tape, has_event(events.RemoteError))
    return rewrite(tape, index, happened=alter(events.RemoteError, status=RemoteStatus.UNKNOWN))


def fire_twice(tape: Tape) -> Tape:
    return rewrite(tape, find(tape, has_event(events.TimerFired)), happened=double(events.TimerFired))


def fire_early(tape: Tape) -> Tape:
    index = find(tape, has_event(events.TimerFired))
    change = tape[index].change
    assert isinstance(change, Change)
    return rewrite(tape, index, at=change.at - 1.0)


def record_another_signal(tape: Tape) -> Tape:
    index = find(tape, has_event(events.SignalReceived))
    return rewrite(tape, index, happened=alter(events.SignalReceived, value=Raw(b'"forged"')))


def record_another_sender(tape: Tape) -> Tape:
    index = find(tape, has_event(events.SignalReceived))
    return rewrite(tape, index, happened=alter(events.SignalReceived, by="nobody"))


def record_another_worker(tape: Tape) -> Tape:
    index = find(tape, has_event(events.TaskResult))
    return rewrite(tape, index, happened=alter(events.TaskResult, execution=Execution(0, 0, "nobody")))


def record_another_result(tape: Tape) -> Tape:
    return rewrite(tape, find(tape, has_event(events.TaskResult)), happened=alter(events.TaskResult, value=Raw(b"666")))


def record_another_start(tape: Tape) -> Tape:
    index = find(tape, has_event(events.MethodStarted))
    return rewrite(tape, index, happened=alter(events.MethodStarted, arguments=Raw(b"[666]")))


def record_a_failure_of_nobody(tape: Tape) -> Tape:
    failed = next(
        event for note in record_once("failure") for event in read_events(note) if isinstance(event, events.TaskError)
    )
    index = find(tape, has_event(events.TaskResult))
    written = tape[index]
    # Without its report, a result cannot be too large either.
    is_report = is_published("workflow-engine", b'"task_completed"')
    shorter = [note for note in tape if not is_report(note) and note.delivery is None]
    return rewrite(
        shorter,
        shorter.index(written),
        happened=lambda happened: [failed if isinstance(each, events.TaskResult) else each for each in happened],
    )


def take_a_signal_twice(tape: Tape) -> Tape:
    taken = [(index, change) for index, change in changes(tape) if change.deduplication_ids]
    ids = taken[0][1].deduplication_ids
    return rewrite(tape, taken[1][0], deduplication_ids=(*ids, *taken[1][1].deduplication_ids))


def swap_signals(tape: Tape) -> Tape:
    first, second = (find(tape, is_published("workflow-engine", b'"signal"'), number) for number in (0, 1))
    return move(tape, second, first)


def count_an_attempt_twice(tape: Tape) -> Tape:
    return rewrite(tape, find(tape, has_event(events.AttemptError)), happened=double(events.AttemptError))


def send_an_attempt_early(tape: Tape) -> Tape:
    failed = find(tape, has_event(events.AttemptError))
    later = [index for index, _ in changes(tape) if index > failed]
    sent = next(index for index in later if read_head(tape[index]).retries[0].due is None)
    change = tape[sent].change
    assert isinstance(change, Change)
    return rewrite(tape, sent, at=change.at - 0.5)


def shorten_a_delay(tape: Tape) -> Tape:
    index = find(tape, has_event(events.AttemptError))
    return rewrite(
        tape,
        index,
        head=lambda head: replace(
            head, retries=tuple(replace(each, due=(each.due or 0.0) - 0.5) for each in head.retries), armed=1.0
        ),
        entry=None,
    )


def forget_an_open_task(tape: Tape) -> Tape:
    return rewrite(tape, find(tape, has_event(commands.ScheduleTask)), head=lambda head: replace(head, open=()))


def forget_a_timer(tape: Tape) -> Tape:
    return rewrite(
        tape, find(tape, has_event(commands.StartTimer)), head=lambda head: replace(head, timers=(), armed=None)
    )


def forget_a_stimulus(tape: Tape) -> Tape:
    index = find(tape, has_event(commands.ScheduleTask))
    return rewrite(tape, index, head=lambda head: replace(head, pending=1))


def forget_a_method(tape: Tape) -> Tape:
    index = find(tape, has_event(events.MethodStarted))
    return rewrite(tape, index, head=lambda head: replace(head, methods=head.methods[:1]))


def leave_a_wake_armed(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), head=lambda head: replace(head, armed=1.0))


def close_for_ever(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), expires_at=None)


def arm_no_wake(tape: Tape) -> Tape:
    index = find(tape, has_event(commands.StartTimer))
    return rewrite(tape, index, head=lambda head: replace(head, armed=None))


def arm_a_late_wake(tape: Tape) -> Tape:
    index = find(tape, has_event(commands.StartTimer))
    return rewrite(tape, index, head=lambda head: replace(head, armed=(head.armed or 0.0) + 1.0))


def send_what_is_cancelled(tape: Tape) -> Tape:
    index = find(tape, has_event(commands.ScheduleTask))
    return rewrite(tape, index, happened=lambda happened: [*happened, commands.CancelPosition(0)])


def send_what_was_not_asked(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), outbox=lambda outbox: [*outbox, SendTask(0, 1)])


def confirm_what_was_not_taken(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), outbox=lambda outbox: [*outbox, Confirm(ReplyTo("client", "1"))])


def answer_who_has_not_ended(tape: Tape) -> Tape:
    return rewrite(tape, last_change(tape), outbox=lambda outbox: [*outbox, Answer(ReplyTo("client", "1"), "m", 1)])


def activate_twice(tape: Tape) -> Tape:
    more = [ActivateElsewhere(1, 1), ActivateElsewhere(1, 1)]
    return rewrite(tape, last_change(tape), outbox=lambda outbox: [*outbox, *more])


def write_before_the_outbox_is_published(tape: Tape) -> Tape:
    sent = find(tape, is_published("service-executor"))
    following = next(index for index, _ in changes(tape) if index > sent)
    # The acknowledgements break other rules.
    before = [note for note in tape[:following] if note is not tape[sent] and note.delivery is None]
    return [*before, *tape[following:]]


def tell_nobody_to_stop(tape: Tape) -> Tape:
    cancelled = find(tape, has_event(commands.CancelPosition))
    return rewrite(tape, cancelled, outbox=lambda kept: [each for each in kept if not isinstance(each, CancelSent)])


def stop_what_is_waited_for(tape: Tape) -> Tape:
    """The first task runs, and the second step asks for nothing to be stopped."""
    cancelled = find(tape, has_event(events.CancelRequested))
    asked = find(tape[cancelled:], has_event(commands.ScheduleTask)) + cancelled
    position = next(each for each in read_events(tape[asked]) if isinstance(each, commands.ScheduleTask)).position
    later = find(tape[asked + 1 :], lambda note: isinstance(note.change, Change)) + asked + 1
    block = OpenBlock(read_head(tape[asked]).sequence, position, b"\x01")
    return rewrite(tape, later, outbox=lambda kept: [*kept, CancelSent((block,))])


def mark_before_publishing(tape: Tape) -> Tape:
    return rewrite(tape, find(tape, has_event(commands.ScheduleTask)), published=True)


def mark_in_a_commit_of_its_own(tape: Tape) -> Tape:
    index = find(tape, has_event(commands.ScheduleTask))
    change = tape[index].change
    assert isinstance(change, Change)
    mark = Note(tape[index].at, change=Published(change.key, change.version))
    return [*tape[: index + 1], mark, *tape[index + 1 :]]


BREAKS: tuple[tuple[str, str, Callable[[Tape], Tape]], ...] = (
    ("one-writer", "sequential", expect_another_version),
    ("one-instance", "sequential", create_again_after_a_purge),
    ("one-end", "sequential", write_a_tombstone_again),
    ("history-gapless", "sequential", leave_a_gap_in_segments),
    ("history-gapless", "sequential", leave_a_gap_in_activations),
    ("history-gapless", "sequential", leave_a_gap_in_positions),
    ("history-gapless", "sequential", cancel_what_nobody_asked_for),
    ("time-forward", "timers", turn_the_time_back),
    ("time-forward", "timers", turn_the_time_of_the_head_back),
    ("command-once", "sequential", ask_twice),
    ("method-once", "sequential", end_twice),
    ("method-once", "sequential", end_what_never_began),
    ("delegated-once", "sequential", delegate_what_nobody_reported),
    ("result-once", "sequential", settle_twice),
    ("local-in-step", "sequential", settle_as_local_by_a_message),
    ("result-once", "family", settle_a_child_twice),
    ("input-known", "family", record_another_result_of_a_child),
    ("input-known", "family", record_a_failure_that_no_child_has),
    ("timer-once", "timers", fire_twice),
    ("timer-not-early", "timers", fire_early),
    ("input-known", "approval", record_another_signal),
    ("input-known", "approval", record_another_sender),
    ("input-known", "sequential", record_another_result),
    ("input-known", "sequential", record_another_worker),
    ("input-known", "sequential", record_another_start),
    ("input-known", "sequential", record_a_failure_of_nobody),
    ("input-known", "sequential", start_twice),
    ("input-once", "approval", take_a_signal_twice),
    ("signal-order", "approval", swap_signals),
    ("retry-counted", "retries", count_an_attempt_twice),
    ("retry-not-early", "retries", send_an_attempt_early),
    ("retry-not-early", "retries", shorten_a_delay),
    ("head-matches-history", "sequential", forget_an_open_task),
    ("head-matches-history", "timers", forget_a_timer),
    ("head-matches-history", "sequential", forget_a_stimulus),
    ("head-matches-history", "approval", forget_a_method),
    ("nothing-left-open", "sequential", leave_a_wake_armed),
    ("nothing-left-open", "sequential", close_for_ever),
    ("wake-armed", "timers", arm_no_wake),
    ("wake-armed", "timers", arm_a_late_wake),
    ("no-late-task", "sequential", send_what_is_cancelled),
    ("outbox-bounded", "sequential", send_what_was_not_asked),
    ("outbox-bounded", "sequential", confirm_what_was_not_taken),
    ("outbox-bounded", "sequential", answer_who_has_not_ended),
    ("outbox-bounded", "sequential", activate_twice),
    ("cancel-told", "cleanup", tell_nobody_to_stop),
    ("cancel-told", "cleanup", stop_what_is_waited_for),
    ("outbox-drained", "sequential", write_before_the_outbox_is_published),
    ("mark-true", "sequential", mark_before_publishing),
    ("mark-true", "sequential", mark_in_a_commit_of_its_own),
)


@pytest.mark.parametrize(("rule", "case", "change"), BREAKS, ids=[f"{each[0]}-{each[2].__name__}" for each in BREAKS])
def test_a_change_that_breaks_a_rule_is_named_by_it(rule: str, case: str, change: Callable[[Tape], Tape]) -> None:
    assert find_violation(by_name(case), change(list(record_once(case)))) == rule


def test_a_total_timeout_that_comes_early_is_named() -> None:
    tape = record(HASTY)
    assert find_violation(HASTY, tape) is None
    index = find(tape, has_event(events.TaskTimeout))
    change = tape[index].change
    assert isinstance(change, Change)
    assert find_violation(HASTY, rewrite(tape, index, at=change.at - 1.0)) == "timer-not-early"
