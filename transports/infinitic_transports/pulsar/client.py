"""The client library, with types, and bridged to asyncio. It is imported when it is first used.

The library calls its callbacks in threads of its own, which hold the GIL. A callback that raises
ends the process. So none of ours may raise.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from infinitic.errors import ConfigurationError, TransportError
from infinitic.transport import TransportClosed, TransportUnavailable
from infinitic_transports.pulsar.configuration import (
    make_client_configuration,
    make_consumer_configuration,
    make_producer_configuration,
    make_reader_configuration,
    make_start,
)
from infinitic_transports.pulsar.errors import advise_connection, make_error
from infinitic_transports.pulsar.library import load_library
from infinitic_transports.pulsar.settings import PulsarSettings

Answer = Callable[..., None]

CLOSE_SECONDS = 3.0
"""Seconds within which a broker has to answer a client that leaves."""


class Result(Protocol):
    """The result of a call. If it succeeded, it is equal to `Result.Ok` of the library."""

    @property
    def name(self) -> str: ...


class RawMessageId(Protocol):
    def serialize(self) -> bytes: ...
    def ledger_id(self) -> int: ...
    def entry_id(self) -> int: ...


class RawMessage(Protocol):
    def data(self) -> bytes: ...
    def length(self) -> int: ...
    def properties(self) -> dict[str, str]: ...
    def partition_key(self) -> str: ...
    def publish_timestamp(self) -> int: ...
    def redelivery_count(self) -> int: ...
    def message_id(self) -> RawMessageId: ...


class RawProducer(Protocol):
    def send_async(self, message: object, callback: Answer, /) -> None: ...
    def is_connected(self) -> bool: ...
    def close_async(self, callback: Answer, /) -> None: ...


class RawConsumer(Protocol):
    def receive_async(self, callback: Answer, /) -> None: ...
    def acknowledge_async(self, id: RawMessageId, callback: Answer, /) -> None: ...
    def is_connected(self) -> bool: ...
    def close_async(self, callback: Answer, /) -> None: ...


class RawReader(Protocol):
    def read_next_async(self, callback: Answer, /) -> None: ...
    def has_message_available_async(self, callback: Answer, /) -> None: ...
    def is_connected(self) -> bool: ...
    def close_async(self, callback: Answer, /) -> None: ...


async def call_async(
    what: str, where: str, call: Callable[[Answer], None], waiting: set[asyncio.Future[Any]] | None = None
) -> Any:
    """Make a call that takes a callback, and wait for its answer.

    The library has two styles of callbacks; both are understood.

    Args:
        what: what is done, for the text of an error.
        where: the URL of the broker, likewise.
        call: makes the call, with the callback that it is given.
        waiting: the future is in this set meanwhile. So the caller can settle it if no answer will
            come.

    Raises:
        TransportError: the answer is an error.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(outcome: Any, value: Any) -> None:
        if future.done():
            if hasattr(value or outcome, "close_async"):
                # Whoever waited was cancelled, so nobody would close what was made.
                (value or outcome).close_async(ignore)
        elif hasattr(outcome, "error"):
            future.set_exception(make_error(outcome.error.name, what, where, outcome.message))
        elif hasattr(outcome, "name") and not hasattr(outcome, "close_async") and outcome.name != "Ok":
            future.set_exception(make_error(outcome.name, what, where))
        else:
            future.set_result(outcome if value is None else value)

    def answer(outcome: Any, value: Any = None) -> None:
        run_on_loop(loop, settle, outcome, value)

    if waiting is not None:
        waiting.add(future)
        future.add_done_callback(waiting.discard)
    call(answer)
    return await future


def run_on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    """Run a function on the loop, from any thread. Nothing happens if the loop is closed.

    Args:
        loop: the loop.
        call: the function.
        args: its arguments.
    """
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


def ignore(*_: Any) -> None:
    """A callback for answers that nobody waits for."""


