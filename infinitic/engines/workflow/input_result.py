"""What one input leads to: the common form of all answers of `take`."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from infinitic.engines.effects import Effect, Handling, Reply
from infinitic.engines.state import WorkflowHead
from infinitic.messages.engine import AskQuery, ChildReopened, Probed, RetryTasks, RetryWorkflowTask
from infinitic.messages.events import Event


class InputResult(msgspec.Struct, frozen=True, gc=False):
    """The head after an input, and what the input caused.

    Attributes:
        head: the new head; the very same object if nothing changes; None if there is no instance.
        events: go to the history, in the segment of this transition.
        outbox: effects that are stored with the transition, and sent after its commit.
        replies: are sent without being stored, because the instance does not change by them. After
            a crash the input comes again, and so does its reply.
        deduplication_id: the id by which this input is recognised when it comes again. None: its
            position, or the head, tells that.
        handling: what becomes of the message if the input cannot be taken now, or never.
        question: what is to be asked of the code, once it has seen all inputs before.
        probe: a request that only a replay can answer, or the answer of one on another worker.
    """

    head: WorkflowHead | None
    events: tuple[Event, ...] = ()
    outbox: tuple[Effect, ...] = ()
    replies: tuple[Reply, ...] = ()
    deduplication_id: str | None = None
    handling: Handling | None = None
    question: AskQuery | None = None
    probe: RetryTasks | RetryWorkflowTask | Probed | ChildReopened | None = None


def stimulate(
    head: WorkflowHead, event: Event, *effects: Effect, deduplication_id: str | None = None, **changes: Any
) -> InputResult:
    """Add a stimulus that the code of the instance has to be handed.

    Args:
        head: the instance.
        event: the stimulus.
        effects: go to the outbox.
        deduplication_id: see `InputResult`.
        changes: further fields of the new head.
    """
    pending = head.pending or head.sequence + 1
    return InputResult(replace(head, pending=pending, **changes), (event,), effects, deduplication_id=deduplication_id)
