"""To one client: the responses to its requests. State engines send them.

A client finds its request by the request id. A duplicate finds no request any more, and is dropped.

On the wire: q request id · v value · f failure · e why the instance is stalled, or the
request refused · s seconds · n number of an activation, or ids · i what is known, or the id of the
instance · m whether there are more.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, NoName, Seconds, Whole
from infinitic.errors import ExceptionDetail
from infinitic.ids import read_remote_request
from infinitic.messages.decoding import make_decoder
from infinitic.messages.outcomes import MethodFailure, WorkflowStatus


class ReplyTo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The *requester*: whom to answer. It is a client, or an instance that waits at a position.

    It is short, because it stands in the head of each instance that is waited for.

    Attributes:
        client: the name of the client, which is in the name of its topic; of an instance its id.
        request: the id of its request. That of an instance says at which position it waits, see
            `ids.remote_request`.
        workflow: the name of the workflow of the instance; empty for a client.
    """

    client: Name
    request: Name
    workflow: NoName = ""

    @property
    def place(self) -> tuple[int, int, int]:
        """Where an instance waits: its run, the position, and the retry sequence of the request."""
        return read_remote_request(self.request) or (0, 0, 0)


class _Response(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", gc=False):
    request: Name = msgspec.field(name="q")


class MethodCompleted(_Response, frozen=True, tag="completed"):
    """The method that the client waits for returned this value."""

    value: msgspec.Raw = msgspec.field(name="v")


class MethodFailed(_Response, frozen=True, tag="failed"):
    """The method that the client waits for raised."""

    failure: MethodFailure = msgspec.field(name="f")


class MethodCanceled(_Response, frozen=True, tag="canceled"):
    """The method that the client waits for was cancelled with its instance."""


class MethodTerminated(_Response, frozen=True, tag="terminated"):
    """The instance of the method that the client waits for was terminated. `reason` says why."""

    reason: str = msgspec.field(name="e", default="")


class WorkflowUnknown(_Response, frozen=True, tag="unknown"):
    """There is no such workflow, or it is closed.

    If `reason` is not empty, it says why the request went to the dead letters. Then the response
    says nothing about the workflow.
    """

    reason: str = msgspec.field(name="e", default="")


class Applied(_Response, frozen=True, tag="applied"):
    """The engine has applied a signal or a command of an operator.

    If the instance is stalled, `stalled` says why. Then what was asked for is kept, and takes
    effect when the instance runs again.
    """

    stalled: str | None = msgspec.field(name="e", default=None)


class MethodInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A method that runs, or the first one of the instance, with how it ended."""

    method_id: Name
    method_name: str
    status: WorkflowStatus


class WorkflowInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of an instance. Times are in seconds since the Unix epoch.

    Attributes:
        workflow_id: the id of the instance.
        workflow_name: the name of its workflow.
        version: that of its code; None until it has run.
        status: what has become of it.
        started_at: when it started.
        closed_at: when it closed; None while it is open.
        stalled: why the engine cannot run its code; None if it can.
        parked: whether its messages go to the dead letters.
        methods: the first method and those that run, 100 at most.
        open_tasks: how many tasks, children and calls its code waits for.
        open_timers: how many timers its code waits for.
        next_wake: when its next timer or retry is due; None if there is none.
        steps: how many tasks, timers and inline results its code has asked for.
        transitions: how many segments its history has.
        more_methods: how many methods are not listed.
        background_failures: the exceptions of asyncio tasks that the code has not awaited so far, a
            line each.
        tags: those that it was started with.
        custom_id: the one that it was started with; empty: there is none.
        delegated_tasks: how many of `open_tasks` wait for somebody outside to complete them.
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
    tags: tuple[str, ...] = ()
    custom_id: str = ""
    delegated_tasks: Whole = 0


class Described(_Response, frozen=True, tag="described"):
    """The answer to `Describe`."""

    info: WorkflowInfo = msgspec.field(name="i")


class AskAgain(_Response, frozen=True, tag="again"):
    """Ask again after so many seconds.

    Too many wait for this method, or a query was answered by code whose decision was not taken.
    """

    seconds: Seconds = msgspec.field(name="s")


class Queried(_Response, frozen=True, tag="queried"):
    """A query returned this value.

    `activation` is the number of the last activation that the code had seen then.
    """

    value: msgspec.Raw = msgspec.field(name="v")
    activation: Whole = msgspec.field(name="n", default=0)
    run: Whole = msgspec.field(name="u", default=0)


class QueryFailed(_Response, frozen=True, tag="query_failed"):
    """A query cannot be answered: it raised, or did what a query must not do, or is unknown."""

    failure: ExceptionDetail = msgspec.field(name="f")


class UniqueStarted(_Response, frozen=True, tag="started"):
    """The answer to `StartUnique`: the instance that holds the custom id."""

    workflow_id: Name = msgspec.field(name="i")


class Ids(_Response, frozen=True, tag="ids"):
    """The answer to `GetIds`: a page of ids in the order of their bytes.

    `more` says whether others may follow.
    """

    ids: tuple[Name, ...] = msgspec.field(name="n", default=())
    more: bool = msgspec.field(name="m", default=False)


class Rejected(_Response, frozen=True, tag="rejected"):
    """The engine has not done what an operator asked for, and `reason` says why."""

    reason: str = msgspec.field(name="e")


class Tasks(_Response, frozen=True, tag="tasks"):
    """The answer to `GetTasks`: a page of tokens of tasks, in the order of their bytes.

    `more` says whether others may follow. What a token says, see `task_tags.read_token`.
    """

    tokens: tuple[str, ...] = msgspec.field(name="n", default=())
    more: bool = msgspec.field(name="m", default=False)


Response = (
    MethodCompleted
    | MethodFailed
    | MethodCanceled
    | WorkflowUnknown
    | Applied
    | Described
    | Queried
    | QueryFailed
    | AskAgain
    | MethodTerminated
    | UniqueStarted
    | Ids
    | Rejected
    | Tasks
)

encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(Response), "response")


class _Request(msgspec.Struct, frozen=True):
    request: str = msgspec.field(name="q")


_decode_request = msgspec.json.Decoder(_Request).decode


def read_request_id(body: bytes) -> str | None:
    """Read the request id of a body that may be no response otherwise; None if there is none.

    So a client that cannot decode a response can fail the request that waits for it.
    """
    try:
        return _decode_request(body).request
    except (ValueError, RecursionError):
        return None
