"""What a head tells about its instance."""

from __future__ import annotations

from infinitic.engines import delegations, positions, timers
from infinitic.engines.effects import Tell
from infinitic.engines.state import TimerKind, WorkflowHead
from infinitic.engines.workflow.due import find_next_due
from infinitic.messages.client import MethodInfo, ReplyTo, WorkflowInfo

MAX_METHODS = 100
"""Methods that are listed: an instance may have thousands."""


def describe(head: WorkflowHead, reply_to: ReplyTo) -> Tell:
    """Answer a client that asks what is known of an instance.

    Args:
        head: the instance.
        reply_to: who asks.
    """
    return Tell(
        reply_to,
        WorkflowInfo(
            workflow_id=head.id,
            workflow_name=head.name,
            version=head.version,
            status=head.status,
            started_at=head.started_at,
            closed_at=head.closed_at,
            stalled=None if head.closed else head.stalled,
            parked=head.parked,
            methods=tuple(MethodInfo(method.id, method.name, method.status) for method in head.methods[:MAX_METHODS]),
            more_methods=max(len(head.methods) - MAX_METHODS, 0),
            open_tasks=positions.count(head.open),
            open_timers=timers.count(head.timers, TimerKind.TIMER),
            next_wake=find_next_due(head),
            steps=head.position,
            transitions=head.sequence,
            background_failures=head.failures,
            delegated_tasks=len(delegations.list_open(head)),
        ),
    )
