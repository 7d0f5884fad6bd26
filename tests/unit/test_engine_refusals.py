"""The workflow engine: requests that a closed instance refuses, or one without that method."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from infinitic.engines.effects import Confirm, Postpone, Refuse, Reject, SendToDeadLetters, Tag
from infinitic.engines.state import Probe
from infinitic.engines.workflow import InputResult
from infinitic.engines.workflow.take import WAITS
from infinitic.messages import events
from infinitic.messages.client import ReplyTo
from infinitic.messages.engine import Input, Probed
from infinitic.messages.outcomes import WorkflowStatus
from tests.unit.engine_samples import (
    CALL,
    CANCEL,
    CLOSED,
    COMPLETE,
    DELETE,
    ENDED,
    ME,
    NOW,
    RETRY,
    RETRY_TASKS,
    RUNNING,
    SIGNAL,
    TERMINATE,
    UNPARK,
    WINDOW,
    changed,
    taken,
)


@pytest.mark.parametrize(
    "message", [CALL, SIGNAL, CANCEL, UNPARK, TERMINATE, COMPLETE], ids=lambda message: type(message).__name__
)
def test_commands_to_a_closed_instance_are_refused(message: Input) -> None:
    """S13, S34: for good. One that may be re-opened keeps their ids, to know repeats by."""
    canceled = replace(CLOSED, status=WorkflowStatus.CANCELED)
    assert taken(canceled, message) == InputResult(canceled, replies=(Refuse(ME),))
    assert taken(canceled, replace(message, reply_to=None)) == InputResult(canceled)
    deduplication_id = next(
        getattr(message, each) for each in ("request_id", "method_id", "signal_id") if hasattr(message, each)
    )
    for status in (WorkflowStatus.COMPLETED, WorkflowStatus.FAILED):
        closed = replace(CLOSED, status=status)
        refused = taken(closed, message)
        assert refused == InputResult(closed, outbox=(Refuse(ME),), deduplication_id=deduplication_id)
        assert refused.head is not closed, "it is written"
        silent = taken(closed, replace(message, reply_to=None))
        assert silent == InputResult(closed, deduplication_id=deduplication_id)


def test_the_cancellation_of_a_method_is_for_one_that_runs() -> None:
    """S35."""
    one = taken(RUNNING, replace(CANCEL, method_id="t1"))
    assert (one.events, one.outbox) == ((events.CancelRequested("t1", NOW),), (Confirm(ME),))
    assert not changed(one).canceling
    for head, method_id in ((RUNNING, "none"), (ENDED, "t1")):
        refused = taken(head, replace(CANCEL, method_id=method_id))
        assert refused == InputResult(head, outbox=(Refuse(ME),), deduplication_id="c1")
        assert refused.head is not head, "a repeat must not cancel a method that begins later"
    canceling = replace(RUNNING, canceling=True)
    mark = taken(canceling, replace(CANCEL, method_id="t1"))
    assert (mark.events, mark.outbox, mark.deduplication_id) == ((), (Confirm(ME),), "c1")


def test_the_cancellation_of_a_method_waits_for_its_call() -> None:
    """S13, S25: a broker may lose the order of a key. Who waits for an answer is told at once."""
    message = replace(CANCEL, method_id="m2", reply_to=None)
    headers: dict[str, str] = {}
    for count in range(1, 8):
        handling = taken(RUNNING, message, headers=headers).handling
        assert isinstance(handling, Postpone)
        assert (handling.header, handling.value) == (WAITS, str(count))
        headers = {WAITS: handling.value}
        called = changed(taken(RUNNING, CALL))
        assert taken(called, message, headers=headers).events == (events.CancelRequested("m2", NOW),)
    given_up = taken(RUNNING, message, headers=headers)
    assert given_up == InputResult(RUNNING, deduplication_id="c1")
    for head in (CLOSED, replace(RUNNING, canceling=True)):
        assert taken(head, message).handling is None
    assert taken(ENDED, replace(message, method_id="t1")).handling is None, "the first method cannot be on its way"


def test_what_is_too_old_to_be_obeyed_is_refused_and_not_stored() -> None:
    """S13: it cannot come again later."""
    old = replace(SIGNAL, made_at=NOW - WINDOW - 1.0)
    assert taken(CLOSED, old) == InputResult(CLOSED, replies=(Refuse(ME),))


def test_a_claim_that_is_too_old_is_given_back_once() -> None:
    """S13, S34: the custom id is freed, and a repeat of a week later finds a newer epoch."""
    failed = replace(CLOSED, status=WorkflowStatus.FAILED, unique=True)
    for request in (
        replace(RETRY_TASKS, made_at=NOW - WINDOW - 1.0, claimed=1),
        replace(RETRY, claimed=1, made_at=0.0),
    ):
        rejected = taken(failed, request)
        assert changed(rejected).epoch == 1
        assert [type(each) for each in rejected.outbox] == [Tag, Reject]
        assert rejected.deduplication_id == request.request_id
        again = taken(rejected.head, request)
        assert (again.head, again.outbox) == (rejected.head, ())
        assert isinstance(again.handling, SendToDeadLetters)


def test_who_waits_for_a_probe_is_told_that_the_instance_is_terminated_or_deleted() -> None:
    """S33, S34: what the probe finds may never come, and changes nothing when it does."""
    other = ReplyTo("other", "1")
    probe = Probe("r7", other, (1,), True)
    terminated = taken(replace(RUNNING, probe=probe), TERMINATE)
    assert changed(terminated).probe is None
    assert [each for each in terminated.outbox if isinstance(each, Reject)] == [
        Reject(other, "it was terminated: it is not re-opened")
    ]
    failed = replace(CLOSED, status=WorkflowStatus.FAILED, unique=True, probe=probe)
    deleted = taken(failed, DELETE)
    # Its custom id was claimed for the re-opening, and is freed.
    assert (changed(deleted).probe, changed(deleted).epoch) == (None, failed.epoch + 1)
    assert [type(each) for each in deleted.outbox] == [Tag, Reject, Confirm]
    for closed in (terminated.head, deleted.head):
        assert taken(closed, Probed(made_at=NOW, request_id="r7", reply_to=other, tasks=(1,))) == InputResult(closed)
