"""When an instance may say something of its tags and its custom id."""

from __future__ import annotations

from infinitic.engines.effects import ClaimCustomId, Tag
from infinitic.messages import events
from infinitic_testing.invariants.instances import WrittenStep


def check_tag_effect(effect: Tag | ClaimCustomId, step: WrittenStep) -> str | None:
    """Tags are added at the start, and removed at the end.

    Args:
        effect: out of the outbox of the step.
        step: what was written.
    """
    if isinstance(effect, ClaimCustomId):
        if not step.head.closed or not step.head.unique:
            return "a custom id is claimed for an instance that runs, or has none"
    elif not effect.live:
        if step.change.expires_at is None:
            return "tags are removed, and the instance does not close here"
    elif step.instance is not None and not step.instance.purged and not _is_reopened(step):
        return "tags are added, and the instance does not start here"
    return None


def _is_reopened(step: WrittenStep) -> bool:
    return any(isinstance(event, events.Reopened) for event in step.events)
