"""Delegated tasks in the state engine: who ends one first wins (S8)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic.engines import delegations
from infinitic.engines.effects import CancelSent, Confirm, Effect, Refuse, Reject, Reply
from infinitic.engines.state import OpenBlock, Retry, WorkflowHead
from infinitic.engines.workflow.describe import describe
from infinitic.messages import events
from infinitic.messages.attempts import Execution
from infinitic.messages.delegated import CompleteTask, FailTask, TaskDelegated
from infinitic.messages.engine import AttemptFailed, TaskFailed
from tests.unit.engine_samples import ATTEMPT, CLOSED, FAILURE, ME, NOW, RUNNING, changed, taken

RAN = Execution(3, 41, "w1")
HANDED = TaskDelegated(made_at=NOW, position=1, execution=RAN)
FAILED = TaskFailed(made_at=NOW, position=1, failure=FAILURE, retry_index=0)
COMPLETE = CompleteTask(made_at=NOW, request_id="r", reply_to=ME, position=1, value=Raw(b"7"), by="client-1")
FAIL = FailTask(made_at=NOW, request_id="r", reply_to=ME, position=1, failure=FAILURE)
HEADS: list[WorkflowHead] = [RUNNING, changed(taken(RUNNING, HANDED))]
"""Before and after the function of the task has returned."""


def test_S8_the_engine_notes_once_that_the_function_has_returned() -> None:
    result = taken(RUNNING, HANDED)
    assert result.events == (events.TaskHandedOver(1, RAN, NOW),)
    assert delegations.list_open(changed(result)) == [1]
    # The code is not told.
    assert changed(result).pending == RUNNING.pending
    assert taken(changed(result), HANDED).head is result.head


@pytest.mark.parametrize("other", [{"run": 1}, {"position": 77}, {"retry_sequence": 1}, {"retry_index": 1}])
def test_S8_it_notes_nothing_of_another_attempt(other: dict[str, Any]) -> None:
    assert taken(RUNNING, replace(HANDED, **other)).head is RUNNING


@pytest.mark.parametrize("head", HEADS)
def test_S8_F7_a_delegated_task_is_completed_early_and_late(head: WorkflowHead) -> None:
    result = taken(head, COMPLETE)
    assert result.events == (events.TaskResult(1, Raw(b"7"), by="client-1"),)
    assert (result.outbox, result.deduplication_id) == ((Confirm(ME),), "r")
    assert not changed(result).delegated
    again = taken(changed(result), replace(COMPLETE, request_id="s", value=Raw(b"8")))
    assert again.events == ()
    assert again.deduplication_id == "s"
    assert [type(each) for each in again.outbox] == [Reject]
    # The report of the function comes after that, and changes nothing.
    assert taken(changed(result), HANDED).head is result.head


@pytest.mark.parametrize("head", HEADS)
def test_S8_a_delegated_task_fails_also_while_its_next_attempt_waits(head: WorkflowHead) -> None:
    waiting = replace(head, retries=(Retry(1, 1, 1, 0, 1, NOW + 5),))
    for each in (head, waiting):
        result = taken(each, FAIL)
        assert result.events == (events.TaskError(1, FAILURE),)
        assert not changed(result).retries
        assert not changed(result).delegated


def test_S8_a_token_of_before_an_operator_asked_again_completes_the_task_and_cannot_fail_it() -> None:
    again = replace(RUNNING, retries=(Retry(1, 1, 0, 1, 0, None),))
    refused = taken(again, FAIL)
    assert refused.events == ()
    assert isinstance(refused.outbox[0], Reject)
    assert "another token" in refused.outbox[0].reason
    assert taken(again, replace(FAIL, retry_sequence=1)).events
    # A success of any sequence counts (S10).
    assert taken(again, COMPLETE).events


@pytest.mark.parametrize("message", [COMPLETE, FAIL])
def test_S8_a_token_of_another_run_ends_nothing(message: CompleteTask | FailTask) -> None:
    result = taken(RUNNING, replace(message, run=1))
    assert result.events == ()
    assert isinstance(result.outbox[0], Reject)
    assert "a run that is over" in result.outbox[0].reason
    assert taken(RUNNING, replace(message, run=1, reply_to=None)).outbox == ()


@pytest.mark.parametrize("message", [COMPLETE, FAIL])
@pytest.mark.parametrize("head", [None, CLOSED])
def test_S13_what_is_closed_or_never_was_is_unknown(head: WorkflowHead | None, message: CompleteTask) -> None:
    result = taken(head, message)
    told: tuple[Effect | Reply, ...] = (*result.replies, *result.outbox)
    assert result.events == ()
    assert told == (Refuse(ME),)
    # Of an instance, the refusal is kept: it may be re-opened, and the message may come again.
    assert result.deduplication_id == (None if head is None else "r")
    alone = taken(head, replace(message, reply_to=None))
    assert (alone.replies, alone.outbox) == ((), ())


def test_S8_describe_counts_the_tasks_that_wait_for_somebody_outside() -> None:
    assert describe(RUNNING, ME).info.delegated_tasks == 0
    assert describe(HEADS[1], ME).info.delegated_tasks == 1


@pytest.mark.parametrize("late", [ATTEMPT, FAILED])
def test_S8_an_attempt_whose_function_has_returned_does_not_fail_after_that(late: AttemptFailed | TaskFailed) -> None:
    """It ran twice, or a guard of it came late. The token is with somebody by now."""
    assert taken(RUNNING, late).events
    assert taken(HEADS[1], late).head is HEADS[1]
    # That of a later attempt counts: the function of this one has not returned.
    waiting = Retry(1, 1, 1, 0, 1, None)
    assert taken(replace(RUNNING, retries=(waiting,)), replace(late, retry_index=1)).events


def test_blocks_hold_thousands_of_positions_in_little_room() -> None:
    held: delegations.Delegations = ()
    for position in (*range(0, 10_000, 2), 5_000_000):
        held = delegations.add(held, position)
    assert sum(len(block.bits) for block in held) < 1400
    assert all(delegations.contains(held, each) for each in (0, 9_998, 5_000_000))
    assert not any(delegations.contains(held, each) for each in (1, 9_999, 10_000, 5_000_001))
    assert delegations.remove(held, 1) is held
    for position in (*range(0, 10_000, 2), 5_000_000):
        held = delegations.remove(held, position)
    assert held == ()


@pytest.mark.parametrize("message", [COMPLETE, FAIL])
def test_by_tag_only_tasks_end_that_wait_for_somebody_outside(message: CompleteTask | FailTask) -> None:
    by_tag = replace(message, delegated=True, reply_to=None)
    before, after = HEADS
    assert taken(before, by_tag).events == ()
    assert len(taken(after, by_tag).events) == 1
    # A tag says nothing of the retry sequence: the task waits, so this is the newest attempt.
    again = replace(after, retries=(Retry(1, 1, 0, 1, 0, None),))
    assert len(taken(again, by_tag).events) == 1


def test_a_delegated_task_that_has_completed_loses_its_tags_and_one_that_has_failed_keeps_them() -> None:
    head = replace(HEADS[1], tags_tasks=True)
    [removal, *_] = taken(head, COMPLETE).outbox
    assert removal == CancelSent((), waiting=(OpenBlock(1, 1, b"\x01"),))
    again = replace(head, retries=(Retry(1, 1, 0, 2, 0, None),))
    [removal, *_] = taken(again, COMPLETE).outbox
    assert removal == CancelSent((), ((1, 2),), waiting=(OpenBlock(1, 1, b"\x01"),))
    assert taken(head, FAIL).outbox == (Confirm(ME),)
    assert not [each for each in taken(taken(head, COMPLETE).head, COMPLETE).outbox if isinstance(each, CancelSent)]
