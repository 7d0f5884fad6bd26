"""To service executors: one attempt of one task.

All times are in seconds since the Unix epoch.
"""

from __future__ import annotations

import msgspec

from infinitic import ids
from infinitic.bounds import Name, Seconds, Whole
from infinitic.errors import TaskFailure
from infinitic.messages.attempts import NO_HEARTBEAT
from infinitic.messages.control import Attempt
from infinitic.messages.decoding import make_decoder


class Guard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What makes a copy of an attempt a guard, see `infinitic.runtime.service_executor.guards`.

    Attributes:
        number: counts the guards of an attempt. A newer one stands for all before.
        until: when the heartbeat timeout is over, in seconds since the Unix epoch.
        seconds: the heartbeat timeout.
    """

    number: Whole
    until: Seconds
    seconds: Seconds


class ExecuteTask(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="task", tag_field="t", gc=False):
    """Run one attempt of a task. State engines send it; executors send it again after a death.

    A duplicate is run again: tasks run at least once. Its report changes nothing. All deliveries of
    an attempt have the same `attempt`, all attempts of a task the same `task_id`.

    On the wire: w workflow id · n workflow name · v workflow version · p position · u run ·
    q sequence of the segment that holds the request · s service · m task name · a arguments ·
    rs retry sequence · ri retry index · d deaths: how many processes died while they ran it ·
    f last failure · g tags · x meta · at when it was first sent · k how many times it was asked
    whether another executor has it: above 0, it is asked again before it is run · hb what the
    attempt before, or this one, said with its last heartbeat · gd the guard that it is.
    """

    workflow_id: Name = msgspec.field(name="w")
    workflow_name: Name = msgspec.field(name="n")
    workflow_version: Whole = msgspec.field(name="v", default=0)
    position: Whole = msgspec.field(name="p")
    run: Whole = msgspec.field(name="u", default=0)
    sequence: Whole = msgspec.field(name="q")
    service: Name = msgspec.field(name="s")
    task: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    retry_sequence: Whole = msgspec.field(name="rs", default=0)
    retry_index: Whole = msgspec.field(name="ri", default=0)
    deaths: Whole = msgspec.field(name="d", default=0)
    last_failure: TaskFailure | None = msgspec.field(name="f", default=None)
    tags: tuple[str, ...] = msgspec.field(name="g", default=())
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    made_at: Seconds = msgspec.field(name="at")
    asked: Whole = msgspec.field(name="k", default=0)
    last_heartbeat: msgspec.Raw = msgspec.field(name="hb", default=NO_HEARTBEAT)
    guard: Guard | None = msgspec.field(name="gd", default=None)

    @property
    def attempt(self) -> Attempt:
        """What all deliveries of this attempt have in common."""
        return self.workflow_id, self.position, self.run, self.retry_sequence, self.retry_index

    @property
    def task_id(self) -> str:
        """The same for every attempt and every duplicate: an idempotency key."""
        return ids.task_id(self.workflow_id, self.run, self.position)


encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(ExecuteTask), "task")
