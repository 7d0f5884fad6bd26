"""What the code of an instance asks of other instances: children, method calls and signals."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

from msgspec import Raw

from infinitic import ids
from infinitic.definitions.deferred import Deferred
from infinitic.definitions.home import Home
from infinitic.definitions.stubs import check_meta
from infinitic.definitions.workflow_spec import WorkflowSpec, workflow_contract_of
from infinitic.definitions.workflow_stubs import (
    NewWorkflow,
    RemoteChannel,
    RemoteMethod,
    RemoteTarget,
    RemoteWorkflow,
)
from infinitic.errors import (
    DeferredError,
    ExceptionDetail,
    RequestRefusedError,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowTerminatedError,
    WorkflowTimedOutError,
    WorkflowUnknownError,
)
from infinitic.limits import MAX_VALUE_DEPTH, describe_largest_argument, is_deeper, measure_extra
from infinitic.messages.commands import CallRemote, Command, SignalRemote, StartChild
from infinitic.messages.events import RemoteError, RemoteResult, Reopened
from infinitic.messages.outcomes import RemoteStatus, make_error
from infinitic.replay.methods import SHALLOW_BYTES
from infinitic.replay.recorder import Recorder

_Deferred: Any = Deferred
"""For calls of its methods by name, as in `infinitic.replay.awaited`."""


_NOTHING: Mapping[str, bytes] = {}


class RemoteDeferred(Deferred[Any]):
    """The result of a child, or of a method of another instance."""

    def __init__(self, home: Home, position: int, stub: RemoteMethod, requests: RemoteRequests) -> None:
        _Deferred.__init__(self, home, position)
        self.stub = stub
        self._requests = requests

    @property
    def id(self) -> str:
        """The id of the child, or of the instance whose method was called.

        A child that has attached to the holder of its custom id shows the id that it would have.
        If a child was cancelled, and is asked for again since an operator has re-opened this
        instance, this is another id from then on.
        """
        target = self.stub.target
        if not target.is_new:
            return target.describe()
        asked_again = self._requests.asked_again.get(self._position, 0)
        child_id = ids.remote_id(self.home.id, self.home.run, self._position, asked_again)
        if target.custom_id:
            self._requests.promised.add(child_id)
        return child_id

    def settle(self, recorder: Recorder, event: RemoteResult | RemoteError) -> None:
        """Settle it with what has become of the method."""
        if isinstance(event, RemoteResult):
            self.set_result(self.stub.spec.signature.decode_result(recorder.decode_payload(event.value)))
        else:
            self.fail(self._make_error(event))

    def time_out(self) -> None:
        """Settle it: its total timeout is over."""
        self.fail(WorkflowTimedOutError(self.stub.workflow, self.stub.spec.name, self.id))

    def _make_error(self, event: RemoteError) -> DeferredError:
        called = (self.stub.workflow, self.stub.spec.name, self.id)
        match event.status:
            case RemoteStatus.CANCELED:
                return WorkflowCanceledError(*called)
            case RemoteStatus.REFUSED:
                return RequestRefusedError(*called, event.reason)
            case RemoteStatus.TERMINATED:
                return WorkflowTerminatedError(*called, event.reason)
            case RemoteStatus.FAILED | RemoteStatus.COMPLETED:
                failure = event.failure
                if failure is None:
                    return WorkflowFailedError(*called, ExceptionDetail("", ""))
                cause = None if failure.cause is None else make_error(failure.cause)
                error = WorkflowFailedError(*called, failure.exception, cause)
                error.__cause__ = cause
                return error
            case RemoteStatus.UNKNOWN:
                return WorkflowUnknownError(*called)

    def _cancellation(self) -> DeferredError:
        return WorkflowCanceledError(self.stub.workflow, self.stub.spec.name, self.id)


class RemoteRequests:
    """The part of an instance with which its code uses stubs of workflows."""

    spec: WorkflowSpec
    meta: Mapping[str, bytes]
    _recorder: Recorder
    _open: dict[int, object]

    @cached_property
    def promised(self) -> set[str]:
        """The ids that the code knows of children whose starts go to a tag engine first."""
        return set()

    @cached_property
    def asked_again(self) -> dict[int, int]:
        """The retry sequences of the children that were asked for again, by position."""
        return {}

    def note_reopened(self, reopened: Reopened) -> None:
        """Note which children run with another id from now on."""
        for each in reopened.tasks:
            if each.retry_sequence:
                self.asked_again[each.position] = each.retry_sequence

    @property
    def carried_meta(self) -> Mapping[str, bytes]:
        """The meta entries that it hands on, as its middlewares want it."""
        names, meta = self.spec.carried_meta, self.meta
        return {name: meta[name] for name in sorted(names) if name in meta} if names and meta else _NOTHING

    @property
    def _home(self) -> Home:
        return cast("Home", self)

    def bind_workflow(self, stub: NewWorkflow) -> RemoteWorkflow:
        """Make the stub with which the code starts children."""
        contract = workflow_contract_of(stub.contract_class)
        target = RemoteTarget(contract.name, tags=stub.tags, custom_id=stub.custom_id)
        return RemoteWorkflow(
            self._home,
            contract,
            target,
            meta={**self.carried_meta, **stub.meta},
            total_timeout=stub.total_timeout,
            attribute=stub.attribute,
        )

    def find_workflow(
        self,
        contract: Any,
        meta: Mapping[str, bytes] | None = None,
        *,
        workflow_id: str = "",
        tag: str = "",
        holder_of: str = "",
    ) -> RemoteWorkflow:
        """Make a stub of another instance, or of those that have a tag."""
        read = workflow_contract_of(contract)
        target = RemoteTarget(read.name, workflow_id, tag, holder_of)
        return RemoteWorkflow(self._home, read, target, meta={**self.carried_meta, **check_meta(meta or {})})

    def request(self, stub: RemoteMethod, arguments: bytes) -> RemoteDeferred:
        """Ask for a child, or for a method of another instance.

        Args:
            stub: the method.
            arguments: its arguments as JSON text.

        Returns:
            A deferred of its result.

        Raises:
            PayloadTooLargeError: the arguments are too large to be sent.
            UsageError: the stub stands for all instances that have a tag.
        """
        stub.check_one()
        recorder, home = self._recorder, self._home
        recorder.check()
        recorder.check_open(len(self._open))
        data = recorder.encode_payload(arguments)
        target = stub.target
        extra = measure_extra(target.tags, stub.meta) if stub.meta or target.tags else 0
        _take(recorder, f"The arguments of {stub.workflow}.{stub.spec.name}", data, extra, arguments)
        position = recorder.next_position()
        timeout_at = None if stub.total_timeout is None else home.loop.now + stub.total_timeout
        command: Command
        called = (stub.spec.name, Raw(data), stub.meta, timeout_at)
        if target.is_new:
            command = StartChild(position, target.workflow, *called, target.tags, target.custom_id)
        else:
            where = (target.holder_of, target.workflow_id in self.promised)
            command = CallRemote(position, target.workflow, target.workflow_id, *called, *where)
        recorder.record(command)
        deferred = self._open[position] = RemoteDeferred(home, position, stub, self)
        return deferred

    def signal(self, channel: RemoteChannel, value: bytes, meta: dict[str, bytes]) -> None:
        """Send a signal to another instance. Nobody waits for it.

        Args:
            channel: where it goes.
            value: its value as JSON text.
            meta: bytes that are kept beside it in the history of the other instance.

        Raises:
            PayloadTooLargeError: the value is too large to be sent.
        """
        recorder = self._recorder
        recorder.check()
        data = recorder.encode_payload(value)
        extra = measure_extra(meta=meta) if meta else 0
        target = channel.target
        _take(recorder, f"A signal for channel '{channel.name}' of {target.workflow}", data, extra, None)
        position = recorder.next_position()
        sent = (channel.name, Raw(data), meta, target.tag, target.holder_of, target.workflow_id in self.promised)
        recorder.record(SignalRemote(position, target.workflow, target.workflow_id, *sent))


def _take(recorder: Recorder, what: str, data: bytes, extra: int, arguments: bytes | None) -> None:
    """Count the bytes of a request. Raises `PayloadTooLargeError` if they cannot be sent."""
    size = len(data) + extra
    deep = size > SHALLOW_BYTES and is_deeper(data, MAX_VALUE_DEPTH)
    if deep or not recorder.budget.take(size):
        details = None if arguments is None else lambda: describe_largest_argument(arguments)
        recorder.make_room(what, size, details, deep=deep)
