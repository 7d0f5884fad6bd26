"""Rules about requests that were refused find what breaks them, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from infinitic.engines import state
from infinitic.engines.effects import Confirm, Effect, Refuse
from infinitic.engines.state import WorkflowHead
from infinitic.messages import client, events
from infinitic.messages.engine import Input
from infinitic.messages.events import Event
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import Change, StateKey
from infinitic_testing.invariants.instances import ObservedInstance, WrittenStep
from infinitic_testing.invariants.refusal_rules import check_not_refused, is_refusal, is_refused
from infinitic_testing.invariants.step_rules import check_input_once, check_one_end
from infinitic_testing.invariants.traffic import SentInput, Traffic
from tests.unit.engine_samples import CANCEL, CLOSED, KEY, ME, NOW, RETRY_TASKS, RUNNING, SIGNAL

FAILED = replace(CLOSED, status=WorkflowStatus.FAILED)


def write(
    before: WorkflowHead,
    head: WorkflowHead,
    *effects: Effect,
    happened: Sequence[Event] = (),
    ids: tuple[str, ...] = ("s1",),
) -> WrittenStep:
    instance = ObservedInstance(KEY, before, 1, NOW)
    instance.history.running["t1"] = None
    change = Change(KEY, 1, 2, state.encode(head), NOW, None, ids, expires_at=None)
    return WrittenStep(KEY, instance, change, head, happened, effects)


def test_a_request_is_not_applied_after_it_was_refused() -> None:
    traffic = Traffic()
    applied = client.Applied(ME.request)
    assert check_not_refused(applied, SIGNAL, traffic, KEY) is None
    sent = traffic.sent_to(KEY)
    sent.refused.add(SIGNAL.signal_id)
    assert "was told before that there is no such workflow" in str(check_not_refused(applied, SIGNAL, traffic, KEY))
    assert check_not_refused(applied, CANCEL, traffic, KEY) is None
    taken = write(RUNNING, RUNNING, Confirm(ME))
    assert "its sender was told that it is not" in str(check_input_once(taken, sent))
    assert check_input_once(taken, traffic.sent_to(StateKey("Trip", "other"))) is None


def test_a_tombstone_is_written_only_to_refuse() -> None:
    refused = write(FAILED, replace(FAILED, sequence=FAILED.sequence + 1), Refuse(ME))
    assert is_refusal(refused)
    sent = Traffic().sent_to(KEY)
    sent.inputs["s1"] = SentInput(SIGNAL, "client", 1)
    assert check_one_end(refused, sent) is None
    for wrong in (
        write(FAILED, FAILED, Confirm(ME)),
        write(FAILED, replace(FAILED, position=9), Refuse(ME)),
        write(FAILED, FAILED, Refuse(ME), ids=()),
        write(FAILED, FAILED, Refuse(ME), happened=[events.TimerFired(1)]),
    ):
        assert not is_refusal(wrong)
        assert check_one_end(wrong, sent) is not None


@pytest.mark.parametrize(
    ("before", "asked", "refused"),
    [
        (FAILED, SIGNAL, True),
        (FAILED, RETRY_TASKS, False),
        (RUNNING, SIGNAL, False),
        (RUNNING, CANCEL, False),
        (RUNNING, replace(CANCEL, method_id="t1"), False),
        (RUNNING, replace(CANCEL, method_id="gone"), True),
    ],
)
def test_which_requests_are_refused(before: WorkflowHead, asked: Input, refused: bool) -> None:
    assert is_refused(asked, write(before, before), ()) is refused
