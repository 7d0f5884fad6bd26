"""Rules about requests that are refused, since their instance is closed or a method does not run.

What is refused once stays refused, also if it comes again after the instance was re-opened.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from infinitic.engines.effects import Refuse
from infinitic.messages import client, engine, events
from infinitic.messages.events import Event
from infinitic.storage import StateKey
from infinitic_testing.invariants.instances import WrittenStep
from infinitic_testing.invariants.publish_rules import find_deduplication_id
from infinitic_testing.invariants.traffic import Traffic


def is_refusal(step: WrittenStep) -> bool:
    """True if all that is written of a closed instance is that requests were refused."""
    instance = step.instance
    if instance is None or step.events or not step.change.deduplication_ids:
        return False
    told = all(isinstance(each, Refuse) for each in step.outbox)
    same = replace(step.head, sequence=instance.head.sequence) == instance.head
    return told and same and step.change.expires_at == instance.expires_at


def is_refused(asked: engine.Input, step: WrittenStep, happened: Sequence[Event]) -> bool:
    """True if a step stores only that this request is refused, and does not do it.

    Args:
        asked: the request.
        step: the step that stores its deduplication id.
        happened: what the requests before it in this step have added to the history.
    """
    if step.instance is None:
        return False
    if step.instance.head.closed:
        if isinstance(asked, engine.RetryTasks | engine.RetryWorkflowTask):
            # Whatever re-opens it is alone in its step. Tags reach instances that run.
            return bool(asked.by_tag)
        return not isinstance(asked, engine.ChildReopened)
    if not isinstance(asked, engine.Cancel) or not asked.method_id:
        return False
    begun = any(isinstance(each, events.MethodStarted) and each.method_id == asked.method_id for each in happened)
    return not begun and asked.method_id not in step.instance.history.running


def check_not_refused(
    message: client.Applied | client.Rejected, asked: engine.Input | None, traffic: Traffic, key: StateKey | None
) -> str | None:
    """What a client was told to be refused is not told to be applied later."""
    deduplication_id = None if asked is None else find_deduplication_id(asked)
    if key is None or deduplication_id is None or deduplication_id not in traffic.sent_to(key).refused:
        return None
    return f"a client is told {message}, and was told before that there is no such workflow or method: {asked}"
