"""What can be done to the tasks of instances that have a tag: further inputs of state engines.

On the wire: at when the message was first published · i id · p position · u run · b who sends.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, NoName, Seconds, Whole


class CancelTask(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="cancel_task", tag_field="t", gc=False
):
    """Cancel a task that the code of the instance waits for. The service tag engine sends it.

    It changes only a task that is open. A duplicate is recognised by `request_id`, which is a
    deduplication id.

    Attributes:
        made_at: when it was asked for, in seconds since the Unix epoch.
        request_id: the deduplication id.
        position: that of the task.
        run: the run of the instance that has asked for the task.
        by: who cancels: the name of a client.
    """

    made_at: Seconds = msgspec.field(name="at")
    request_id: Name = msgspec.field(name="i")
    position: Whole = msgspec.field(name="p", default=0)
    run: Whole = msgspec.field(name="u", default=0)
    by: NoName = msgspec.field(name="b", default="")
