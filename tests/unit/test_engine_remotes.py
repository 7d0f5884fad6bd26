"""What an instance asks of another one, and how it takes the answers (S29, S30, S10, S13)."""

from __future__ import annotations

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import ids
from infinitic.engines import timers
from infinitic.engines.effects import ArmWake, CancelSent, SendRemote, SendTask
from infinitic.engines.positions import find_request, open_block
from infinitic.engines.state import Retry, TimerKind, WorkflowHead
from infinitic.engines.timers import Timer
from infinitic.engines.validate import InvalidInput, check_decision
from infinitic.engines.workflow import InputResult, decide
from infinitic.engines.workflow.remote_messages import make_requester, make_settlement, render_request
from infinitic.engines.workflow.render import make_response, render
from infinitic.errors import ExceptionDetail
from infinitic.messages import client, engine as inputs, events
from infinitic.messages.commands import (
    CallRemote,
    CancelMethod,
    CancelPosition,
    Command,
    ScheduleTask,
    SignalRemote,
    StartChild,
)
from infinitic.messages.outcomes import MethodFailure, RemoteStatus
from tests.unit.engine_samples import CLOSED, NOW, RUNNING, VALUE, taken

PARENT = replace(RUNNING, run=2)
CHILD = StartChild(4, "Invoice", "issue", Raw(b"[1]"), {"k": b"v"}, NOW + 30.0)
CALL = CallRemote(5, "Invoice", "i1", "pay", Raw(b"[2]"), {"k": b"v"})
SIGNAL = SignalRemote(6, "Invoice", "i1", "paid", VALUE, {"k": b"v"})
FAILURE = MethodFailure(ExceptionDetail("builtins.ValueError", "no"))
SETTLED = inputs.RemoteSettled(made_at=NOW, position=1, run=2, value=VALUE)
FAILED = inputs.RemoteSettled(made_at=NOW, position=1, run=2, status=RemoteStatus.FAILED, failure=FAILURE)


def asked(*commands: Command) -> tuple[WorkflowHead, list[object]]:
    head, effects = decide(PARENT, commands, 0, 60.0)
    return head, list(effects)


def test_a_child_and_a_call_are_open_and_a_signal_is_not() -> None:
    """S28, S29."""
    head, effects = asked(CHILD, CALL, SIGNAL)
    assert [find_request(head.open, position) for position in (4, 5, 6)] == [2, 2, None]
    assert head.position == 7
    assert Timer(NOW + 30.0, 4, TimerKind.TIMEOUT) in list(timers.list_timers(head.timers))
    assert effects == [ArmWake(NOW + 30.0), SendRemote(4, 2), SendRemote(5, 2), SendRemote(6, 2)]


def test_what_is_cancelled_in_the_same_step_is_not_sent() -> None:
    """S25."""
    head, effects = asked(CHILD, CALL, SIGNAL, CancelPosition(4))
    assert effects == [SendRemote(5, 2), SendRemote(6, 2)]
    assert find_request(head.open, 4) is None


def test_what_is_asked_for_just_before_the_end_of_a_cancelled_instance_is_not_sent() -> None:
    """S29: the code asked for it before it saw that it is cancelled, and nobody would cancel it."""
    canceling = replace(PARENT, canceling=True, cleanup=4)
    end = CancelMethod("t1")
    task = ScheduleTask(5, "Flights", "book", Raw(b"[]"))
    _, effects = decide(canceling, [CHILD, task, end], 0, 60.0, cleanup=5)
    assert [each for each in effects if isinstance(each, SendRemote | SendTask)] == [SendTask(5, 2)]
    assert [each for each in effects if isinstance(each, CancelSent)] == [CancelSent((open_block(1, [0, 1, 3]),))]


def test_the_messages_have_ids_that_derive_from_the_position() -> None:
    """S10."""
    segments: dict[int, list[events.Event]] = {2: [CHILD, CALL, SIGNAL]}
    effects = [SendRemote(4, 2), SendRemote(5, 2), SendRemote(6, 2)]
    start, call, signal = render(effects, PARENT, segments, NOW, 10_000)
    again = render(effects, PARENT, segments, NOW, 10_000)
    assert [each.message for each in again] == [start.message, call.message, signal.message]
    assert {each.topic.name for each in (start, call, signal)} == {"workflow-engine:Invoice"}
    child_id = ids.remote_id("t1", 2, 4)
    assert (start.message.id, start.message.key) == (child_id, child_id)
    assert (call.message.key, signal.message.key) == ("i1", "i1")
    assert inputs.decode(start.message.body) == inputs.Start(
        made_at=NOW,
        method="issue",
        arguments=Raw(b"[1]"),
        reply_to=client.ReplyTo("t1", "2/4/0", "Trip"),
        meta={"k": b"v"},
        by="t1",
    )
    assert inputs.decode(call.message.body) == inputs.CallMethod(
        made_at=NOW,
        method_id=ids.remote_id("t1", 2, 5),
        method="pay",
        arguments=Raw(b"[2]"),
        reply_to=client.ReplyTo("t1", "2/5/0", "Trip"),
        meta={"k": b"v"},
        by="t1",
    )
    assert inputs.decode(signal.message.body) == inputs.Signal(
        made_at=NOW, signal_id=ids.remote_id("t1", 2, 6), channel="paid", value=VALUE, meta={"k": b"v"}, by="t1"
    )