class PulsarClient:
    """One connection to the brokers. It is opened when the first producer or consumer is made.

    Args:
        settings: where the brokers are.
        reach: returns if the brokers can be reached, and raises otherwise. It is asked before the
            first thing is made.
    """

    def __init__(self, settings: PulsarSettings, reach: Callable[[], Awaitable[None]]) -> None:
        self.library = load_library()
        self._settings = settings
        self._reach = reach
        self.where = settings.broker_service_url
        self._client: Any = None
        self._waiting: set[asyncio.Future[Any]] = set()
        self._closed = False
        # Once it has connected, the settings are right: later failures are outages.
        self._proven = False

    async def producer(self, topic: str, *, batching: bool, timeout: float) -> RawProducer:
        """Make a producer.

        Args:
            topic: the full name of the topic.
            batching: whether batches are allowed.
            timeout: seconds until a message that is not accepted fails.

        Raises:
            UnknownTopic: there is no such topic.
        """
        client = self._open()
        conf = make_producer_configuration(self.library, self._settings.producer, batching=batching, timeout=timeout)
        made = await self._make(
            f"Making a producer for {topic}", lambda answer: client.create_producer_async_v2(topic, conf, answer)
        )
        return cast(RawProducer, made)

    async def consumer(self, topic: str, subscription: str, *, keyed: bool, queue: int) -> RawConsumer:
        """Join a durable subscription.

        Args:
            topic: the full name of the topic.
            subscription: the encoded name of the subscription.
            keyed: whether the topic is KEYED.
            queue: how many messages the library requests beforehand.
        """
        client, library = self._open(), self.library
        conf = make_consumer_configuration(library, keyed=keyed, queue=queue, partitions=self._settings.partitions or 1)
        made = await self._make(
            f"Subscribing to {topic}", lambda answer: client.subscribe_async_v2(topic, subscription, conf, answer)
        )
        return cast(RawConsumer, made)

    async def reader(self, topic: str, name: str, *, queue: int, after: tuple[int, int] | None) -> RawReader:
        """Read the messages after an entry, or new messages only. A reader leaves nothing behind.

        **Without an entry, messages may be missed**: until the first message has come, each
        reconnect begins with new messages again.

        Args:
            topic: the full name of the topic.
            name: the name of the reader.
            queue: how many messages the library requests beforehand.
            after: ledger and number of the entry; None for new messages only.
        """
        client, library = self._open(), self.library
        conf, last = make_reader_configuration(library, name, queue=queue), make_start(library, after)
        made = await self._make(
            f"ReaderSource {topic}",
            lambda answer: client.create_reader_async_v2(topic, last, conf, answer),
        )
        return cast(RawReader, made)

    async def close(self, *, at_once: bool = False) -> None:
        """Leave the brokers; `at_once` without telling them, because they may not answer."""
        self._closed = True
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if not at_once:
                # In a thread: the asynchronous close of the library may end the process at its
                # exit.
                await asyncio.to_thread(client.close)
        except Exception:  # noqa: BLE001 (a broker that is away: nothing is left to be closed)
            at_once = True
        if at_once:
            await asyncio.to_thread(client.shutdown)
        self._at_exit.detach()
        # The library does not answer all calls that are under way.
        for future in self._waiting.copy():
            if not future.done():
                future.set_exception(TransportClosed("This transport is closed"))

    async def _make(self, what: str, call: Callable[[Answer], None]) -> Any:
        if not self._proven:
            await self._reach()
            if self._closed:
                raise TransportClosed("This transport is closed")
        try:
            made = await call_async(what, self.where, call, self._waiting)
        except TransportError as error:
            if self._closed:
                raise TransportClosed("This transport is closed") from error
            is_first = isinstance(error, TransportUnavailable) and not self._proven
            advice = advise_connection(str(error)) if is_first else None
            if advice is None:
                raise
            raise TransportError(f"{error}: {advice}") from error
        self._proven = True
        return made

    def _open(self) -> Any:
        if self._closed:
            raise TransportClosed("This transport is closed")
        if self._client is None:
            try:
                self._client = self.library.Client(self.where, make_client_configuration(self.library, self._settings))
            except Exception as error:
                raise ConfigurationError(f"The client of {self.where} cannot be made: {error}") from error
            # A thread of the library that outlives the interpreter aborts the process.
            self._at_exit = weakref.finalize(self, self._client.close)
        return self._client
