"""What a workflow gets in place of a task, or of the report of one, that nobody can decode.

Without it, the workflow would wait for that task for ever. The id of such a message says which
attempt it is about (see `ids.attempt_id`).
"""

from __future__ import annotations

from infinitic.errors import TaskFailure
from infinitic.failures import describe
from infinitic.messages.control import Attempt
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.engine import TaskFailed


def make_task_failure(attempt: Attempt, what: str, why: Exception, worker_name: str, now: float) -> TaskFailed:
    """Make the report that a task has failed for good, since a message of it is a dead letter.

    Args:
        attempt: which one the message was about.
        what: what the message was, at the start of a sentence.
        why: what is wrong with it.
        worker_name: who found that.
        now: seconds since the Unix epoch.
    """
    _, position, run, retry_sequence, retry_index = attempt
    error = UndecodableMessage(f"{what} went to the dead letters: {why}")
    return TaskFailed(
        made_at=now,
        position=position,
        failure=TaskFailure(describe(error), worker_name, retry_index, retry_sequence, now),
        run=run,
        retry_sequence=retry_sequence,
        retry_index=retry_index,
    )
