"""A client for programs that are not asynchronous.

It is a thin façade: an event loop runs in another thread, and each call waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal

from infinitic.client.by_task_tag import TaggedTask
from infinitic.client.client import Client, WorkflowHandle
from infinitic.clock import Clock
from infinitic.codec.payloads import PayloadCodec
from infinitic.definitions.deferred import DeferredStatus
from infinitic.errors import UsageError
from infinitic.messages.client import WorkflowInfo
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.middleware.base import BaseMiddleware
from infinitic.replay.run import Run
from infinitic.storage import Flag, Page, Storage
from infinitic.transport import Transport

if TYPE_CHECKING:
    from infinitic.config import Config

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class SyncHandle(Generic[R]):
    """A method of a workflow that was started: `WorkflowHandle` without `await`.

    Attributes:
        handle: the handle that it stands for.
        workflow_id: the id of the instance.
        method_id: the id of the method.
    """

    def __init__(self, client: SyncClient, handle: WorkflowHandle[R]) -> None:
        self._client = client
        self.handle = handle
        self.workflow_id = handle.workflow_id
        self.method_id = handle.method_id

    def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the result.

        Args:
            timeout: seconds (or timedelta) to wait.

        Raises:
            TimeoutError: there is no result in time. For all others see `WorkflowHandle.result`.
        """
        return self._client.run(self.handle.result, timeout)


