"""`retry_workflow_task`: run code again that has stalled or failed, with what is deployed today.

A stalled instance simply goes on: its activation is in no history yet. The failure of a method is.
So a failed instance is re-opened, if nothing was asked for since then (S34). As for `retry_tasks`,
a *probe* finds out what that undoes. The next activation then hands over once more what the code
was handed from the failed activation on, see `infinitic.replay.rerunning`.
"""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.engines.effects import (
    ActivateElsewhere,
    Confirm,
    Effect,
    Postpone,
    ProbeElsewhere,
)
from infinitic.engines.state import Probe, WorkflowHead
from infinitic.engines.workflow.input_result import InputResult
from infinitic.engines.workflow.refusals import refuse
from infinitic.engines.workflow.reopening import PATIENCE_SECONDS, POSTPONED, find_obstacle, may_reopen, reject
from infinitic.engines.workflow.tags import claim_again, refuse_by_tag
from infinitic.messages.client import ReplyTo
from infinitic.messages.engine import RetryWorkflowTask
from infinitic.messages.events import Activated
from infinitic.messages.outcomes import WorkflowStatus


def retry_workflow_task(head: WorkflowHead, message: RetryWorkflowTask, now: float) -> InputResult:
    """Run a stalled instance again, or ask for the probe that a failed one needs.

    An activation that runs on another worker is asked for once more: it may be lost there.

    Args:
        head: the instance. It may be closed.
        message: the request.
        now: seconds since the Unix epoch.
    """
    failed = _has_failed(head)
    if head.closed_at is not None and (message.by_tag or not failed):
        return _refuse(head, message)
    if not failed:
        return _resume(head, message)
    handling = wait_for_activation(head, now)
    if handling is not None:
        again = ActivateElsewhere(head.activation, head.deciding)
        return InputResult(replace(head), outbox=(again,), handling=handling)
    return _rerun(head, message, now)


def wait_for_activation(head: WorkflowHead, now: float) -> Postpone | None:
    """Put a request off while the code of a failed instance runs on another worker.

    What it decides there may change whether its failure can be undone.

    Args:
        head: the instance.
        now: seconds since the Unix epoch.

    Returns:
        None if nothing runs there, or the instance has not failed.
    """
    if head.stalled is not None or not head.deciding or not _has_failed(head):
        return None
    return Postpone(now + PATIENCE_SECONDS, POSTPONED, "1")


def _has_failed(head: WorkflowHead) -> bool:
    return head.methods[0].status is WorkflowStatus.FAILED


def _resume(head: WorkflowHead, message: RetryWorkflowTask) -> InputResult:
    resumed, outbox = resume(head, message.reply_to)
    return InputResult(resumed, outbox=outbox, deduplication_id=message.request_id)


def resume(head: WorkflowHead, reply_to: ReplyTo | None) -> tuple[WorkflowHead, tuple[Effect, ...]]:
    """Have an instance that has stalled go on, with the activation that could not be run.

    Args:
        head: the instance. If it has not stalled, nothing is lost by this.
        reply_to: whom to answer.
    """
    outbox: list[Effect] = []
    if head.deciding:
        outbox.append(ActivateElsewhere(head.activation, head.deciding))
    if head.probe is not None:
        outbox.append(ProbeElsewhere())
    if reply_to is not None:
        outbox.append(Confirm(reply_to))
    epoch = head.epoch if head.stalled is None else head.epoch + 1
    return replace(head, stalled=None, epoch=epoch), tuple(outbox)


def _refuse(head: WorkflowHead, message: RetryWorkflowTask) -> InputResult:
    """Refuse it for a tombstone."""
    if message.by_tag:
        return refuse(head, message, refuse_by_tag(head, message), again=may_reopen(head))
    why = f"is {head.status}: there is no failure of its code to run again"
    return reject(head, message.request_id, message.reply_to, why)


def _rerun(head: WorkflowHead, message: RetryWorkflowTask, now: float) -> InputResult:
    """Ask for a probe. An instance that has not closed may have stalled since its failure.

    Mended code does not repeat that failure. So whoever has the instance go on in a replay finds
    that it differs from the history.
    """
    if head.probe is not None:
        return InputResult(head, handling=Postpone(now + PATIENCE_SECONDS, POSTPONED, "1"))
    why = message.refused or find_obstacle(head, rerun=True)
    if why is not None and head.closed_at is None and head.stalled is not None:
        # Its failure stays: it was cancelled since then, for instance. But it must come to its end.
        return _resume(head, message)
    if why is not None:
        return reject(head, message.request_id, message.reply_to, why)
    if head.closed_at is not None and head.unique and message.claimed != head.epoch + 1:
        return claim_again(head, message)
    return InputResult(head, deduplication_id=message.request_id, probe=message)


def begin_rerun_elsewhere(head: WorkflowHead, message: RetryWorkflowTask, failing: Activated) -> WorkflowHead:
    """Note that another worker runs the probe.

    Args:
        head: the instance.
        message: the request.
        failing: the activation in which the first method has failed.
    """
    probe = Probe(message.request_id, message.reply_to, (), True, rerun=failing.number)
    # What stalled it must not be taken for the answer.
    return replace(head, probe=probe, epoch=head.epoch if head.stalled is None else head.epoch + 1)
