"""Clients start workflows, wait for them, signal, cancel and inspect them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast, overload

from msgspec import Raw

from infinitic import ids, topics
from infinitic.client.handles import WorkflowHandle as WorkflowHandle, instance_of
from infinitic.client.stubs import MethodStub, Target, method_stub, stub_of, stub_of_function
from infinitic.client.waits import Request, Waits
from infinitic.clock import Clock, SystemClock, to_instant
from infinitic.codec.payloads import PayloadCodec, coder_of
from infinitic.definitions.stubs import checked_meta
from infinitic.definitions.workflow_spec import MethodSpec
from infinitic.errors import (
    DecodingError,
    DeferredError,
    RequestRefusedError,
    TransportError,
    UsageError,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowTimedOutError,
    WorkflowUnknownError,
)
from infinitic.limits import check_value, extra_size, room_of
from infinitic.messages import client as responses, engine
from infinitic.messages.client import ReplyTo, WorkflowInfo
from infinitic.messages.outcomes import WorkflowStatus, error_of
from infinitic.runtime.backoff import Losses, delay_of, insist
from infinitic.runtime.publisher import Publisher
from infinitic.storage import Flag, Page, Query, Storage
from infinitic.transport import (
    Consumer,
    Delivery,
    Message,
    Transport,
    TransportClosed,
    TransportUnavailable,
)

if TYPE_CHECKING:
    from infinitic.config import Config

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_logger = logging.getLogger("infinitic.client")

PREFETCH = 1000


class Client:
    """A client of one transport. Use it as ``async with Client(transport) as client:``.

    Args:
        transport: the connection to the broker. The client does not close it.
        storage: for `list_workflows` only.
        name: unique among all clients; chosen if not given.
        clock: the time that goes into messages.
        codec: codes payloads, one or a chain of `PayloadCodec`; workers must have the same.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        storage: Storage | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
    ) -> None:
        self._coder = coder_of(codec)
        self.name = ids.check_name("The name of a client", f"client-{ids.new_id()[:12]}" if name is None else name)
        self._publisher = Publisher(transport)
        self._storage = storage
        self._clock = clock or SystemClock()
        self._topic = topics.client(self.name)
        self._requests: dict[str, Request] = {}
        self._number = 0
        self.waits = Waits(self._publisher, self._clock, self._register, lambda each: self._requests.pop(each, None))
        self._consumer: Consumer | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._closed = False
        self._lost: BaseException | None = None
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
    ) -> Self:
        """Make a client on the transport and the storage of a configuration. It closes both with itself.

        Args:
            path: the file; `infinitic.yml` by default.
            text: the content of a file, instead of a path.
            config: what `infinitic.config.load` returned, instead of a path.
            name: unique among all clients; the `name` in a file is that of a worker.
            codec: as for `Client`.

        Raises:
            ConfigurationError: the file has mistakes. The message has all of them, one a line.
        """
        from infinitic.config import load  # slow to import

        config = load(path, text=text) if config is None else config
        adapters = config.make_adapters()
        client = cls(adapters.transport, storage=adapters.storage, name=name, codec=codec)
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

    async def start(self) -> None:
        """Begin to listen for responses. Done by ``async with``."""
        if self._closed:
            raise UsageError("This client is closed: make a new one")
        if self._consumer is None:
            self._consumer = await self._subscribe()
            self._receiver = asyncio.get_running_loop().create_task(self._receive(), name="infinitic client")
            self._receiver.add_done_callback(self._deaf)

    async def close(self) -> None:
        """Stop listening; whoever still waits gets `UsageError`. Idempotent."""
        owned, self._owned = self._owned, ()
        async with AsyncExitStack() as stack:
            for each in reversed(owned):
                stack.push_async_callback(each.close)
            await self._stop_listening()

    async def _stop_listening(self) -> None:
        self._closed = True
        if self._consumer is not None:
            await self.waits.stop()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.cancel()
            with suppress(asyncio.CancelledError, TransportError):  # who waited learned it
                await receiver
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.close()
        self._fail(UsageError("The client was closed while this waited for a response"))

    # Verbs.

    def new_workflow(self, cls: type[T], *, meta: Mapping[str, bytes] | None = None) -> T:
        """A stub that starts new instances: ``await client.new_workflow(Trip).book(request)``.

        Args:
            cls: the workflow class.
            meta: bytes that the workflow finds in its context.
        """
        return cast(T, stub_of(self, cls, None, checked_meta(meta or {})))

    def get_workflow_by_id(self, cls: type[T], workflow_id: str) -> T:
        """A stub of a running instance: signal its channels, call its methods, cancel it."""
        return cast(T, stub_of(self, cls, ids.check_name("A workflow id", workflow_id), {}))

    @overload
    async def dispatch(
        self, method: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...
    @overload
    async def dispatch(self, method: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...
    async def dispatch(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Start a method of a stub, and return a handle once the broker has it.

        Raises `UsageError` for arguments that do not fit, before anything is sent.
        """
        stub = method_stub(method)
        arguments = stub.spec.signature.encode_arguments(args, kwargs)
        if stub.workflow.workflow_id is None:
            workflow_id = ids.new_id()
            await self._send_call(stub, workflow_id, workflow_id, arguments, None)
            return WorkflowHandle(self, stub.workflow, stub.spec, workflow_id, workflow_id)
        workflow_id, method_id = stub.workflow.workflow_id, ids.new_id()
        # What a parallel method returned is told once, when it returns.
        wait = self.waits.begin(stub.workflow.spec.name, workflow_id, method_id, kept=True)
        try:
            await self._send_call(stub, workflow_id, method_id, arguments, wait.reply_to)
        except BaseException:
            self.waits.give_up(wait)
            raise
        return WorkflowHandle(self, stub.workflow, stub.spec, workflow_id, method_id, wait)

    def get_handle(
        self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], workflow_id: str
    ) -> WorkflowHandle[R]:
        """A handle on a workflow that was started elsewhere: ``client.get_handle(Trip.book, workflow_id)``."""
        workflow, spec = stub_of_function(self, method)
        checked = ids.check_name("A workflow id", workflow_id)
        return WorkflowHandle(self, workflow, spec, checked, checked)

    async def cancel(self, target: object, *, confirm: bool = False) -> str | None:
        """Cancel a whole workflow: its code sees `asyncio.CancelledError`, and may clean up.

        A stalled workflow keeps the request until it runs again: with `confirm`, the reason for which it is stalled
        is returned, and logged as a warning. None: it is applied, or nothing was asked.

        Args:
            target: a stub of an instance, or a handle.
            confirm: return only when the engine has taken it; `WorkflowUnknownError` if there is none.
        """
        name, workflow_id = instance_of(target)
        return await self._command(
            name,
            workflow_id,
            confirm,
            lambda at, to: engine.Cancel(made_at=at, request_id=ids.new_id(), reply_to=to),
        )

    async def retry_workflow_task(self, target: object, *, confirm: bool = False) -> str | None:
        """Have a stalled workflow run again, with today's code. Arguments and result as for `cancel`.

        Where the code runs beside its state engine, the result tells whether it stalled again.
        """
        name, workflow_id = instance_of(target)
        return await self._command(
            name,
            workflow_id,
            confirm,
            lambda at, to: engine.RetryWorkflowTask(made_at=at, request_id=ids.new_id(), reply_to=to),
        )

    async def describe(self, target: object) -> WorkflowInfo:
        """What the engine knows of an instance. `target` as for `cancel`. Raises `WorkflowUnknownError`."""
        name, workflow_id = instance_of(target)
        response = await self._ask(name, workflow_id, lambda at, to: engine.Describe(made_at=at, reply_to=to))
        if not isinstance(response, responses.Described):
            raise _not_handled(response, name, "", workflow_id)
        return response.info

    async def list_workflows(
        self,
        *,
        name: str | None = None,
        status: WorkflowStatus | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
        flag: Flag | None = None,
    ) -> Page:
        """Instances by name, status, flag and time of start (aware), newest first. Reads the storage of this client.

        Raises `UsageError` if the client has none.
        """
        if self._storage is None:
            raise UsageError("list_workflows reads the storage: Client(transport, storage=…)")
        after = None if since is None else to_instant(since)
        return await self._storage.states.find(Query(name, status, after, limit=limit, cursor=cursor, flag=flag))

    # For stubs and handles.

    async def call(self, stub: MethodStub, arguments: bytes) -> Any:
        """Start a method and wait for its result."""
        name, running = stub.workflow.spec.name, stub.workflow.workflow_id
        workflow_id = running or ids.new_id()
        method_id = workflow_id if running is None else ids.new_id()
        wait = self.waits.begin(name, workflow_id, method_id)
        try:
            await self._send_call(stub, workflow_id, method_id, arguments, wait.reply_to)
        except BaseException:
            self.waits.give_up(wait)
            raise
        try:
            response = await self.waits.outcome(wait, stub.spec.total_timeout)
        except TimeoutError:
            raise WorkflowTimedOutError(name, stub.spec.name, workflow_id) from None
        return self.outcome(response, name, stub.spec, workflow_id)

    async def signal(self, stub: Target, channel: str, data: bytes, *, confirm: bool) -> str | None:
        """Send a signal whose value is encoded already. The result is that of `cancel`."""
        if stub.workflow_id is None:
            raise UsageError(
                f"Channel '{channel}': signals go to a running workflow, as in client.get_workflow_by_id(…)"
            )
        if self._coder is not None:
            data = self._coder.seal(data)
        self._check_size(f"A signal for channel '{channel}'", data)
        return await self._command(
            stub.spec.name,
            stub.workflow_id,
            confirm,
            lambda at, to: engine.Signal(
                made_at=at, signal_id=ids.new_id(), channel=channel, value=Raw(data), reply_to=to
            ),
        )

    def outcome(self, response: responses.Response, name: str, spec: MethodSpec, workflow_id: str) -> Any:
        """The value of a response about a method, or the error that it stands for, raised."""
        match response:
            case responses.MethodCompleted():
                value = response.value if self._coder is None else self._coder.unseal(response.value)
                return spec.signature.decode_result(value)
            case responses.MethodFailed():
                failure = response.failure
                cause: DeferredError | None = None if failure.cause is None else error_of(failure.cause)
                raise WorkflowFailedError(name, spec.name, workflow_id, failure.exception, cause) from cause
            case responses.MethodCanceled():
                raise WorkflowCanceledError(name, spec.name, workflow_id)
            case _:
                raise _not_handled(response, name, spec.name, workflow_id)

    def give_up(self, workflow_id: str, error: Exception) -> None:
        """Raise `error` to all who wait for this instance. For test kits: they know that an answer never comes."""
        for request in list(self._requests.values()):
            if request.workflow_id == workflow_id:
                request.fail(error)

    # Requests and responses.

    def _register(self, request: Request) -> ReplyTo:
        if self._consumer is None:
            raise UsageError("This client is not open: use it inside `async with Client(…) as client:`")
        if self._lost is not None:
            raise self._lost
        # Numbers go on after a restart: an engine takes the highest request of a client for its newest.
        self._number = ids.request_number(self._number, self._clock.now())
        request_id = ids.request_id(self._number)
        self._requests[request_id] = request
        return ReplyTo(self.name, request_id)

    async def _send_call(
        self, stub: MethodStub, workflow_id: str, method_id: str, arguments: bytes, reply_to: ReplyTo | None
    ) -> None:
        """Start a method. The id of the first one of an instance is that of the instance."""
        workflow = stub.workflow
        name = workflow.spec.name
        if self._coder is not None:
            arguments = self._coder.seal(arguments)
        extra = extra_size(meta=workflow.meta) if workflow.workflow_id is None else 0
        self._check_size(f"The arguments of {name}.{stub.spec.name}", arguments, extra)
        now = self._clock.now()
        if workflow.workflow_id is None:
            start = engine.Start(
                made_at=now,
                method=stub.spec.name,
                arguments=Raw(arguments),
                reply_to=reply_to,
                meta=workflow.meta,
            )
            await self._send(name, workflow_id, start)
            return
        call = engine.CallMethod(
            made_at=now,
            method_id=method_id,
            method=stub.spec.name,
            arguments=Raw(arguments),
            reply_to=reply_to,
        )
        await self._send(name, workflow_id, call)

    def _check_size(self, what: str, data: bytes, extra: int = 0) -> None:
        check_value(what, data, extra, room_of(self._publisher.transport.capabilities.max_payload))

    async def _command(
        self,
        name: str,
        workflow_id: str,
        confirm: bool,
        make: Callable[[float, ReplyTo | None], engine.Input],
    ) -> str | None:
        """Send a command. Returns why it takes effect later only: the reason for which the instance is stalled."""
        if not confirm:
            await self._send(name, workflow_id, make(self._clock.now(), None))
            return None
        response = await self._ask(name, workflow_id, make)
        if not isinstance(response, responses.Applied):
            raise _not_handled(response, name, "", workflow_id)
        if response.stalled is not None:
            _logger.warning(
                "Workflow %s %s is stalled: what was asked for is kept, and takes effect when it runs again: %s",
                name,
                workflow_id,
                response.stalled,
            )
        return response.stalled

    async def _ask(
        self, name: str, workflow_id: str, make: Callable[[float, ReplyTo], engine.Input]
    ) -> responses.Response:
        request = Request(workflow_id)
        reply_to = self._register(request)
        try:
            await self._send(name, workflow_id, make(self._clock.now(), reply_to))
            return await request.answer()
        finally:
            self._requests.pop(reply_to.request, None)

    async def _send(self, name: str, workflow_id: str, message: engine.Input) -> None:
        if self._closed:
            raise UsageError("This client is closed: make a new one")
        body = engine.encode(message)
        await self._publisher.send(topics.workflow_engine(name), [Message(workflow_id, workflow_id, body)])

    async def _receive(self) -> None:
        losses = Losses()
        losses.joined()
        while True:
            consumer = self._consumer
            assert consumer is not None
            try:
                deliveries = await insist("Receiving responses", partial(consumer.receive, 256))
                for delivery in deliveries:
                    self._heed(delivery)
                await insist("Acknowledging responses", partial(consumer.ack, deliveries))
            except TransportError as error:  # a consumer that may not receive or acknowledge is as good as lost
                await asyncio.sleep(losses.lost())
                if not await self._listen_again(consumer, error):
                    return
                losses.joined()

    def _heed(self, delivery: Delivery) -> None:
        try:
            response = responses.decode(delivery.message.body)
        except DecodingError as error:
            _logger.warning("A response is passed over: %s", error)
            request = self._requests.pop(responses.request_of(delivery.message.body) or "", None)
            if request is not None:
                request.fail(error)
            return
        request = self._requests.pop(response.request, None)
        if request is not None:
            request.settle(response)

    async def _listen_again(self, lost: Consumer, reason: Exception) -> bool:
        """Subscribe anew, until it works; False if the transport is closed. What was on its way is lost."""
        _logger.error("%s: %s; it is subscribed anew", self._topic.name, reason)
        tries = 0
        while True:
            try:
                with suppress(TransportError):
                    await lost.close()
                self._consumer = await self._subscribe()
            except TransportClosed:
                return False
            except TransportError as error:
                tries += 1
                _logger.warning("Subscribing to %s again: %s; trying until it works", self._topic.name, error)
                await asyncio.sleep(delay_of(tries))
            else:
                break
        self._fail(TransportUnavailable("The topic of this client was lost with its answer: ask again"))
        return True

    def _deaf(self, receiver: asyncio.Task[None]) -> None:
        """No answer can come any more, unless this was closed: whoever waits learns why."""
        if not (receiver.cancelled() or self._closed):
            self._lost = receiver.exception() or TransportClosed("The transport of this client is closed")
            _logger.error("%s: nothing is heard any more: %s", self._topic.name, self._lost)
            self._fail(self._lost)

    def _fail(self, error: BaseException) -> None:
        """Raise this to all who wait for a response."""
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.fail(error)

    async def _subscribe(self) -> Consumer:
        transport = self._publisher.transport
        return await insist(
            f"Subscribing to {self._topic.name}",
            lambda: transport.subscribe(self._topic, self.name, PREFETCH, durable=False),
        )


def _not_handled(response: responses.Response, name: str, method: str, workflow_id: str) -> DeferredError:
    """What is raised where a response does not say that something was done."""
    if isinstance(response, responses.WorkflowUnknown) and response.reason:
        return RequestRefusedError(name, method, workflow_id, response.reason)
    return WorkflowUnknownError(name, method, workflow_id)
