"""Tags of tasks: what the engine of an instance tells the tag engine of a service, and when.

Tags are in the request of a task, in the history. Each change has a version, of which the highest
wins. So the tag engine may get these messages late, twice and in any order (S31).
"""

from __future__ import annotations

from infinitic import ids, topics
from infinitic.engines.state import WorkflowHead
from infinitic.messages.commands import ScheduleTask
from infinitic.messages.tags import make_tag_key
from infinitic.messages.task_tags import (
    AddTaskTag,
    RemoveTaskTag,
    encode,
    make_token,
    version_added,
    version_removed,
)
from infinitic.transport import Message, Outgoing


def add_task_tags(request: ScheduleTask, head: WorkflowHead, retry_sequence: int, now: float) -> list[Outgoing]:
    """Make the messages that a task has its tags. They go with its first attempt.

    Args:
        request: the task.
        head: the instance that waits for it.
        retry_sequence: how often an operator has asked for it again.
        now: since when it has them, in seconds since the Unix epoch.
    """
    token = make_token(head.name, head.id, head.run, request.position)
    body = encode(AddTaskTag(made_at=now, token=token, version=version_added(retry_sequence)))
    return _address(request, head, body)


def remove_task_tags(request: ScheduleTask, head: WorkflowHead, retry_sequence: int, now: float) -> list[Outgoing]:
    """Make the messages that a task has its tags no more: nobody waits for it.

    Arguments are those of `add_task_tags`.
    """
    token = make_token(head.name, head.id, head.run, request.position)
    body = encode(RemoveTaskTag(made_at=now, token=token, version=version_removed(retry_sequence)))
    return _address(request, head, body)


def _address(request: ScheduleTask, head: WorkflowHead, body: bytes) -> list[Outgoing]:
    topic, task_id = topics.service_tag(request.service), ids.task_id(head.id, head.run, request.position)
    return [Outgoing(topic, Message(task_id, make_tag_key(tag), body)) for tag in request.tags]
