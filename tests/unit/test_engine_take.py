"""`take`: what one input does to a head, and how each is recognised when it comes again (S13)."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import ids
from infinitic.engines import state, timers
from infinitic.engines.effects import (
    ActivateElsewhere,
    Answer,
    CancelSent,
    ClaimCustomId,
    Confirm,
    Defer,
    Postpone,
    Refuse,
    Reject,
    RemoveMember,
    SendTask,
    SendToDeadLetters,
    Tell,
    TellCanceled,
)
from infinitic.engines.positions import open_block
from infinitic.engines.state import Method, Probe, TimerBlock, WorkflowHead
from infinitic.engines.workflow import InputResult, is_runnable
from infinitic.engines.workflow.remote_messages import PATIENT
from infinitic.engines.workflow.take import WAITS
from infinitic.limits import MAX_METHODS, MAX_WAITERS
from infinitic.messages import engine as inputs, events
from infinitic.messages.client import ReplyTo
from infinitic.messages.commands import CompleteMethod
from infinitic.messages.engine import Input
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.messages.tags import REMOVED_AS_UNKNOWN, version_removed
from tests.unit.engine_samples import (
    ALL,
    ATTEMPT,
    CALL,
    CANCEL,
    CANCEL_TASK,
    CLOSED,
    COMPLETE,
    COMPLETE_TASK,
    COMPLETED,
    DECIDING,
    DECISION,
    DESCRIBE,
    ENDED,
    FAIL_TASK,
    FAILED,
    ME,
    NOW,
    RETRY,
    RETRY_TASKS,
    RUNNING,
    SIGNAL,
    START,
    TERMINATE,
    UNPARK,
    VALUE,
    WAIT,
    WAKE,
    WINDOW,
    changed,
    taken,
)


@pytest.mark.parametrize(
    "head", [None, RUNNING, ENDED, CLOSED, DECIDING], ids=["none", "running", "ended", "closed", "deciding"]
)
@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_it_is_pure_for_every_input_and_state(head: WorkflowHead | None, message: Input) -> None:
    taken(head, message)


def test_every_input_is_tried() -> None:
    assert {type(message) for message in ALL} == set(get_args(Input))


def test_a_start_creates_and_a_repeat_changes_nothing() -> None:
    created = taken(None, START)
    assert created.head == WorkflowHead(
        schema=state.SCHEMA,
        id="t1",
        name="Trip",
        started_at=NOW,
        methods=(Method("t1", "book", (ME,)),),
        meta={"k": b"v"},
        pending=1,
    )
    assert created.events == (events.MethodStarted("t1", "book", Raw(b"[]"), NOW),)
    assert taken(created.head, START) == InputResult(created.head)
    assert taken(CLOSED, START) == InputResult(CLOSED)


def test_a_start_older_than_the_window_is_buried() -> None:
    """S13."""
    old = replace(START, made_at=NOW - WINDOW - 0.001)
    assert isinstance(taken(None, old).handling, SendToDeadLetters)
    assert taken(None, old).head is None
    assert taken(RUNNING, old) == InputResult(RUNNING), "with state, it is a repeat"
    assert taken(None, replace(START, made_at=NOW - WINDOW)).head is not None


@pytest.mark.parametrize("message", [CALL, SIGNAL, CANCEL, WAIT, DESCRIBE], ids=lambda message: type(message).__name__)
def test_what_may_have_overtaken_its_start_waits_seven_times(message: Input) -> None:
    """S13: receipts are counted. The age says nothing: the engine may have been down."""
    old = replace(message, made_at=NOW - 600.0)
    headers: dict[str, str] = {}
    waited = 0.0
    for count in range(1, 8):
        handling = taken(None, old, headers=headers).handling
        assert isinstance(handling, Postpone)
        assert (handling.header, handling.value) == (WAITS, str(count))
        waited += handling.at - NOW
        headers = {handling.header: handling.value}
    assert 7.0 < waited < 10.0
    assert taken(None, old, headers=headers) == InputResult(None, replies=(Refuse(ME),))
    for forged in ("", "-1", "1e9", "²", "9" * 5000):
        assert isinstance(taken(None, old, headers={WAITS: forged}).handling, Postpone)


@pytest.mark.parametrize("message", [CANCEL, WAIT], ids=lambda message: type(message).__name__)
def test_what_is_for_an_instance_that_must_come_waits_ten_minutes_more(message: Input) -> None:
    """S29, S32: the start of a child may be far behind. It went another way, or a worker died."""
    headers = {PATIENT: "1"}
    waited = 0.0
    for _ in range(7 + 60):
        handling = taken(None, message, headers=headers).handling
        assert isinstance(handling, Postpone)
        waited += handling.at - NOW
        headers[handling.header] = handling.value
    assert 600.0 < waited < 620.0
    assert taken(None, message, headers=headers) == InputResult(None, replies=(Refuse(ME),))


@pytest.mark.parametrize(
    "message", [COMPLETED, FAILED, ATTEMPT, WAKE, DECISION], ids=lambda message: type(message).__name__
)
@pytest.mark.parametrize("head", [None, CLOSED], ids=["none", "closed"])
def test_late_results_and_wakes_are_dropped(head: WorkflowHead | None, message: Input) -> None:
    """S13, F1, F11: no message creates, resurrects or leaves behind state."""
    assert taken(head, message) == InputResult(head)


def test_S34_code_that_has_not_failed_does_not_run_again() -> None:
    """The refusal is stored. By tag, as for all commands, the instance is taken off the tag."""
    refused = taken(CLOSED, RETRY)
    assert refused.outbox == (Reject(ME, f"it is {CLOSED.status}: there is no failure of its code to run again"),)
    assert refused.deduplication_id == "r1"
    assert taken(CLOSED, replace(RETRY, reply_to=None)).outbox == ()
    by_tag = taken(CLOSED, replace(RETRY, by_tag="eu"))
    removed = (RemoveMember("eu", version_removed(0)),)
    assert by_tag == InputResult(CLOSED, outbox=(Refuse(ME),), replies=removed, deduplication_id="r1")


def test_S33_failed_tasks_by_tag_run_again_in_what_runs() -> None:
    """One that has failed loses its tags at its end. A request on its way is refused, for good."""
    failed = replace(CLOSED, status=WorkflowStatus.FAILED, methods=(_fail(CLOSED.methods[0]),))
    message = inputs.RetryTasks(made_at=NOW, request_id="r1", by_tag="eu")
    removed = (RemoveMember("eu", version_removed(0)),)
    for request in (message, replace(RETRY, by_tag="eu", reply_to=None)):
        # S13: a repeat must not be obeyed if the instance was re-opened meanwhile.
        refused = taken(failed, request)
        assert refused == InputResult(failed, replies=removed, deduplication_id="r1")
        assert refused.head is not failed, "it is written"
        canceled = replace(failed, status=WorkflowStatus.CANCELED)
        assert taken(canceled, request) == InputResult(canceled, replies=removed)
    running = replace(failed, status=WorkflowStatus.RUNNING, closed_at=None)
    assert taken(running, message).probe == message
    assert taken(None, message).replies == (RemoveMember("eu", REMOVED_AS_UNKNOWN),)


def test_S34_failed_code_needs_a_probe() -> None:
    failed = replace(CLOSED, status=WorkflowStatus.FAILED, methods=(_fail(CLOSED.methods[0]),))
    assert taken(failed, RETRY) == InputResult(failed, deduplication_id="r1", probe=RETRY)
    busy = replace(failed, probe=Probe("r2", ME, (1,), True))
    assert isinstance(taken(busy, RETRY).handling, Postpone)
    for status in (WorkflowStatus.CANCELED, WorkflowStatus.TERMINATED):
        assert taken(replace(failed, status=status), RETRY).probe is None
    often = taken(replace(failed, undone=tuple(range(100))), RETRY)
    assert often.outbox == (Reject(ME, "it was re-opened 100 times already: it cannot be once more"),)
    open_still = replace(failed, status=WorkflowStatus.RUNNING, closed_at=None)
    assert taken(open_still, RETRY).probe == RETRY
    assert taken(replace(open_still, stalled="why"), RETRY).probe == RETRY
    for cancelled in (replace(open_still, canceling=True), replace(open_still, undone=tuple(range(100)))):
        assert isinstance(taken(cancelled, RETRY).outbox[-1], Reject)
        resumed = taken(replace(cancelled, stalled="why"), RETRY)
        assert (changed(resumed).stalled, resumed.outbox) == (None, (Confirm(ME),)), "it comes to its end"


def test_S34_failed_code_waits_for_an_activation_that_runs_elsewhere() -> None:
    """Nobody may be told that it runs again before that is known. It may be lost there, too."""
    failed = replace(CLOSED, status=WorkflowStatus.RUNNING, closed_at=None, methods=(_fail(CLOSED.methods[0]),))
    deciding = replace(failed, deciding=3)
    first = taken(deciding, RETRY)
    assert first.outbox == (ActivateElsewhere(failed.activation, 3),)
    assert first.deduplication_id is None, "it comes again"
    assert isinstance(first.handling, Postpone)
    again = taken(deciding, RETRY, headers={first.handling.header: first.handling.value})
    assert (again.head, again.outbox, again.handling) == (deciding, (), first.handling), "once is enough"
    assert taken(failed, RETRY).probe == RETRY


def test_S34_S32_a_custom_id_is_claimed_before_failed_code_runs_again() -> None:
    failed = replace(CLOSED, status=WorkflowStatus.FAILED, methods=(_fail(CLOSED.methods[0]),), unique=True)
    claimed = taken(failed, RETRY)
    (effect,) = claimed.outbox
    assert isinstance(effect, ClaimCustomId)
    request = inputs.decode(effect.request)
    assert isinstance(request, inputs.RetryWorkflowTask)
    assert (request.claimed, request.reply_to) == (failed.epoch + 1, ME)
    assert taken(failed, request).probe == request
    refused = taken(failed, replace(request, refused="had it"))
    assert refused.outbox[-1] == Reject(ME, "it had it")
    assert refused.head is not None
    assert refused.head.epoch == failed.epoch + 1


def _fail(method: Method) -> Method:
    return replace(method, status=WorkflowStatus.FAILED)


@pytest.mark.parametrize(
    ("message", "deduplication_id"),
    [
        (CALL, "m2"),
        (SIGNAL, "s1"),
        (CANCEL, "c1"),
        (RETRY, "r1"),
        (UNPARK, "u1"),
        (TERMINATE, "e1"),
        (RETRY_TASKS, "r2"),
        (COMPLETE, "o1"),
        (CANCEL_TASK, "k1"),
        (COMPLETE_TASK, "d1"),
        (FAIL_TASK, "d2"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_settles_no_position_is_recognised_by_its_id(message: Input, deduplication_id: str) -> None:
    """S13. If it is older than the deduplication window, its id may be gone: it is refused."""
    assert taken(RUNNING, message).deduplication_id == deduplication_id
    old = taken(RUNNING, replace(message, made_at=NOW - WINDOW - 1.0))
    assert (old.head, old.deduplication_id, old.events, old.outbox) == (RUNNING, None, (), ())
    assert isinstance(old.handling, SendToDeadLetters)


def test_waiters_of_what_is_there_are_answered_at_once_and_others_wait() -> None:
    """S28, S37."""
    waiting = taken(RUNNING, WAIT)
    assert waiting.replies == ()
    assert changed(waiting).methods[0].waiters == (ReplyTo("other", "1"), ME)
    assert taken(waiting.head, WAIT) == InputResult(waiting.head), "a repeat"
    answer = Answer(ME, "t1", 5)
    assert taken(ENDED, WAIT) == InputResult(ENDED, replies=(answer,))
    assert taken(CLOSED, WAIT) == InputResult(CLOSED, replies=(answer,))
    assert taken(CLOSED, replace(WAIT, method_id="t1")) == InputResult(CLOSED, replies=(answer,))
    for head in (RUNNING, ENDED, CLOSED):
        assert taken(head, replace(WAIT, method_id="none")) == InputResult(head, replies=(Refuse(ME),))


def test_signals_calls_and_cancel_are_stimuli() -> None:
    signalled = taken(RUNNING, SIGNAL)
    assert signalled.events == (events.SignalReceived("go", VALUE, NOW),)
    assert signalled.outbox == (Confirm(ME),)
    assert changed(signalled).pending == 2
    called = taken(signalled.head, CALL)
    assert called.events == (events.MethodStarted("m2", "change", Raw(b"[2]"), NOW),)
    assert changed(called).methods[1] == Method("m2", "change", (ME,))
    assert changed(called).pending == 2, "the first one that waits"
    cancelled = taken(called.head, CANCEL)
    assert cancelled.events == (events.CancelRequested(at=NOW),)
    assert changed(cancelled).canceling
    assert changed(cancelled).cleanup == RUNNING.position
    again = taken(cancelled.head, replace(CANCEL, request_id="c2"))
    assert (again.events, again.outbox, again.deduplication_id) == ((), (Confirm(ME),), "c2"), "S35: it is told once"
    assert changed(taken(DECIDING, CANCEL)).cleanup == -1


def test_a_cancelled_instance_takes_signals_but_begins_no_method() -> None:
    """S35."""
    canceling = replace(RUNNING, canceling=True)
    call = taken(canceling, CALL)
    assert (call.events, call.outbox, call.deduplication_id) == ((), (TellCanceled(ME),), "m2")
    assert taken(canceling, SIGNAL).events


def test_timers_are_completed_that_code_waits_for() -> None:
    """S36: not the limits, nor those of other methods."""
    mine = TimerBlock(NOW + 60.0, 4, b"\x03", method="")
    other = TimerBlock(NOW + 30.0, 6, b"\x01", method="m2")
    head = replace(RUNNING, timers=(*RUNNING.timers, mine, other), methods=(*RUNNING.methods, Method("m2", "change")))
    result = taken(head, COMPLETE)
    assert changed(result).timers == RUNNING.timers
    assert result.events == tuple(events.TimerFired(each, completed=True) for each in (6, 4, 5))
    assert (result.outbox, result.deduplication_id, changed(result).pending) == ((Confirm(ME),), "o1", 2)
    of_one = taken(head, replace(COMPLETE, method_id="t1"))
    assert changed(of_one).timers == (*RUNNING.timers, other)
    wrong = taken(head, replace(COMPLETE, method_id="none"))
    assert wrong == InputResult(head, outbox=(Refuse(ME),), deduplication_id="o1")
    assert wrong.head is not head, "a repeat must complete nothing of a method that begins later"
    nothing = taken(RUNNING, COMPLETE)
    assert (nothing.events, nothing.deduplication_id) == ((), "o1"), "a repeat must complete no later timer"
    assert nothing.head is not RUNNING


def test_a_task_is_cancelled_by_its_tag_if_it_is_open() -> None:
    """S25: its executor is told to stop, and the code sees it. Nothing else changes."""
    result = taken(RUNNING, CANCEL_TASK)
    assert result.events == (events.TaskCanceled(3, NOW, "client"),)
    assert result.outbox == (CancelSent((open_block(1, [3]),)),)
    assert (changed(result).open, changed(result).pending) == ((open_block(1, [0, 1]),), 2)
    assert [each.position for each in timers.list_timers(changed(result).timers)] == [2]
    for other in (replace(CANCEL_TASK, position=2), replace(CANCEL_TASK, run=1)):
        nothing = taken(RUNNING, other)
        assert (nothing.events, nothing.outbox, nothing.deduplication_id) == ((), (), "k1"), "a repeat must do nothing"
        assert (nothing.head, nothing.head is RUNNING) == (RUNNING, False)
    canceled = replace(CLOSED, status=WorkflowStatus.CANCELED)
    assert taken(canceled, CANCEL_TASK) == InputResult(canceled)
    failed = taken(replace(CLOSED, status=WorkflowStatus.FAILED), CANCEL_TASK)
    assert failed.deduplication_id == "k1", "it may be re-opened, and then a repeat must do nothing"
    assert taken(None, CANCEL_TASK) == InputResult(None)


STALLED = replace(RUNNING, pending=2, stalled="a bug", sequence=2)
PARKED = replace(RUNNING, parked=True)


@pytest.mark.parametrize("head", [RUNNING, ENDED, DECIDING, STALLED, PARKED])
def test_a_termination_closes_in_any_state(head: WorkflowHead) -> None:
    """S6, S35: all waiters are told, what was sent is stopped, and no code runs."""
    second = Method("m2", "change", (ME,))
    result = taken(replace(head, methods=(*head.methods, second)), TERMINATE)
    closed = changed(result)
    sequence = head.sequence + 1
    assert (closed.status, closed.closed_at, closed.epoch) == (WorkflowStatus.TERMINATED, NOW, head.epoch + 1)
    assert not is_runnable(closed)
    assert (closed.open, closed.timers, closed.retries, closed.armed, closed.parked) == ((), (), (), None, False)
    assert result.events == (events.Abandoned("no longer needed", unanswered=head is DECIDING, at=NOW),)
    waiters = head.methods[0].waiters
    assert result.outbox == (
        CancelSent((open_block(1, [0, 1, 3]),)),
        *(Answer(each, "t1", sequence) for each in waiters),
        Answer(ME, "m2", sequence),
        Confirm(ME),
    )
    assert closed.methods[0].ended == (head.methods[0].ended or sequence)
    assert taken(closed, COMPLETED) == InputResult(closed)
    assert taken(closed, TERMINATE) == InputResult(closed, replies=(Confirm(ME),)), "a repeat"
    assert taken(closed, WAIT).replies == (Answer(ME, "t1", closed.methods[0].ended),)


def test_describe_changes_nothing() -> None:
    for head in (RUNNING, CLOSED, DECIDING):
        (reply,) = taken(head, DESCRIBE).replies
        assert isinstance(reply, Tell)
        assert taken(head, DESCRIBE).head is head
        assert reply.info.open_tasks == (0 if head is CLOSED else 3)


def test_a_decision_counts_for_the_running_activation_and_once() -> None:
    decided = taken(DECIDING, DECISION)
    assert decided.events == DECISION.commands
    assert decided.outbox == (SendTask(4, 3),)
    assert (changed(decided).deciding, changed(decided).digest, changed(decided).position) == (0, "d", 5)
    assert taken(decided.head, DECISION) == InputResult(decided.head)
    for activation in (1, 3):
        assert taken(DECIDING, replace(DECISION, activation=activation)) == InputResult(DECIDING)
    assert taken(RUNNING, replace(DECISION, activation=1)) == InputResult(RUNNING), "nobody was asked"


def test_a_stalled_activation_is_asked_for_again_and_a_good_decision_ends_the_stall() -> None:
    """S34."""
    stalled = taken(DECIDING, replace(DECISION, commands=(), stalled="a bug"))
    assert (changed(stalled).stalled, changed(stalled).deciding) == ("a bug", 2)
    retried = taken(stalled.head, RETRY)
    assert changed(retried).stalled is None
    assert [type(effect).__name__ for effect in retried.outbox] == ["ActivateElsewhere", "Confirm"]
    again = taken(retried.head, replace(DECISION, commands=(), stalled="a bug"))
    good = taken(again.head, DECISION)
    assert changed(good).stalled is None


def test_a_repeated_stall_does_not_stall_what_was_retried() -> None:
    """S34: it is of an older epoch. Executors of release 0.1 know none."""
    stop = replace(DECISION, commands=(), stalled="a bug", epoch=0)
    retried = taken(taken(DECIDING, stop).head, RETRY)
    assert changed(retried).epoch == 1
    assert taken(retried.head, stop) == InputResult(retried.head)
    assert taken(retried.head, replace(DECISION, epoch=0)) == InputResult(retried.head)
    assert changed(taken(retried.head, replace(stop, epoch=1))).stalled == "a bug"
    assert changed(taken(retried.head, replace(DECISION, epoch=1))).deciding == 0
    assert changed(taken(retried.head, replace(DECISION, epoch=None))).deciding == 0


def test_an_activation_that_runs_elsewhere_is_asked_for_again() -> None:
    """It may be lost there; whoever has it gives the same decision, which counts once."""
    again = taken(DECIDING, RETRY)
    assert [type(effect).__name__ for effect in again.outbox] == ["ActivateElsewhere", "Confirm"]
    assert again.head == DECIDING
    assert taken(RUNNING, RETRY) == InputResult(RUNNING, outbox=(Confirm(ME),), deduplication_id="r1")


def test_a_client_waits_once_for_a_method() -> None:
    """S37: requests are numbered, so a repeat of an older one replaces no newer one."""

    def wait(request: int, **fields: bool) -> inputs.Wait:
        return replace(WAIT, reply_to=ReplyTo("client", ids.request_id(request)), single=True, **fields)

    def waiters(head: WorkflowHead | None) -> list[str]:
        assert head is not None
        return [
            str(ids.read_request_number(each.request)) for each in head.methods[0].waiters if each.client == "client"
        ]

    head = taken(RUNNING, wait(20)).head
    assert waiters(head) == ["20"]
    newer = taken(head, wait(100)).head
    assert waiters(newer) == ["100"]
    both = taken(newer, wait(20)).head
    assert waiters(both) == ["100", "20"], "a repeat; or the clock was set back, and nobody waits for the other one"
    assert taken(both, wait(20)) == InputResult(both)
    assert waiters(taken(both, wait(30)).head) == ["100", "30"]
    assert waiters(taken(both, wait(101)).head) == ["101"]
    assert taken(newer, wait(100)) == InputResult(newer)
    assert taken(newer, wait(20, stop=True)) == InputResult(newer)
    gone = taken(newer, wait(100, stop=True)).head
    assert gone == RUNNING, "the others wait still"
    assert taken(gone, wait(100, stop=True)) == InputResult(gone)
    for other in (ENDED, CLOSED, None):
        assert taken(other, wait(1, stop=True)) == InputResult(other), "nothing is answered, nothing waits"
    assert taken(RUNNING, replace(wait(1, stop=True), method_id="none")) == InputResult(RUNNING)


def test_of_many_clients_a_hundred_wait_in_the_head_and_others_ask_again() -> None:
    """S37: a client that waits already may send a newer request."""
    names = [f"c{each}" for each in range(MAX_WAITERS)]
    full = replace(RUNNING, methods=(Method("t1", "book", tuple(ReplyTo(name, "1-a") for name in names)),))
    late = replace(WAIT, single=True)
    assert taken(full, late) == InputResult(full, replies=(Defer(ME, 5.0),))
    assert taken(full, WAIT).replies == (Defer(ME, 5.0),)
    newer = changed(taken(full, replace(late, reply_to=ReplyTo("c3", ids.request_id(9))))).methods[0].waiters
    assert len(newer) == MAX_WAITERS
    parent = ReplyTo("p", "1-a", "Parent")
    assert parent in changed(taken(full, replace(WAIT, reply_to=parent))).methods[0].waiters, "it cannot ask again"
    parents = tuple(ReplyTo(name, "1-a", "Parent") for name in names)
    family = replace(RUNNING, methods=(Method("t1", "book", parents),))
    assert ME in changed(taken(family, late)).methods[0].waiters
    left = taken(full, replace(late, reply_to=ReplyTo("c3", ids.request_id(9)), stop=True)).head
    assert ME in changed(taken(left, late)).methods[0].waiters


def test_a_call_of_one_method_too_many_goes_to_the_dead_letters() -> None:
    """It can be sent again from there, and whoever waits is told."""
    methods = tuple(Method(f"m{each}", "change") for each in range(MAX_METHODS))
    full = replace(RUNNING, methods=methods)
    refused = taken(full, CALL)
    assert refused.head is full
    assert isinstance(refused.handling, SendToDeadLetters)
    assert "10,000 methods of this workflow run, and no more than 10,000 can" in refused.handling.reason
    assert len(changed(taken(replace(RUNNING, methods=methods[1:]), CALL)).methods) == MAX_METHODS


def test_heads_survive_their_encoding() -> None:
    for head in (RUNNING, ENDED, CLOSED, DECIDING):
        assert state.decode(state.encode(head)) == head
    newer = msgspec.msgpack.encode([state.SCHEMA + 1, "a", {"other": "shape"}])
    with pytest.raises(state.NewerSchema):
        state.decode(newer)


def test_commands_end_methods_that_are_there() -> None:
    two = replace(DECIDING, methods=(*DECIDING.methods, Method("m2", "change", (ME,))))
    done = taken(two, replace(DECISION, commands=(CompleteMethod("m2", VALUE),)))
    assert done.outbox == (Answer(ME, "m2", 3),)
    assert changed(done).methods == DECIDING.methods
