"""What event listeners are told, and how it travels: CloudEvents 1.0 in the JSON batch format.

So any program that reads the topic understands it. Events hold names, ids and the beginning of
error messages. They never hold arguments, results, signals or meta.

An event that comes twice has the same source and id each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote

import msgspec

from infinitic.errors import ExceptionDetail
from infinitic.failures import fit_text
from infinitic.messages.decoding import UndecodableMessage

PIECE_BYTES = 256 * 1024
"""How many bytes of events one message has at most."""

TEXT_BYTES = 1024
"""How many bytes of an error message or a reason an event has at most."""

SPECVERSION = "1.0"


class EventType(StrEnum):
    """The types of events. The table in `docs/events.md` says when each of them comes."""

    TASK_DISPATCH = "io.infinitic.task.dispatch"
    TASK_STARTED = "io.infinitic.task.started"
    TASK_COMPLETED = "io.infinitic.task.completed"
    TASK_RETRY_SCHEDULED = "io.infinitic.task.retryScheduled"
    TASK_FAILED = "io.infinitic.task.failed"
    TASK_DELEGATION_COMPLETED = "io.infinitic.task.delegationCompleted"

    WORKFLOW_DISPATCH = "io.infinitic.workflow.dispatch"
    WORKFLOW_DISPATCH_METHOD = "io.infinitic.workflow.dispatchMethod"
    WORKFLOW_CANCEL = "io.infinitic.workflow.cancel"
    WORKFLOW_CANCEL_METHOD = "io.infinitic.workflow.cancelMethod"
    WORKFLOW_RETRY_TASK = "io.infinitic.workflow.retryTask"
    WORKFLOW_RETRY_EXECUTOR = "io.infinitic.workflow.retryExecutor"
    WORKFLOW_SIGNAL = "io.infinitic.workflow.signal"
    WORKFLOW_SIGNAL_RECEIVED = "io.infinitic.workflow.signalReceived"
    WORKFLOW_SIGNAL_DISCARDED = "io.infinitic.workflow.signalDiscarded"
    WORKFLOW_SIGNAL_DISPATCHED = "io.infinitic.workflow.signalDispatched"
    WORKFLOW_TIMER_DISPATCHED = "io.infinitic.workflow.timerDispatched"
    WORKFLOW_TIMER_COMPLETED = "io.infinitic.workflow.timerCompleted"
    WORKFLOW_EXECUTOR_DISPATCHED = "io.infinitic.workflow.executorDispatched"
    WORKFLOW_EXECUTOR_COMPLETED = "io.infinitic.workflow.executorCompleted"
    WORKFLOW_EXECUTOR_FAILED = "io.infinitic.workflow.executorFailed"
    WORKFLOW_METHOD_COMPLETED = "io.infinitic.workflow.methodCompleted"
    WORKFLOW_METHOD_FAILED = "io.infinitic.workflow.methodFailed"
    WORKFLOW_METHOD_CANCELED = "io.infinitic.workflow.methodCanceled"
    WORKFLOW_METHOD_TIMED_OUT = "io.infinitic.workflow.methodTimedOut"
    WORKFLOW_RUN_STARTED = "io.infinitic.workflow.runStarted"
    WORKFLOW_COMPLETED = "io.infinitic.workflow.completed"
    WORKFLOW_FAILED = "io.infinitic.workflow.failed"
    WORKFLOW_CANCELED = "io.infinitic.workflow.canceled"
    WORKFLOW_TERMINATED = "io.infinitic.workflow.terminated"
    WORKFLOW_TASK_DISPATCHED = "io.infinitic.workflow.taskDispatched"
    WORKFLOW_TASK_COMPLETED = "io.infinitic.workflow.taskCompleted"
    WORKFLOW_TASK_FAILED = "io.infinitic.workflow.taskFailed"
    WORKFLOW_TASK_CANCELED = "io.infinitic.workflow.taskCanceled"
    WORKFLOW_TASK_TIMED_OUT = "io.infinitic.workflow.taskTimedOut"
    WORKFLOW_REMOTE_METHOD_DISPATCHED = "io.infinitic.workflow.remoteMethodDispatched"
    WORKFLOW_REMOTE_METHOD_COMPLETED = "io.infinitic.workflow.remoteMethodCompleted"
    WORKFLOW_REMOTE_METHOD_FAILED = "io.infinitic.workflow.remoteMethodFailed"
    WORKFLOW_REMOTE_METHOD_CANCELED = "io.infinitic.workflow.remoteMethodCanceled"
    WORKFLOW_REMOTE_METHOD_TIMED_OUT = "io.infinitic.workflow.remoteMethodTimedOut"
    WORKFLOW_REMOTE_METHOD_UNKNOWN = "io.infinitic.workflow.remoteMethodUnknown"


class EventError(msgspec.Struct, frozen=True, gc=False):
    """An exception: the qualified name of its class, and the beginning of its text."""

    name: str
    message: str


class EventData(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The data of an event. What does not apply is left out.

    Attributes:
        workflow_name: the workflow.
        workflow_id: the instance.
        workflow_version: the version of its code, once it is known.
        run: which run of the instance it is, from 0.
        method_name: the method.
        method_id: the same; that of the first method is the id of the instance.
        service_name: the service of a task.
        task_name: the task.
        task_id: the same, for all its attempts.
        position: the number of a task, timer, child or call among those of its run.
        retry_sequence: how often an operator has asked for the task again.
        retry_index: the number of the attempt, from 0.
        delay_seconds: seconds until the next attempt.
        worker_name: the worker that ran the attempt.
        channel_name: the channel of a signal.
        remote_workflow_name: the workflow of a child, of a call or of a signal to another instance.
        remote_workflow_id: the other instance.
        tag: the tag that chose the other instances.
        due: when a timer fires, in ISO 8601.
        activation: the number of an activation.
        by: who asked: the name of a client, or the id of an instance.
        reason: why, for people.
        error: what was raised.
        tags: those of the instance or task.
        custom_id: that of the instance.
    """

    workflow_name: str = ""
    workflow_id: str = ""
    workflow_version: int | None = None
    run: int = 0
    method_name: str = ""
    method_id: str = ""
    service_name: str = ""
    task_name: str = ""
    task_id: str = ""
    position: int | None = None
    retry_sequence: int = 0
    retry_index: int = 0
    delay_seconds: float | None = None
    worker_name: str = ""
    channel_name: str = ""
    remote_workflow_name: str = ""
    remote_workflow_id: str = ""
    tag: str = ""
    due: str = ""
    activation: int | None = None
    by: str = ""
    reason: str = ""
    error: EventError | None = None
    tags: tuple[str, ...] = ()
    custom_id: str = ""


