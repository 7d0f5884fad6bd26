"""To one client: the responses to its requests, matched by request id.

On the wire: q request id · v value · f failure · e why the instance is stalled, or the
request refused.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, Whole
from infinitic.messages.decoding import make_decoder
from infinitic.messages.outcomes import MethodFailure, WorkflowStatus


class ReplyTo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Whom to answer: the name of the client, which is that of its topic, and its request id."""

    client: Name
    request: Name


class _Response(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", gc=False):
    request: Name = msgspec.field(name="q")


class MethodCompleted(_Response, frozen=True, tag="completed"):
    """The method returned this value."""

    value: msgspec.Raw = msgspec.field(name="v")


class MethodFailed(_Response, frozen=True, tag="failed"):
    """The method raised."""

    failure: MethodFailure = msgspec.field(name="f")


class MethodCanceled(_Response, frozen=True, tag="canceled"):
    """The method was cancelled."""


class WorkflowUnknown(_Response, frozen=True, tag="unknown"):
    """There is no such workflow, or it is closed.

    `reason` is why the request is among the dead letters, if it is: then that says nothing of the workflow.
    """

    reason: str = msgspec.field(name="e", default="")


class Applied(_Response, frozen=True, tag="applied"):
    """The engine has applied a signal or an operator command.

    `stalled` is why the instance is stalled, if it is: what was asked for is kept, and takes effect when it runs again.
    """

    stalled: str | None = msgspec.field(name="e", default=None)


class MethodInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A method that has not returned yet, or the first one of the instance. `status` is "running" or how it ended."""

    method_id: Name
    method_name: str
    status: WorkflowStatus


class WorkflowInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of an instance. Instants are in seconds since the Unix epoch.

    `steps` counts the tasks, timers and inline results that its code asked for; `open_tasks` and `open_timers` those
    it has not got yet; `transitions` the segments of its history. `stalled` is why the engine cannot run its code.
    At most 100 methods are listed; `more_methods` counts the others.
    `background_failures` are the exceptions of asyncio tasks that the code has not awaited so far, a line each.
    """

    workflow_id: Name
    workflow_name: Name
    version: Whole | None
    status: WorkflowStatus
    started_at: float
    closed_at: float | None = None
    stalled: str | None = None
    parked: bool = False
    methods: tuple[MethodInfo, ...] = ()
    open_tasks: Whole = 0
    open_timers: Whole = 0
    next_wake: float | None = None
    steps: Whole = 0
    transitions: Whole = 0
    more_methods: Whole = 0
    background_failures: tuple[str, ...] = ()


class Described(_Response, frozen=True, tag="described"):
    """What is known of an instance."""

    info: WorkflowInfo = msgspec.field(name="i")


Response = MethodCompleted | MethodFailed | MethodCanceled | WorkflowUnknown | Applied | Described

encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(Response), "response")


class _Request(msgspec.Struct, frozen=True):
    request: str = msgspec.field(name="q")


_decode_request = msgspec.json.Decoder(_Request).decode


def read_request_id(body: bytes) -> str | None:
    """The request id in a body that may be no response otherwise. None: there is none."""
    try:
        return _decode_request(body).request
    except (ValueError, RecursionError):
        return None
