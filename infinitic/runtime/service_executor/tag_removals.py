"""What the tag engine is told when a task with tags has completed."""

from __future__ import annotations

from infinitic import ids, topics
from infinitic.messages import engine
from infinitic.messages.tags import make_tag_key
from infinitic.messages.task_tags import RemoveTaskTag, encode, make_token, version_removed
from infinitic.runtime.service_executor.work import Work
from infinitic.transport import Message, Outgoing


def make_tag_removals(work: Work, now: float) -> list[Outgoing]:
    """Make the messages that a task has its tags no more; none if it has not completed.

    A task that has failed keeps them for a while: an operator may look for it. So does one that is
    tried again.

    Args:
        work: an attempt that has run, of a task with tags.
        now: since when it has completed, in seconds since the Unix epoch.
    """
    if work.report is None or not isinstance(engine.decode(work.report.message.body), engine.TaskCompleted):
        return []
    task = work.message
    token = make_token(task.workflow_name, task.workflow_id, task.run, task.position)
    body = encode(RemoveTaskTag(made_at=now, token=token, version=version_removed(task.retry_sequence)))
    topic, task_id = topics.service_tag(task.service), ids.task_id(task.workflow_id, task.run, task.position)
    return [Outgoing(topic, Message(task_id, make_tag_key(tag), body)) for tag in task.tags]