class _CloudEvent(msgspec.Struct, frozen=True):
    id: str
    source: str
    type: str
    subject: str
    time: str
    data: EventData
    specversion: str = SPECVERSION
    datacontenttype: str = "application/json"


class DecodedEvent(msgspec.Struct, frozen=True):
    """An event as it was read. Attributes and data of newer releases are kept.

    Attributes:
        attributes: those of CloudEvents, but for `data`. `time` is the text that was sent.
        data: its data.
    """

    attributes: dict[str, Any]
    data: dict[str, Any]

    @property
    def type(self) -> str:
        """Its type, see `EventType`."""
        return str(self.attributes["type"])


@lru_cache(4096)
def make_workflow_source(name: str) -> str:
    """The source of the events of a workflow."""
    return f"/workflows/{quote(name, safe='')}"


@lru_cache(4096)
def make_service_source(name: str) -> str:
    """The source of the events of the tasks of a service."""
    return f"/services/{quote(name, safe='')}"


def format_time(at: float) -> str:
    """Write a time as CloudEvents do.

    Args:
        at: seconds since the Unix epoch. A time that no calendar has becomes the nearest one.
    """
    try:
        return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return "9999-12-31T23:59:59Z" if at > 0 else "0001-01-01T00:00:00Z"


def make_error(exception: ExceptionDetail) -> EventError:
    """Make what an event says of an exception."""
    return EventError(fit_text(exception.name, TEXT_BYTES), fit_text(exception.message, TEXT_BYTES))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[dict[str, Any]]).decode


def encode_event(event_id: str, source: str, type: EventType, subject: str, time: str, data: EventData) -> bytes:
    """Encode one event.

    Args:
        event_id: the same each time that the event is published.
        source: who it is about.
        type: what happened.
        subject: the task or the instance.
        time: when, as `format_time` writes it.
        data: what else is known.
    """
    return _encode(_CloudEvent(event_id, source, type, subject, time, data))


def join_pieces(encoded: Iterable[bytes], longest: int = PIECE_BYTES) -> list[bytes]:
    """Put events into the bodies of as few messages as they need, in order.

    Args:
        encoded: the events, each as `encode_event` returns it.
        longest: how many bytes a body may have; never more than `PIECE_BYTES`.
    """
    limit = min(longest, PIECE_BYTES)
    bodies: list[bytes] = []
    piece: list[bytes] = []
    size = 1
    for each in encoded:
        if piece and size + len(each) + 1 > limit:
            bodies.append(b"[" + b",".join(piece) + b"]")
            piece, size = [], 1
        piece.append(each)
        size += len(each) + 1
    if piece:
        bodies.append(b"[" + b",".join(piece) + b"]")
    return bodies


# The library would fill in the time of now, which is not when it happened.
_TEXTS = ("id", "source", "type", "time")
_OPTIONAL_TEXTS = ("subject", "datacontenttype", "dataschema")


def decode(body: bytes) -> list[DecodedEvent]:
    """Decode the events of a message.

    Raises:
        UndecodableMessage: these bytes are no batch of CloudEvents 1.0.
    """
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UndecodableMessage(f"This is no batch of CloudEvents: {error}") from error
    return [_check(each) for each in found]


def _check(found: dict[str, Any]) -> DecodedEvent:
    for name in _TEXTS:
        value = found.get(name)
        if not isinstance(value, str) or not value:
            raise UndecodableMessage(f"This is no CloudEvent: its {name} is {value!r:.100}")
    for name in _OPTIONAL_TEXTS:
        value = found.get(name, "x")
        if not isinstance(value, str) or not value:
            raise UndecodableMessage(f"This is no CloudEvent: its {name} is {value!r:.100}")
    if found.get("specversion") != SPECVERSION:
        raise UndecodableMessage(f"This is no CloudEvent of version 1.0, but {found.get('specversion')!r:.100}")
    data: Any = found.pop("data", {})
    if not isinstance(data, dict):
        raise UndecodableMessage("The data of this CloudEvent is no JSON object")
    return DecodedEvent(found, cast("dict[str, Any]", data))
