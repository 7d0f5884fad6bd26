"""The head of an instance: the small record that is rewritten at each transition.

It holds what is *open*, never what is done, and no payloads: these stay in the history, and the head names the segment.
"""

from __future__ import annotations

import msgspec

from infinitic.errors import DecodingError
from infinitic.messages.client import ReplyTo
from infinitic.messages.outcomes import WorkflowStatus

SCHEMA = 1


class _Part(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    pass


class OpenBlock(_Part, frozen=True):
    """Open tasks that one activation asked for: bit n of `bits` is position `first` + n.

    `sequence` is that of the segment that holds the requests.
    """

    sequence: int
    first: int
    bits: bytes


class Timer(_Part, frozen=True):
    """An open timer. `task` says that it is the total timeout of the task at this position."""

    due: float
    position: int
    task: bool = False


class Retry(_Part, frozen=True):
    """An open task of which an attempt failed: which attempt is the last one sent or waits to be sent.

    `due` is when it will be sent, None once it was. `request` and `failure` are the sequences of the segments that
    hold the request and the last failed attempt.
    """

    position: int
    request: int
    failure: int
    retry_sequence: int
    retry_index: int
    due: float | None


class Method(_Part, frozen=True):
    """A method that runs, or the first one of the instance. `ended` is the sequence of the segment of its end."""

    id: str
    name: str
    waiters: tuple[ReplyTo, ...] = ()
    status: WorkflowStatus = WorkflowStatus.RUNNING
    ended: int = 0


class WorkflowHead(_Part, frozen=True):
    """The state of one instance. New fields go to the end and have a default.

    `version` is None until the first decision. `pending` is the sequence of the first segment with stimuli that the
    code was not handed yet, 0 if there are none. `activation` is the number of the last activation, `at` its time.
    `deciding` is the first segment with its stimuli while it runs on another worker, else 0, and `digest` that of the
    last decision taken from there. `position` is the next free one, `sequence` that of the last segment. `stalled` is
    why the engine cannot run the code. `epoch` rises when an activation is to be run anew: decisions of an older epoch
    count no more. `skip` is how many stimuli from segment `deciding` on (if that is 0: `pending`) were handed over.
    `failures` are those of background tasks that nobody has awaited so far, a line each.
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
    timers: tuple[Timer, ...] = ()
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

    @property
    def closed(self) -> bool:
        """True once nothing can happen any more: this is a tombstone."""
        return self.closed_at is not None


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(WorkflowHead).decode


class NewerSchema(DecodingError):
    """The head was written by a newer release: it is left to workers of that release (rule S41)."""


def decode(data: bytes) -> WorkflowHead:
    """A head from its bytes. Raises `NewerSchema`, or `DecodingError` for bytes that are no head."""
    try:
        head = _decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # bytes that are no head raise any of these
        schema = _schema_of(data)
        if schema is not None and schema > SCHEMA:
            raise NewerSchema(f"This state has schema {schema}, this release knows {SCHEMA}") from error
        raise DecodingError(f"This state cannot be decoded: {error}") from error
    if head.schema > SCHEMA:
        raise NewerSchema(f"This state has schema {head.schema}, this release knows {SCHEMA}")
    return head


def _schema_of(data: bytes) -> int | None:
    try:
        fields = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return fields[0] if isinstance(fields, list) and fields and isinstance(fields[0], int) else None
