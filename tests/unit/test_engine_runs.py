"""`begin_run`: when the next run begins, what it keeps, and what counts no more."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic.engines.effects import Answer, ArmWake, CancelSent, Effect, SendRemote
from infinitic.engines.positions import open_block
from infinitic.engines.state import Method, TimerBlock, WorkflowHead
from infinitic.engines.workflow import begin_run, conclude
from infinitic.engines.workflow.runs import FORGOTTEN
from infinitic.messages import commands, engine as inputs, events
from infinitic.messages.client import ReplyTo
from infinitic.messages.events import Carry, Event
from infinitic.messages.outcomes import WorkflowStatus
from tests.unit.engine_samples import FAILURE, NOW, RUNNING, VALUE, taken

WAITER = ReplyTo("other", "1")
CALL = events.MethodStarted("m2", "change", Raw(b"[2]"), NOW)
SIGNAL = events.SignalReceived("go", VALUE, NOW)
CARRY = Carry("book", Raw(b"[7]"), (SIGNAL,), (CALL,), ("eu",), "order-1")
BARE = Carry("book", Raw(b"[7]"))
SETTLED = replace(
    RUNNING,
    methods=(Method("t1", "begin", (WAITER,)), Method("m2", "change", (ReplyTo("client", "9"),))),
    open=(),
    timers=(TimerBlock(NOW + 50.0, 3, b"\x01"),),
    sequence=8,
    activation=5,
    epoch=2,
    digest="d",
    continuing=True,
    tagged=True,
    failures=("LookupError",),
    undone=(3,),
)
HAPPENED: list[Event] = [SIGNAL, events.TaskResult(1, VALUE), events.Activated(5, NOW), commands.RecordPatch("x")]


def test_the_next_run_keeps_what_is_of_the_instance() -> None:
    head, happened, _ = begin_run(SETTLED, CARRY, HAPPENED, (), NOW)
    assert (head.id, head.started_at, head.tagged, head.at) == (SETTLED.id, SETTLED.started_at, True, SETTLED.at)
    assert head.methods == (Method("t1", "book", (WAITER,)), SETTLED.methods[1]), "who waits goes on waiting"
    assert list(happened) == [
        *HAPPENED,
        events.RunStarted(1),
        events.Started(SETTLED.started_at, ("eu",), "order-1"),
        events.MethodStarted("t1", "book", Raw(b"[7]"), NOW),
        SIGNAL,
        CALL,
    ]


def test_the_next_run_forgets_whom_to_tell_of_methods_that_failed_before() -> None:
    """They cannot run again, and there may be more of them with each run."""
    head, _, _ = begin_run(replace(SETTLED, told=(("m1", WAITER),)), CARRY, HAPPENED, (), NOW)
    assert head.told == ()


def test_the_next_run_begins_from_nothing() -> None:
    head, _, _ = begin_run(SETTLED, CARRY, HAPPENED, (), NOW)
    assert (head.run, head.epoch, head.base, head.pending) == (1, 3, 8, 8)
    assert head.skip == 2, "the stimuli that came before in this segment are not handed over again"
    assert (head.activation, head.position, head.version, head.digest) == (0, 0, None, "")
    assert (head.timers, head.failures, head.undone, head.continuing) == ((), (), (), False)


def test_without_tags_there_is_no_event_for_them() -> None:
    _, happened, _ = begin_run(replace(SETTLED, methods=SETTLED.methods[:1]), BARE, [], (), NOW)
    assert [type(each) for each in happened] == [events.RunStarted, events.MethodStarted]


@pytest.mark.parametrize(
    "changes",
    [
        {"continuing": False},
        {"pending": 8},
        {"deciding": 8, "activation": 6},
        {"open": (open_block(1, [1]),)},
        {"methods": (*SETTLED.methods, Method("m3", "change"))},
    ],
    ids=["not asked for", "stimuli wait", "an activation runs", "a task is open", "a method runs"],
)
def test_it_waits_until_nothing_is_left_to_do(changes: dict[str, Any]) -> None:
    head = replace(SETTLED, **changes)
    assert begin_run(head, CARRY, HAPPENED, (), NOW) == (head, HAPPENED, ())
    assert begin_run(SETTLED, None, HAPPENED, (), NOW) == (SETTLED, HAPPENED, ())


def test_methods_that_have_ended_do_not_hold_it_up() -> None:
    main = Method("t1", "begin", (WAITER,))
    head = replace(SETTLED, methods=(main,))
    assert begin_run(head, BARE, [], (), NOW)[0].run == 1
    ended = replace(main, status=WorkflowStatus.COMPLETED, ended=3)
    assert begin_run(replace(SETTLED, methods=(ended,)), BARE, [], (), NOW)[0].methods[0].name == "book"


def test_effects_keep_the_run_that_asked_for_them() -> None:
    asked: list[Effect] = [
        ArmWake(NOW + 50.0),
        CancelSent((open_block(2, [1]),)),
        SendRemote(3, 8),
        Answer(WAITER, "m3", 8),
    ]
    _, _, outbox = begin_run(replace(SETTLED, run=4), CARRY, [], asked, NOW)
    assert list(outbox) == [replace(asked[1], run=4), replace(asked[2], run=4), asked[3]], (
        "no timer is left to wake for"
    )


def test_a_wake_hands_over_what_the_next_run_gets() -> None:
    head, happened, outbox = begin_run(SETTLED, CARRY, HAPPENED, (), NOW)
    transition = conclude(replace(SETTLED, sequence=7), head, happened, outbox, NOW)
    assert list(transition.outbox) == [ArmWake(NOW)]
    assert transition.head.closed_at is None
    assert transition.head.sequence == 8


NEXT = replace(RUNNING, run=1, epoch=3, base=8, sequence=9)


@pytest.mark.parametrize(
    "message",
    [
        inputs.TaskCompleted(made_at=NOW, position=1, value=VALUE),
        inputs.AttemptFailed(made_at=NOW, position=1, failure=FAILURE, delay=5.0, sequence=1),
        inputs.RemoteSettled(made_at=NOW, position=1),
    ],
    ids=lambda each: type(each).__name__,
)
def test_S20_a_message_for_a_position_of_the_run_before_changes_nothing(message: inputs.Input) -> None:
    result = taken(NEXT, message)
    assert (result.head, result.events, result.outbox) == (NEXT, (), ())


def test_S20_a_decision_of_the_run_before_changes_nothing() -> None:
    deciding = replace(NEXT, activation=2, deciding=9)
    late = inputs.Decision(made_at=NOW, activation=2, epoch=2, commands=())
    assert taken(deciding, late).head is deciding
    assert taken(deciding, replace(late, epoch=3)).head is not deciding


def forget(before: WorkflowHead) -> int:
    after = replace(before, sequence=before.sequence + 1)
    return conclude(before, after, [events.Activated(9, NOW)], (), NOW).head.first


def test_segments_of_earlier_runs_go_some_at_a_time() -> None:
    begun = replace(NEXT, base=500, sequence=500)
    assert forget(replace(begun, base=0)) == 0, "nothing goes from a workflow without a second run"
    assert forget(begun) == 1 + FORGOTTEN
    assert forget(replace(begun, first=201)) == 401
    assert forget(replace(begun, first=401)) == 500
    assert forget(replace(begun, first=500)) == 500


def test_the_step_that_begins_a_run_removes_nothing() -> None:
    """Its outbox may need segments of the run before."""
    head, happened, outbox = begin_run(SETTLED, CARRY, HAPPENED, (), NOW)
    assert conclude(replace(SETTLED, sequence=7), head, happened, outbox, NOW).head.first == 0
