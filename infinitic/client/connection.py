"""The connection of one client: it sends requests to engines, and receives the responses.

Responses arrive on a topic of this client alone.

It knows nothing of stubs, values and results: `infinitic.client.client` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from infinitic import ids, topics
from infinitic.client.waits import MethodWait, Request, Waits
from infinitic.clock import Clock
from infinitic.errors import DecodingError, TransportError, UsageError
from infinitic.messages import client as responses, engine
from infinitic.messages.client import AskAgain, ReplyTo
from infinitic.runtime.backoff import Losses, compute_delay, retry_while_unavailable
from infinitic.runtime.publisher import Publisher
from infinitic.topics import Topic
from infinitic.transport import (
    Consumer,
    Delivery,
    Message,
    Transport,
    TransportClosed,
    TransportUnavailable,
)

_logger = logging.getLogger("infinitic.client")

PREFETCH = 1000
"""How many responses the broker may send ahead of what was handled."""


class ClientConnection:
    """Sends requests, and hands each response to whoever asked.

    Args:
        transport: the connection to the broker. It is not closed by this.
        name: the name of the client. Its topic is named after it.
        clock: the time that goes into messages.
    """

    def __init__(self, transport: Transport, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self._publisher = Publisher(transport)
        self._topic = topics.client(name)
        self._requests: dict[str, Request] = {}
        self._number = 0
        self.waits = Waits(self._publisher, clock, self.register, self.forget)
        """The methods whose end this client waits for."""
        self._starting = asyncio.Lock()
        self._consumer: Consumer | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._closed = False
        self._lost: BaseException | None = None

    @property
    def max_payload(self) -> int:
        """How many bytes a message may have."""
        return self._publisher.transport.capabilities.max_payload

    async def start(self) -> None:
        """Begin to listen for responses. If that has begun, only wait until it is done.

        Raises:
            UsageError: it is closed.
        """
        async with self._starting:
            self._check_not_closed()
            if self._consumer is not None:
                return
            consumer = await self._subscribe()
            if self._closed:
                # `close` came meanwhile, and did not see this consumer.
                await consumer.close()
                self._check_not_closed()
            self._consumer = consumer
            loop = asyncio.get_running_loop()
            self._receiver = loop.create_task(self._receive(), name="infinitic client")
            self._receiver.add_done_callback(self._fail_if_lost)

    async def close(self) -> None:
        """Stop listening. Whoever still waits gets `UsageError`. A second call does nothing."""
        self._closed = True
        if self._consumer is not None:
            await self.waits.stop()
        receiver, self._receiver = self._receiver, None
        consumer, self._consumer = self._consumer, None
        try:
            if receiver is not None:
                receiver.cancel()
                # `await receiver` would not tell its cancellation from one of this task.
                await asyncio.wait({receiver})
                if not receiver.cancelled():
                    # Whoever waited for a response has been told already.
                    receiver.exception()
        finally:
            self._fail_all(UsageError("The client was closed while this waited for a response"))
            if consumer is not None:
                await consumer.close()

    def register(self, request: Request) -> ReplyTo:
        """Have the response to a request given to it. Returns whom to answer, for the message.

        Raises:
            UsageError: the client is not open.
        """
        if self._consumer is None:
            raise UsageError("This client is not open: use it inside `async with Client(…) as client:`")
        if self._lost is not None:
            # Each raise adds to the traceback, which would keep what its frames hold.
            raise self._lost.with_traceback(None)
        # Numbers grow also over a restart: an engine takes the highest request of a client for its
        # newest.
        self._number = ids.request_number(self._number, self.clock.now())
        request_id = ids.request_id(self._number)
        self._requests[request_id] = request
        return ReplyTo(self.name, request_id)

    def forget(self, request_id: str) -> None:
        """Wait no longer for the response to a request."""
        self._requests.pop(request_id, None)

    async def send(self, name: str, workflow_id: str, message: engine.Input) -> None:
        """Publish an input for an instance. It is with the broker when this returns.

        Raises:
            UsageError: the client is closed.
        """
        self._check_not_closed()
        body = engine.encode(message)
        await self._publisher.send(topics.workflow_engine(name), [Message(workflow_id, workflow_id, body)])

    async def send_to_tags(self, topic: Topic, messages: Iterable[tuple[str, str, bytes]]) -> None:
        """Publish messages for the tag engine of a workflow or service.

        Args:
            topic: that of the tag engine.
            messages: key, id and body of each.

        Raises:
            UsageError: the client is closed.
        """
        self._check_not_closed()
        made = [Message(message_id, key, body) for key, message_id, body in messages]
        if made:
            await self._publisher.send(topic, made)

    async def ask_tags(
        self, topic: Topic, key: str, message_id: str, make: Callable[[float, ReplyTo], bytes]
    ) -> responses.Response:
        """Publish a message for a tag engine, and wait for the response to it.

        Args:
            topic: that of the tag engine.
            key: of the tag or custom id.
            message_id: the id of the message.
            make: makes the body from the time and from whom to answer.
        """
        request = Request(message_id)
        reply_to = self.register(request)
        try:
            await self.send_to_tags(topic, [(key, message_id, make(self.clock.now(), reply_to))])
            return await request.answer()
        finally:
            self.forget(reply_to.request)

    async def ask(
        self, name: str, workflow_id: str, make: Callable[[float, ReplyTo], engine.Input]
    ) -> responses.Response:
        """Publish an input for an instance, and wait for the response to it.

        Args:
            name: the workflow.
            workflow_id: the instance.
            make: makes the input from the time and from whom to answer.
        """
        request = Request(workflow_id)
        reply_to = self.register(request)
        try:
            await self.send(name, workflow_id, make(self.clock.now(), reply_to))
            return await request.answer()
        finally:
            self.forget(reply_to.request)

    def give_up(self, workflow_id: str, error: Exception) -> None:
        """Raise `error` to all who wait for a response of this instance."""
        for request in list(self._requests.values()):
            if request.workflow_id == workflow_id:
                request.fail(error)

    async def _receive(self) -> None:
        losses = Losses()
        losses.note_joined()
        while True:
            consumer = self._consumer
            assert consumer is not None
            try:
                deliveries = await retry_while_unavailable("Receiving responses", partial(consumer.receive, 256))
                for delivery in deliveries:
                    self._handle(delivery)
                await retry_while_unavailable("Acknowledging responses", partial(consumer.ack, deliveries))
            except TransportError as error:
                # A consumer that may not receive or acknowledge is as good as lost.
                await asyncio.sleep(losses.note_lost())
                if not await self._subscribe_again(consumer, error):
                    return
                losses.note_joined()

    def _handle(self, delivery: Delivery) -> None:
        """Give a response to whoever asked. If nobody asked or nobody waits any more, drop it."""
        try:
            response = responses.decode(delivery.message.body)
        except DecodingError as error:
            _logger.warning("A response cannot be read, and is ignored: %s", error)
            request = self._requests.pop(responses.read_request_id(delivery.message.body) or "", None)
            if request is not None:
                request.fail(error)
            return
        request = self._requests.pop(response.request, None)
        if request is None:
            return
        if type(response) is AskAgain and isinstance(request, MethodWait):
            request.defer(response.seconds)
        else:
            request.settle(response)

    async def _subscribe_again(self, lost: Consumer, reason: Exception) -> bool:
        """Subscribe anew, until it works. False if the transport is closed.

        Responses that were on their way are lost, so whoever waits for one is told to ask again.
        """
        _logger.error("%s: %s; the client subscribes again", self._topic.name, reason)
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
                await asyncio.sleep(compute_delay(tries))
            else:
                break
        self._fail_all(TransportUnavailable("The topic of this client was lost with its answer: ask again"))
        return True

    def _fail_if_lost(self, receiver: asyncio.Task[None]) -> None:
        """Receiving has ended. Unless the client was closed, tell all who wait why."""
        if not (receiver.cancelled() or self._closed):
            self._lost = receiver.exception() or TransportClosed("The transport of this client is closed")
            _logger.error("%s: no response is received any more: %s", self._topic.name, self._lost)
            self._fail_all(self._lost)

    def _check_not_closed(self) -> None:
        if self._closed:
            raise UsageError("This client is closed: make a new one")

    def _fail_all(self, error: BaseException) -> None:
        """Raise this to all who wait for a response."""
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.fail(error)

    async def _subscribe(self) -> Consumer:
        transport = self._publisher.transport
        return await retry_while_unavailable(
            f"Subscribing to {self._topic.name}",
            lambda: transport.subscribe(self._topic, self.name, PREFETCH, durable=False),
        )
