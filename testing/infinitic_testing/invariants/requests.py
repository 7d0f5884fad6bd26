"""What operators have asked for in a step of an instance that has closed."""

from __future__ import annotations

from infinitic.messages import engine
from infinitic_testing.invariants.instances import WrittenStep
from infinitic_testing.invariants.traffic import Sent


def is_deleted(step: WrittenStep, sent: Sent) -> bool:
    """True if somebody has asked in this step that the instance be removed."""
    asked = [sent.inputs.get(each) for each in step.change.deduplication_ids]
    return any(each is not None and isinstance(each.message, engine.Delete) for each in asked)


def is_asked_again(step: WrittenStep, sent: Sent) -> bool:
    """True if an operator has asked in this step for what has failed."""
    if step.instance is not None and step.instance.head.probe is not None:
        return True
    asked = [sent.inputs.get(each) for each in step.change.deduplication_ids]
    return any(
        each is not None
        and isinstance(each.message, engine.RetryTasks | engine.RetryWorkflowTask | engine.ChildReopened)
        for each in asked
    )
