"""Clients start workflows, wait for them, signal, cancel and inspect them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast, overload

from infinitic import ids
from infinitic.client.by_tag import ByTagVerbs
from infinitic.client.by_task_tag import ByTaskTagVerbs
from infinitic.client.connection import ClientConnection
from infinitic.client.delegated import DelegatedTaskVerbs
from infinitic.client.handles import WorkflowHandle as WorkflowHandle, find_target
from infinitic.client.intercepting import client_verb, describe_method, describe_signal, with_meta
from infinitic.client.queries import Queries
from infinitic.client.reading import StorageReads
from infinitic.client.repair import RepairVerbs
from infinitic.client.requests import Requests
from infinitic.client.results import make_unknown_error, read_outcome
from infinitic.client.stubs import MethodStub, Target, check_method_stub, make_stub, read_method
from infinitic.client.waits import MethodWait
from infinitic.clock import Clock, SystemClock
from infinitic.codec.payloads import PayloadCodec, RunBlocking, make_coder
from infinitic.definitions.stubs import check_meta
from infinitic.definitions.tags import check_custom_id, check_tags
from infinitic.definitions.workflow_spec import MethodSpec
from infinitic.errors import UsageError, WorkflowTimedOutError
from infinitic.messages import client as responses, engine
from infinitic.messages.client import Response, WorkflowInfo
from infinitic.middleware.base import BaseMiddleware
from infinitic.middleware.chain import Middlewares, run_through
from infinitic.storage import Storage
from infinitic.transport import Transport

if TYPE_CHECKING:
    from infinitic.config import Config

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


_NO_META: dict[str, bytes] = {}


class Client(RepairVerbs, DelegatedTaskVerbs, Queries, ByTagVerbs, ByTaskTagVerbs, StorageReads):
    """Starts workflows, and talks to those that run.

    ::

        async with Client(transport) as client:
            booking = await client.new_workflow(Trip).book(request)

    A client may be used by many asyncio tasks at once. It needs no worker in its process, and a
    workflow that it started goes on when the client is gone.

    Args:
        transport: the connection to the broker. The client does not close it.
        storage: for what is read from it: `list_workflows`, `read_run`, `retry_stalled`.
        name: unique among all clients; chosen if not given. Responses arrive on a topic of this
            name: two clients of one name get each other's.
        clock: the time that goes into messages.
        codec: encodes payloads, one `PayloadCodec` or a chain of them. Workers must have the same.
        make_id: returns a new id at each call, which nobody else has. By default, ids are random.
            Simulations make them from their seed.
        middleware: what stands around its calls, outermost first, see `Middleware`.
        run_blocking: where codecs run that may wait. By default each call runs in a thread.

    Raises:
        UsageError: the name cannot be one, or a middleware is none.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        storage: Storage | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        make_id: Callable[[], str] = ids.new_id,
        middleware: Sequence[BaseMiddleware] = (),
        run_blocking: RunBlocking | None = None,
    ) -> None:
        self.name = ids.check_name("The name of a client", f"client-{make_id()[:12]}" if name is None else name)
        self.layers = Middlewares(middleware).client
        """What stands around its calls, outermost first."""
        self._make_id = make_id
        self._coder = make_coder(codec, run_blocking)
        self._storage = storage
        self._clock = clock or SystemClock()
        self._connection = ClientConnection(transport, self.name, self._clock)
        self._requests = Requests(self._connection, self._coder, make_id)
        self.waits = self._connection.waits
        self._owned: tuple[Transport | Storage, ...] = ()

    @classmethod
    def from_config(
        cls,
        path: str | Path | None = None,
        *,
        text: str | None = None,
        config: Config | None = None,
        name: str | None = None,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        middleware: Sequence[BaseMiddleware] | None = None,
    ) -> Self:
        """Make a client on the transport and the storage of a configuration.

        The client closes both when it is closed.

        Args:
            path: the file; `infinitic.yml` by default.
            text: the content of a file, instead of a path.
            config: what `infinitic.config.load` returned, instead of a path.
            name: unique among all clients; the `name` in a file is that of a worker.
            codec: as for `Client`; by default those that the file names.
            middleware: as for `Client`; by default those that the file names.

        Raises:
            ConfigurationError: the file has mistakes. The message has all of them, one a line.
        """
        # Imported here: it needs pydantic, which is slow to import.
        from infinitic.config import load

        config = load(path, text=text) if config is None else config
        codec = config.make_codec() if codec is None else codec
        middleware = config.make_middleware() if middleware is None else middleware
        adapters = config.make_adapters()
        client = cls(adapters.transport, storage=adapters.storage, name=name, codec=codec, middleware=middleware)
        client._owned = adapters.all
        return client

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def clock(self) -> Clock:
        """The time that goes into messages."""
        return self._clock

    async def start(self) -> None:
        """Begin to listen for responses. ``async with`` does it.

        Raises:
            UsageError: the client is closed.
        """
        await self._connection.start()

    async def close(self) -> None:
        """Stop listening. Whoever still waits gets `UsageError`. A second call does nothing."""
        owned, self._owned = self._owned, ()
        async with AsyncExitStack() as stack:
            for each in reversed(owned):
                stack.push_async_callback(each.close)
            await self._connection.close()

    # What users call.

    def new_workflow(
        self,
        cls: Callable[..., T],
        *,
        tags: Iterable[str] = (),
        custom_id: str | None = None,
        meta: Mapping[str, bytes] | None = None,
    ) -> T:
        """Make a stub that starts new instances: ``await client.new_workflow(Trip).book(request)``.

        Each call of a method starts an instance of its own. Awaiting the call waits for the result;
        `dispatch` only starts it.

        Args:
            cls: the workflow class, or an ABC or Protocol that describes it.
            tags: texts by which running instances are found, up to 64.
            custom_id: at most one instance with this id runs at a time. If there is one, a call
                starts none: it stands for that one, and gives its result.
            meta: bytes that the workflow finds in its context.

        Raises:
            UsageError: `cls` is no workflow class, or a tag or the custom id cannot be one.
        """
        unique = "" if custom_id is None else check_custom_id(custom_id)
        given = check_tags("new_workflow", tags)
        return cast(T, make_stub(self, cls, meta=check_meta(meta or {}), tags=given, custom_id=unique))

    def get_workflow_by_id(
        self, cls: Callable[..., T], workflow_id: str, *, meta: Mapping[str, bytes] | None = None
    ) -> T:
        """Make a stub of a running instance: signal its channels, call its methods, cancel it.

        Nothing is asked of the engine: an id that does not exist shows when the stub is used.

        Args:
            cls: the workflow class, or an ABC or Protocol that describes it.
            workflow_id: the id of the instance, as in `WorkflowHandle.workflow_id`.
            meta: bytes that methods called through this stub find in their context. They are added
                to those of the workflow.

        Raises:
            UsageError: `cls` is no workflow class, or the id or the meta cannot be one.
        """
        checked = ids.check_name("A workflow id", workflow_id)
        return cast(T, make_stub(self, cls, checked, meta=check_meta(meta or {})))

    @overload
    async def dispatch(
        self, method: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...
    @overload
    async def dispatch(self, method: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...
    async def dispatch(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Start a method of a stub, and return a handle once the broker has the request.

        ::

            handle = await client.dispatch(client.new_workflow(Trip).book, request)
            print(handle.workflow_id)
            booking = await handle.result()

        Args:
            method: a method of a stub, not called.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            UsageError: the arguments do not fit, or `method` is not of a stub. Nothing was sent.
            PayloadError: an argument cannot be sent. Nothing was sent.
        """
        stub = check_method_stub(method)
        arguments = stub.spec.signature.encode_arguments(args, kwargs)
        if not self.layers:
            return await self._dispatch(stub, arguments)
        call = describe_method("dispatch", self, stub, arguments, self._make_id)
        handle: WorkflowHandle[Any] = await run_through(
            self.layers, call, lambda: self._dispatch(with_meta(stub, call), arguments, call.workflow_id)
        )
        return handle

    async def _dispatch(self, stub: MethodStub, arguments: bytes, new_id: str = "") -> WorkflowHandle[Any]:
        if stub.workflow.is_new:
            workflow_id = await self._requests.start(stub, new_id or self._make_id(), arguments, None)
            return WorkflowHandle(self, stub.workflow, stub.spec, workflow_id, workflow_id)
        _, workflow_id = await self._requests.find_one(stub.workflow)
        # What a parallel method returned is told once, when it returns.
        wait = await self._requests.begin_call(stub, workflow_id, arguments, kept=True)
        return WorkflowHandle(self, stub.workflow, stub.spec, workflow_id, wait.key[2], wait)

    def get_handle(
        self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], workflow_id: str
    ) -> WorkflowHandle[R]:
        """Make a handle on a workflow that was started elsewhere.

        Args:
            method: the method it was started with, of the class: ``Trip.book``.
            workflow_id: the id of the instance.

        Raises:
            UsageError: `method` is no method of a workflow class, or the id cannot be one.
        """
        workflow, spec = read_method(self, method)
        checked = ids.check_name("A workflow id", workflow_id)
        return WorkflowHandle(self, workflow, spec, checked, checked)

    @client_verb
    async def describe(self, target: object) -> WorkflowInfo:
        """Ask the engine what it knows of an instance.

        Args:
            target: a stub of an instance, or a handle.

        Raises:
            WorkflowUnknownError: there is no such instance.
            UsageError: `target` stands for no instance.
        """
        name, workflow_id = await self._requests.find_one(find_target(target))
        response = await self._connection.ask(
            name, workflow_id, lambda at, to: engine.Describe(made_at=at, reply_to=to)
        )
        if not isinstance(response, responses.Described):
            raise make_unknown_error(response, name, "", workflow_id)
        return response.info

    # For stubs and handles.

    def call(self, stub: MethodStub, arguments: bytes) -> Coroutine[Any, Any, Any]:
        """Start a method and wait for its result. `arguments` are encoded already."""
        if not self.layers:
            return self._call(stub, arguments)
        call = describe_method("call", self, stub, arguments, self._make_id)
        return run_through(self.layers, call, lambda: self._call(with_meta(stub, call), arguments, call.workflow_id))

    async def _call(self, stub: MethodStub, arguments: bytes, new_id: str = "") -> Any:
        name, timeout = stub.workflow.spec.name, stub.spec.total_timeout
        workflow_id = stub.workflow.workflow_id or new_id or self._make_id()
        # A timeout without a limit is a good part of what a call costs.
        if timeout is None:
            wait = await self._begin_call(stub, arguments, workflow_id)
            response = await self.waits.outcome(wait, None)
        else:
            try:
                async with asyncio.timeout(timeout):
                    wait = await self._begin_call(stub, arguments, workflow_id)
                    workflow_id = wait.workflow_id
                    response = await self.waits.outcome(wait, None)
            except TimeoutError:
                raise WorkflowTimedOutError(name, stub.spec.name, workflow_id) from None
        workflow_id = wait.workflow_id
        if self._coder is None:
            return read_outcome(response, name, stub.spec, workflow_id, None)
        return await self.read_outcome(response, name, stub.spec, workflow_id)

    def _begin_call(self, stub: MethodStub, arguments: bytes, workflow_id: str) -> Coroutine[Any, Any, MethodWait]:
        if stub.workflow.is_new:
            return self._requests.begin_start(stub, workflow_id, arguments)
        return self._call_running(stub, arguments)

    async def _call_running(self, stub: MethodStub, arguments: bytes) -> MethodWait:
        _, workflow_id = await self._requests.find_one(stub.workflow)
        return await self._requests.begin_call(stub, workflow_id, arguments, kept=False)

    async def signal(
        self, stub: Target, channel: str, data: bytes, *, confirm: bool, meta: dict[str, bytes] = _NO_META
    ) -> str | None:
        """Send a signal whose value is encoded already. Result and errors are those of `cancel`."""
        if stub.is_new:
            raise UsageError(
                f"Channel '{channel}': signals go to a running workflow, as in client.get_workflow_by_id(…)"
            )
        if not self.layers:
            return await self._requests.send_signal(stub, channel, data, meta, confirm)
        call = describe_signal(self, stub, channel, data, meta)
        answer: str | None = await run_through(
            self.layers,
            call,
            lambda: self._requests.send_signal(stub, channel, data, check_meta(call.meta), confirm),
        )
        return answer

    async def read_outcome(self, response: Response, name: str, spec: MethodSpec, workflow_id: str) -> Any:
        """Return the value that a method has ended with, or raise the error that it stands for."""
        coder = self._coder
        if coder is None:
            return read_outcome(response, name, spec, workflow_id, None)
        return await coder.run_outside(lambda: read_outcome(response, name, spec, workflow_id, coder))

    def give_up(self, workflow_id: str, error: Exception) -> None:
        """Raise `error` to all who wait for this instance.

        For test kits, which know that no answer comes.
        """
        self._connection.give_up(workflow_id, error)