class SyncClient:
    """A `Client` for programs that are not asynchronous.

    ::

        with SyncClient(transport) as client:
            trip = client.new_workflow(Trip)
            booking = client.run(trip.book, request)

    Its methods are those of `Client`, with the same arguments and errors. Each call blocks its
    thread. Threads may share one client.

    Args:
        transport: the connection to the broker. It is used on the loop of the portal only.
        storage: for what is read from it, as for `Client`.
        name: unique among all clients; chosen if not given.
        clock: the time that goes into messages.
        codec: encodes payloads, one `PayloadCodec` or a chain of them. Workers must have the same.
        portal: a portal into a loop that runs already; by default a thread with a loop of its own
            is started.
        middleware: what stands around its calls, as for `Client`. It runs on the loop of the
            portal, with the context variables of the thread that calls.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        storage: Storage | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        portal: BlockingPortal | None = None,
        middleware: Sequence[BaseMiddleware] = (),
    ) -> None:
        client = Client(transport, storage=storage, name=name, clock=clock, codec=codec, middleware=middleware)
        self._begin(client, portal)

    @classmethod
    def from_config(
        cls,
        path: str | Path | None = None,
        *,
        text: str | None = None,
        config: Config | None = None,
        name: str | None = None,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        portal: BlockingPortal | None = None,
        middleware: Sequence[BaseMiddleware] | None = None,
    ) -> Self:
        """Make a client of a configuration.

        Arguments and errors are those of `Client.from_config`; `portal` is that of `SyncClient`.
        """
        client = cls.__new__(cls)
        inner = Client.from_config(path, text=text, config=config, name=name, codec=codec, middleware=middleware)
        client._begin(inner, portal)
        return client

    def _begin(self, client: Client, portal: BlockingPortal | None) -> None:
        self._client = client
        self._given = portal
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = self._given or stack.enter_context(_own_portal())
            stack.callback(portal.call, self._client.close)
            portal.call(self._client.start)
            self._portal = portal
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal = None
        self._stack.close()

    def run(self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of a stub, or anything else that is asynchronous, and wait for its result.

        ``client.run(trip.book, request)``, ``client.run(running.approvals.send, True)``.

        Args:
            function: what is called, on the loop of the portal.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            UsageError: the client is not open. Whatever the function raises is raised, too.
        """
        if self._portal is None:
            raise UsageError("This client is not open: use it inside `with SyncClient(…) as client:`")
        result: R = self._portal.call(lambda: function(*args, **kwargs))
        return result

    def dispatch(
        self, method: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncHandle[R]:
        """Start a method of a stub. As `Client.dispatch`."""
        handle = self.run(lambda: self._client.dispatch(method, *args, **kwargs))
        return SyncHandle(self, handle)

    def new_workflow(
        self,
        cls: Callable[..., T],
        *,
        tags: Iterable[str] = (),
        custom_id: str | None = None,
        meta: Mapping[str, bytes] | None = None,
    ) -> T:
        """A stub that starts new instances. As `Client.new_workflow`."""
        return self._client.new_workflow(cls, tags=tags, custom_id=custom_id, meta=meta)

    def get_workflow_by_id(
        self, cls: Callable[..., T], workflow_id: str, *, meta: Mapping[str, bytes] | None = None
    ) -> T:
        """A stub of a running instance. As `Client.get_workflow_by_id`."""
        return self._client.get_workflow_by_id(cls, workflow_id, meta=meta)

    def get_workflow_by_tag(self, cls: Callable[..., T], tag: str, *, meta: Mapping[str, bytes] | None = None) -> T:
        """A stub of all instances with a tag. As `Client.get_workflow_by_tag`."""
        return self._client.get_workflow_by_tag(cls, tag, meta=meta)

    def get_workflow_by_custom_id(
        self, cls: Callable[..., T], custom_id: str, *, meta: Mapping[str, bytes] | None = None
    ) -> T:
        """A stub of the instance with a custom id. As `Client.get_workflow_by_custom_id`."""
        return self._client.get_workflow_by_custom_id(cls, custom_id, meta=meta)

    def get_ids(self, target: object, *, limit: int | None = None, after: str = "") -> list[str]:
        """The ids of the instances of a stub. As `Client.get_ids`."""
        return self.run(self._client.get_ids, target, limit=limit, after=after)

    def broadcast(self, method: Callable[P, Coroutine[Any, Any, Any]], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of all instances with a tag. As `Client.broadcast`."""
        self.run(lambda: self._client.broadcast(method, *args, **kwargs))

    def get_tasks(
        self, service: type[Any] | str, tag: str, *, limit: int | None = None, after: TaggedTask | None = None
    ) -> list[TaggedTask]:
        """The tasks of a service that have a tag. As `Client.get_tasks`."""
        return self.run(self._client.get_tasks, service, tag, limit=limit, after=after)

    def cancel_tasks(self, service: type[Any] | str, tag: str) -> None:
        """Cancel all tasks of a service that have a tag. As `Client.cancel_tasks`."""
        self.run(self._client.cancel_tasks, service, tag)

    def get_handle(
        self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], workflow_id: str
    ) -> SyncHandle[R]:
        """A handle on a workflow that was started elsewhere. As `Client.get_handle`."""
        return SyncHandle(self, self._client.get_handle(method, workflow_id))

    def cancel(self, target: object, *, method_id: str | None = None, confirm: bool = False) -> str | None:
        """Cancel a workflow, or one of its methods. As `Client.cancel`."""
        return self.run(self._client.cancel, _inner(target), method_id=method_id, confirm=confirm)

    def delete(self, target: object) -> None:
        """Remove a closed workflow before its retention ends. As `Client.delete`."""
        self.run(self._client.delete, _inner(target))

    def complete_timers(self, target: object, *, method_id: str | None = None, confirm: bool = False) -> str | None:
        """Complete the timers that a workflow waits for. As `Client.complete_timers`."""
        return self.run(self._client.complete_timers, _inner(target), method_id=method_id, confirm=confirm)

    def complete_delegated_task(
        self, token: str, value: Any = None, *, contract: type[Any] | None = None, confirm: bool = False
    ) -> str | None:
        """Complete a delegated task. As `Client.complete_delegated_task`."""
        return self.run(self._client.complete_delegated_task, token, value, contract=contract, confirm=confirm)

    def complete_delegated_tasks(
        self, service: type[Any] | str, tag: str, value: Any = None, *, task: str | None = None
    ) -> None:
        """Complete all delegated tasks with a tag. As `Client.complete_delegated_tasks`."""
        self.run(self._client.complete_delegated_tasks, service, tag, value, task=task)

    def fail_delegated_tasks(self, service: type[Any] | str, tag: str, error: BaseException | str) -> None:
        """Have all delegated tasks with a tag fail. As `Client.fail_delegated_tasks`."""
        self.run(self._client.fail_delegated_tasks, service, tag, error)

    def fail_delegated_task(self, token: str, error: BaseException | str, *, confirm: bool = False) -> str | None:
        """Have a delegated task fail. As `Client.fail_delegated_task`."""
        return self.run(self._client.fail_delegated_task, token, error, confirm=confirm)

    def terminate(self, target: object, *, reason: str = "", confirm: bool = False) -> None:
        """Close a workflow at once, without running its code. As `Client.terminate`."""
        self.run(self._client.terminate, _inner(target), reason=reason, confirm=confirm)

    def retry_workflow_task(self, target: object, *, confirm: bool = False) -> str | None:
        """Have a stalled or failed workflow run again. As `Client.retry_workflow_task`."""
        return self.run(self._client.retry_workflow_task, _inner(target), confirm=confirm)

    def retry_tasks(
        self,
        target: object = None,
        *,
        task_id: str | Sequence[str] = (),
        status: DeferredStatus | str | None = None,
        service: type[Any] | str | None = None,
        task: str | None = None,
        tag: str | None = None,
    ) -> None:
        """Run failed tasks of a workflow again. As `Client.retry_tasks`."""
        retry, which = self._client.retry_tasks, _inner(target)
        self.run(retry, which, task_id=task_id, status=status, service=service, task=task, tag=tag)

    def retry_stalled(self, workflow: type[Any] | str) -> list[str]:
        """Have all stalled workflows of one name run again. As `Client.retry_stalled`."""
        return self.run(self._client.retry_stalled, workflow)

    def describe(self, target: object) -> WorkflowInfo:
        """What the engine knows of an instance. As `Client.describe`."""
        return self.run(self._client.describe, _inner(target))

    def read_run(self, target: object, *, payloads: bool = True) -> Run:
        """What an instance did, step by step. As `Client.read_run`."""
        return self.run(self._client.read_run, _inner(target), payloads=payloads)

    def query(self, query: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask a workflow something, by one of its queries. As `Client.query`."""
        return self.run(lambda: self._client.query(query, *args, **kwargs))

    def list_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        tag: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
        flag: Flag | None = None,
        until: datetime | None = None,
        closed_since: datetime | None = None,
        closed_until: datetime | None = None,
        id_prefix: str | None = None,
        custom_id: str | None = None,
    ) -> Page:
        """Instances by name, status, tag, flag and times. As `Client.list_workflows`."""
        return self.run(
            self._client.list_workflows,
            name=name,
            status=status,
            tag=tag,
            since=since,
            limit=limit,
            cursor=cursor,
            flag=flag,
            until=until,
            closed_since=closed_since,
            closed_until=closed_until,
            id_prefix=id_prefix,
            custom_id=custom_id,
        )

    def count_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        since: datetime | None = None,
        limit: int = 10_000,
        flag: Flag | None = None,
        until: datetime | None = None,
        closed_since: datetime | None = None,
        closed_until: datetime | None = None,
        id_prefix: str | None = None,
    ) -> int:
        """How many instances there are, up to a limit. As `Client.count_workflows`."""
        return self.run(
            self._client.count_workflows,
            name=name,
            status=status,
            since=since,
            limit=limit,
            flag=flag,
            until=until,
            closed_since=closed_since,
            closed_until=closed_until,
            id_prefix=id_prefix,
        )


def _own_portal() -> AbstractContextManager[BlockingPortal]:
    return start_blocking_portal(name="infinitic client")


def _inner(target: object) -> object:
    return cast("SyncHandle[object]", target).handle if isinstance(target, SyncHandle) else target
