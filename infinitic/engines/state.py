"""The head of an instance: the small record that is rewritten at each transition.

It holds what is *open*, never what is done. It holds no payloads: they stay in the history, and the
head names the segment. Names of fields are not stored, but their order is.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from infinitic.engines import schema_1
from infinitic.errors import DecodingError
from infinitic.messages.client import ReplyTo
from infinitic.messages.outcomes import WorkflowStatus

SCHEMA = 2
"""The number of the form in which heads are stored. It rises when older releases cannot read it.

Release 0.1 wrote schema 1. It is brought to this form when it is read, and stored in this form with
the next transition.
"""


class _Part(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    pass


class OpenBlock(_Part, frozen=True):
    """Open tasks, children and calls that one activation asked for, or several ones.

    Attributes:
        sequence: the sequence of the segment that holds the requests.
        first: the position of bit 0.
        bits: bit n is set while position `first` + n is open. The lowest bit of a byte comes first.
        later: if several activations asked for them, byte n says how many segments after `sequence`
            the request of position `first` + n is. None: all are in segment `sequence`.
    """

    sequence: int
    first: int
    bits: bytes
    later: bytes | None = None


class TimerKind(Enum):
    """What a timer is for."""

    TIMER = 0
    """The code waits for it."""
    TIMEOUT = 1
    """It is the total timeout of the task, child or call at its position."""


class TimerBlock(_Part, frozen=True):
    """Open timers that one activation has set for the same time.

    Attributes:
        due: when they fire, in seconds since the Unix epoch.
        first: the position of bit 0.
        bits: bit n is set while the timer of position `first` + n is open. The position is that of
            the timer, or of what its total timeout is for.
        kind: what they are for.
        method: the method that waits for them; empty: the first one. None: they cannot be completed
            before their time.
    """

    due: float
    first: int
    bits: bytes
    kind: TimerKind = TimerKind.TIMER
    method: str | None = None


class Retry(_Part, frozen=True):
    """An open task that has failed before, and its newest attempt, which was sent or waits.

    Attributes:
        position: that of the task.
        request: the sequence of the segment with its request.
        failure: the sequence of the segment that holds the last failure of an attempt.
        retry_sequence: how often an operator asked for the task again.
        retry_index: the number of the attempt, from 0.
        due: when the attempt will be sent, in seconds since the Unix epoch; None once it was.
    """

    position: int
    request: int
    failure: int
    retry_sequence: int
    retry_index: int
    due: float | None


class DelegatedBlock(_Part, frozen=True):
    """Delegated tasks whose function has returned, see `infinitic.engines.delegations`.

    Attributes:
        number: that of the block: it begins at position 1,024 · `number`.
        bits: bit n is set for the n-th position of the block. The lowest bit of a byte comes first.
    """

    number: int
    bits: bytes


class Method(_Part, frozen=True):
    """A method that runs, or the first one of the instance.

    Attributes:
        id: that of the method. The first one has the id of the instance.
        name: its name in the class.
        waiters: the requesters that wait for its end.
        status: whether it runs, or how it ended.
        ended: the sequence of the segment with its end; 0 while it runs.
    """

    id: str
    name: str
    waiters: tuple[ReplyTo, ...] = ()
    status: WorkflowStatus = WorkflowStatus.RUNNING
    ended: int = 0


class Probe(_Part, frozen=True):
    """A request to run failed tasks or code again, while another worker finds out whether it can.

    Attributes:
        request_id: that of `RetryTasks` or `RetryWorkflowTask`.
        reply_to: whom to answer.
        tasks: the positions of the tasks.
        exact: whether all of them must run again.
        epoch: that of a child or another instance that runs again, and at whose position the
            failure is undone. None: it is about tasks.
        rerun: the activation in which the first method has failed, if its code is to run again.
    """

    request_id: str
    reply_to: ReplyTo | None
    tasks: tuple[int, ...]
    exact: bool
    epoch: int | None = None
    rerun: int = 0


class WorkflowHead(_Part, frozen=True):
    """The state of one instance. New fields go to the end, and have a default.

    Times are in seconds since the Unix epoch.

    Attributes:
        schema: the number of this form, see `SCHEMA`.
        id: the id of the instance.
        name: the name of its workflow.
        started_at: when it started.
        methods: the first method, and those that run.
        version: that of its code; None until the first activation.
        run: which run of the workflow it is. Task ids contain it.
        status: what has become of the instance.
        meta: named bytes that came from the client with the start.
        open: the open tasks, children and calls, in the order of their positions.
        timers: the open timers, with the total timeouts of what is open.
        retries: the open tasks that have failed before, in the order of their positions.
        armed: when the next wake comes; None if none is on its way.
        pending: the first segment with stimuli that the code has not seen yet; 0: there are none.
        activation: the number of the last activation.
        at: the time that the code saw in the last activation.
        deciding: while an activation runs on another worker, the first segment with its stimuli;
            otherwise 0.
        digest: that of the last decision from another worker.
        position: the next free position.
        sequence: that of the last segment.
        canceling: whether somebody has cancelled the instance.
        stalled: why the engine cannot run the code, or could not when the instance was terminated;
            None if it can.
        parked: whether its messages go to the dead letters.
        retention: seconds to keep it once it is closed.
        closed_at: when it closed; None while it is open.
        epoch: rises when an activation is to be run anew. Decisions of an older epoch do not count.
        skip: how many stimuli the code has seen already, counted from segment `deciding` (from
            `pending` if `deciding` is 0).
        failures: exceptions of background tasks that nobody has awaited, one line each.
        cleanup: once the instance is cancelled, the first position that its code asked for after
            that. -1: a decision of before is still to come.
        tagged: whether it was started with tags, which are in the history.
        unique: whether it was started with a custom id, which is in the history.
        undone: the segments in which it was re-opened, ascending. A replay looks at them first.
        probe: the probe that runs on another worker; None: there is none. The code is not run
            meanwhile.
        base: the segment with which this run begins; 0: the first one.
        continuing: whether the first method has asked for the next run, which waits for the others.
        first: the first segment that is stored; 0: all are. Those before `base` go little by
            little, a transition after the run has begun: the outbox of that one may need them.
        told: the instances that waited for methods which have failed: the id of the method, and
            whom to tell if it runs again.
        rerun_at: the time that the code sees in the next activation, which runs one again that has
            failed; None: it sees that of the clock.
        tags_tasks: whether its code has asked for tasks with tags.
        delegated: the open tasks that wait for somebody outside, since their function has returned.
        by_message: tasks of positions below this one are sent by message, though they could be
            local: a process may have died with one of them.
    """

    schema: int
    id: str
    name: str
    started_at: float
    methods: tuple[Method, ...]
    version: int | None = None
    run: int = 0
    status: WorkflowStatus = WorkflowStatus.RUNNING
    meta: dict[str, bytes] = {}
    open: tuple[OpenBlock, ...] = ()
    timers: tuple[TimerBlock, ...] = ()
    retries: tuple[Retry, ...] = ()
    armed: float | None = None
    pending: int = 0
    activation: int = 0
    at: float = 0.0
    deciding: int = 0
    digest: str = ""
    position: int = 0
    sequence: int = 0
    canceling: bool = False
    stalled: str | None = None
    parked: bool = False
    retention: float = 0.0
    closed_at: float | None = None
    epoch: int = 0
    skip: int = 0
    failures: tuple[str, ...] = ()
    cleanup: int = 0
    tagged: bool = False
    unique: bool = False
    undone: tuple[int, ...] = ()
    probe: Probe | None = None
    base: int = 0
    continuing: bool = False
    first: int = 0
    told: tuple[tuple[str, ReplyTo], ...] = ()
    rerun_at: float | None = None
    tags_tasks: bool = False
    delegated: tuple[DelegatedBlock, ...] = ()
    by_message: int = 0

    @property
    def closed(self) -> bool:
        """Whether nothing can happen any more: this is a tombstone."""
        return self.closed_at is not None


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(WorkflowHead).decode
_decode_fields = msgspec.msgpack.Decoder(list[Any]).decode


class NewerSchema(DecodingError):
    """The head was written by a newer release. It is left to workers of that release (S41)."""


def decode(data: bytes) -> WorkflowHead:
    """Decode a head, also one of an older schema.

    Raises:
        NewerSchema: a newer release wrote it.
        DecodingError: these bytes are no head.
    """
    problem: Exception | None = None
    try:
        head = _decode(data)
        if head.schema == SCHEMA:
            return head
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        problem = error
    fields = _read_fields(data)
    schema = fields[0] if fields else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerSchema(_describe_newer(schema)) from problem
    if fields and schema == 1:
        try:
            return msgspec.convert(schema_1.upgrade(fields), WorkflowHead)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            problem = error
    raise DecodingError(f"This state cannot be decoded: {problem or f'its schema is {schema!r}'}") from problem


def _describe_newer(schema: int) -> str:
    return f"This state has schema {schema}, and this release knows up to {SCHEMA}: it waits for a newer worker"


def _read_fields(data: bytes) -> list[Any] | None:
    try:
        return _decode_fields(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
