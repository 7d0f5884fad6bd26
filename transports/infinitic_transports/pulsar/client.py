"""The client library, typed and bridged to asyncio. Nothing else touches it; it is imported when first used.

Callbacks come in threads of the library and hold the GIL. One that raises ends the process, so none does.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from infinitic.errors import ConfigurationError, TransportError
from infinitic.transport import TransportClosed, TransportUnavailable
from infinitic_transports.pulsar.configuration import connection, consuming, place, producing, reading
from infinitic_transports.pulsar.errors import error_of, wrong
from infinitic_transports.pulsar.library import load_library
from infinitic_transports.pulsar.settings import PulsarSettings

Answer = Callable[..., None]

CLOSE_SECONDS = 3.0
"""Seconds that a broker has to answer who leaves."""


class Result(Protocol):
    """How a call went. Compares equal to `Library.ok` if well."""

    @property
    def name(self) -> str: ...


class RawMessageId(Protocol):
    def serialize(self) -> bytes: ...


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
    def is_connected(self) -> bool: ...
    def close_async(self, callback: Answer, /) -> None: ...


async def answered(
    what: str, where: str, call: Callable[[Answer], None], waiting: set[asyncio.Future[Any]] | None = None
) -> Any:
    """Make a call that takes a callback, and wait for its answer. Both styles of the library are understood.

    The future is in `waiting` meanwhile: for the caller to settle if no answer will come.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(outcome: Any, value: Any) -> None:
        if future.done():
            if hasattr(value or outcome, "close_async"):
                (value or outcome).close_async(ignore)  # nobody waits for it any more
        elif hasattr(outcome, "error"):
            future.set_exception(error_of(outcome.error.name, what, where, outcome.message))
        elif hasattr(outcome, "name") and not hasattr(outcome, "close_async") and outcome.name != "Ok":
            future.set_exception(error_of(outcome.name, what, where))
        else:
            future.set_result(outcome if value is None else value)

    def answer(outcome: Any, value: Any = None) -> None:
        post(loop, settle, outcome, value)

    if waiting is not None:
        waiting.add(future)
        future.add_done_callback(waiting.discard)
    call(answer)
    return await future


def post(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    """Run on the loop, from any thread. A loop that is closed needs no answers."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


def ignore(*_: Any) -> None:
    """For answers that nobody waits for."""


class PulsarClient:
    """One connection to the brokers, opened by what is first made with it."""

    def __init__(self, settings: PulsarSettings, reach: Callable[[], Awaitable[None]]) -> None:
        """`reach` returns if the brokers can be connected to. It is asked before the first thing is made."""
        self.library = load_library()
        self._settings = settings
        self._reach = reach
        self.where = settings.broker_service_url
        self._client: Any = None
        self._waiting: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._proven = False  # it has connected: what stands in its way now is no mistake in the settings

    async def producer(self, topic: str, *, batching: bool, timeout: float) -> RawProducer:
        """Make a producer. Raises `UnknownTopic` if there is no such topic."""
        client = self._open()
        conf = producing(self.library, self._settings.producer, batching=batching, timeout=timeout)
        made = await self._make(
            f"Making a producer for {topic}", lambda answer: client.create_producer_async_v2(topic, conf, answer)
        )
        return cast(RawProducer, made)

    async def consumer(self, topic: str, subscription: str, *, keyed: bool, queue: int) -> RawConsumer:
        """Join a durable subscription."""
        client, library = self._open(), self.library
        conf = consuming(library, keyed=keyed, queue=queue, partitions=self._settings.partitions or 1)
        made = await self._make(
            f"Subscribing to {topic}", lambda answer: client.subscribe_async_v2(topic, subscription, conf, answer)
        )
        return cast(RawConsumer, made)

    async def reader(self, topic: str, name: str, *, queue: int, after: tuple[int, int] | None) -> RawReader:
        """Read what comes after an entry (ledger and number), or from now on. It leaves nothing behind.

        From now on is anew at each reconnect, until the first message has come: between them some are missed.
        """
        client, library = self._open(), self.library
        conf, last = reading(library, name, queue=queue), place(library, after)
        made = await self._make(
            f"Reading {topic}",
            lambda answer: client.create_reader_async_v2(topic, last, conf, answer),
        )
        return cast(RawReader, made)

    async def close(self, *, at_once: bool = False) -> None:
        """Leave; `at_once` without a word to the brokers, who may be frozen."""
        self._closed = True
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if not at_once:  # in a thread: the library's own asynchronous close may end the process when it exits
                await asyncio.to_thread(client.close)
        except Exception:  # noqa: BLE001 (a broker that is away: nothing is left to be closed)
            at_once = True
        if at_once:
            await asyncio.to_thread(client.shutdown)
        self._at_exit.detach()
        for future in self._waiting.copy():  # the library answers not all of them
            if not future.done():
                future.set_exception(TransportClosed("This transport is closed"))

    async def _make(self, what: str, call: Callable[[Answer], None]) -> Any:
        if not self._proven:
            await self._reach()
            if self._closed:
                raise TransportClosed("This transport is closed")
        try:
            made = await answered(what, self.where, call, self._waiting)
        except TransportError as error:
            if self._closed:
                raise TransportClosed("This transport is closed") from error
            advice = wrong(str(error)) if isinstance(error, TransportUnavailable) and not self._proven else None
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
                self._client = self.library.Client(self.where, connection(self.library, self._settings))
            except Exception as error:
                raise ConfigurationError(f"The client of {self.where} cannot be made: {error}") from error
            # A thread of the library that outlives the interpreter aborts the process.
            self._at_exit = weakref.finalize(self, self._client.close)
        return self._client