def test_ids_of_other_positions_runs_and_retries_differ() -> None:
    """S10."""
    places = [(run, position, sequence) for run in (0, 1) for position in (0, 1) for sequence in (0, 1)]
    made = {ids.remote_id("t1", *place) for place in places}
    assert len(made) == 8
    assert all(len(each) == 32 for each in made)
    [again] = render_request(SendRemote(4, 2, 1), CHILD, PARENT, NOW)
    assert again.message.key == ids.remote_id("t1", 2, 4, 1)
    assert ids.read_settlement(ids.settlement_id("t1", ids.remote_request(2, 4, 1)), "t1") == (2, 4, 1)
    for other in ("t1", "t1/wake", "t1/settled/1/2", "t1/settled/1/2/x", "t2/settled/1/2/3"):
        assert ids.read_settlement(other, "t1") is None


def test_a_result_settles_and_a_repeat_changes_nothing() -> None:
    """S13, S29."""
    settled = taken(PARENT, SETTLED)
    assert settled.events == (events.RemoteResult(1, VALUE, NOW),)
    assert settled.head is not None
    assert find_request(settled.head.open, 1) is None
    assert taken(settled.head, SETTLED) == InputResult(settled.head)
    assert taken(settled.head, FAILED) == InputResult(settled.head)


@pytest.mark.parametrize("head", [None, CLOSED])
@pytest.mark.parametrize("message", [SETTLED, FAILED])
def test_late_answers_are_dropped(head: WorkflowHead | None, message: inputs.Input) -> None:
    """S13, F1."""
    assert taken(head, message) == InputResult(head)


def test_an_answer_to_another_run_is_dropped() -> None:
    """S10, S20."""
    assert taken(PARENT, replace(SETTLED, run=1)) == InputResult(PARENT)
    assert taken(PARENT, replace(FAILED, run=1)) == InputResult(PARENT)


def test_a_failure_counts_only_for_the_newest_request_and_a_result_for_each() -> None:
    """S10."""
    again = replace(PARENT, retries=(Retry(1, 1, 0, 1, 0, None),))
    assert taken(again, FAILED) == InputResult(again)
    assert taken(again, replace(FAILED, retry_sequence=1)).events == (
        events.RemoteError(1, RemoteStatus.FAILED, FAILURE, at=NOW),
    )
    assert taken(again, SETTLED).events == (events.RemoteResult(1, VALUE, NOW),)


def test_an_older_result_cancels_what_was_asked_for_again() -> None:
    """S29: otherwise that child would run on, and nobody would wait for it."""
    again = replace(PARENT, retries=(Retry(1, 1, 0, 2, 0, None),))
    assert taken(again, replace(SETTLED, retry_sequence=1)).outbox == (CancelSent((open_block(1, [1]),), ((1, 2),)),)
    assert taken(again, replace(SETTLED, retry_sequence=2)).outbox == ()
    assert taken(PARENT, SETTLED).outbox == ()


@pytest.mark.parametrize(
    ("response", "settled"),
    [
        (client.MethodCompleted("2/4/1", VALUE), inputs.RemoteSettled(made_at=NOW, position=4, value=VALUE)),
        (
            client.MethodFailed("2/4/1", FAILURE),
            inputs.RemoteSettled(made_at=NOW, position=4, status=RemoteStatus.FAILED, failure=FAILURE),
        ),
        (
            client.MethodCanceled("2/4/1"),
            inputs.RemoteSettled(made_at=NOW, position=4, status=RemoteStatus.CANCELED),
        ),
        (
            client.WorkflowUnknown("2/4/1"),
            inputs.RemoteSettled(made_at=NOW, position=4, status=RemoteStatus.UNKNOWN),
        ),
        (
            client.WorkflowUnknown("2/4/1", "parked"),
            inputs.RemoteSettled(made_at=NOW, position=4, status=RemoteStatus.REFUSED, reason="parked"),
        ),
    ],
    ids=["completed", "failed", "canceled", "unknown", "refused"],
)
def test_an_instance_is_told_what_a_client_would_be_told(
    response: client.Response, settled: inputs.RemoteSettled
) -> None:
    """S29, S30."""
    to = make_requester(PARENT, 4, 1)
    outgoing = make_response(to, response, NOW, epoch=3)
    assert outgoing == make_settlement(to, response, NOW, 3)
    assert outgoing.topic.name == "workflow-engine:Trip"
    assert (outgoing.message.key, outgoing.message.id) == ("t1", "t1/settled/2/4/1")
    assert inputs.decode(outgoing.message.body) == replace(settled, run=2, retry_sequence=1, epoch=3)


def test_a_requester_stays_short() -> None:
    """It stands in the head of each instance that is waited for."""
    request = inputs.Wait(made_at=1.0, reply_to=client.ReplyTo("c", "7"))
    assert inputs.encode(request) == b'{"t":"wait","at":1.0,"r":["c","7",""]}'
    assert inputs.decode(b'{"t":"wait","at":1.0,"r":["c","7"]}') == request, "as 0.1 sends it (S41)"
    assert make_requester(PARENT, 4, 1).place == (2, 4, 1)


@pytest.mark.parametrize(
    "command",
    [
        replace(CHILD, position=5),
        replace(CHILD, timeout_at=float("nan")),
        replace(CHILD, workflow=""),
        replace(CHILD, method="x" * 256),
        replace(CALL, position=4, workflow_id=""),
        replace(SIGNAL, position=4, channel=""),
    ],
)
def test_impossible_requests_are_refused(command: Command) -> None:
    """S38."""
    with pytest.raises(InvalidInput):
        check_decision(PARENT, inputs.Decision(made_at=NOW, activation=1, commands=(command,)))


def test_a_decision_was_cancelled_at_a_position_that_there_is() -> None:
    """S38."""
    decision = inputs.Decision(made_at=NOW, activation=1, commands=(CHILD,), cleanup=5)
    check_decision(PARENT, decision)
    with pytest.raises(InvalidInput):
        check_decision(PARENT, replace(decision, cleanup=6))
