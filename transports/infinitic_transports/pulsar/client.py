"""The client library, typed and bridged to asyncio. Nothing else touches it; it is imported when first used.

Callbacks come in threads of the library and hold the GIL. One that raises ends the process, so none does.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable
from typing import Any, Protocol, cast

from infinitic.errors import ConfigurationError, MissingDriverError
from infinitic.transport import TransportClosed
from infinitic_transports.pulsar.configuration import connection, producing
from infinitic_transports.pulsar.errors import error_of
from infinitic_transports.pulsar.settings import PulsarSettings

Answer = Callable[..., None]


class Result(Protocol):
    """How a call went. Compares equal to `Library.ok` if well."""

    @property
    def name(self) -> str: ...


class RawMessageId(Protocol):
    def serialize(self) -> bytes: ...


class RawMessage(Protocol):
    def data(self) -> bytes: ...
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
    def acknowledge_async(self, message: RawMessage, callback: Answer, /) -> None: ...
    def close_async(self, callback: Answer, /) -> None: ...


class RawReader(Protocol):
    def read_next_async(self, callback: Answer, /) -> None: ...
    def close_async(self, callback: Answer, /) -> None: ...


def load(module: str) -> Any:
    """A module of a driver. Raises `MissingDriverError` if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDriverError("The transport 'pulsar'", "pulsar", module) from error


async def answered(what: str, where: str, call: Callable[[Answer], None]) -> Any:
    """Make a call that takes a callback, and wait for its answer. Both styles of the library are understood."""
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

    def __init__(self, settings: PulsarSettings) -> None:
        self.library = load("_pulsar")
        self._settings = settings
        self.where = settings.broker_service_url
        self._client: Any = None
        self._closed = False

    async def producer(self, topic: str, *, batching: bool, timeout: float) -> RawProducer:
        """Make a producer. Raises `UnknownTopic` if there is no such topic."""
        client = self._open()
        conf = producing(self.library, self._settings.producer, batching=batching, timeout=timeout)
        return cast(
            RawProducer,
            await answered(
                f"Making a producer for {topic}",
                self.where,
                lambda answer: client.create_producer_async_v2(topic, conf, answer),
            ),
        )

    async def consumer(self, topic: str, subscription: str, *, keyed: bool, queue: int) -> RawConsumer:
        """Join a durable subscription."""
        client, library = self._open(), self.library
        conf = library.ConsumerConfiguration()
        conf.consumer_type(library.ConsumerType.KeyShared if keyed else library.ConsumerType.Shared)
        conf.subscription_initial_position(library.InitialPosition.Earliest)
        conf.receiver_queue_size(queue)
        conf.max_total_receiver_queue_size_across_partitions(max(queue, self._settings.partitions or 1))
        conf.batch_index_ack_enabled(True)
        if keyed:
            policy = library.KeySharedPolicy()
            policy.set_key_shared_mode(library.KeySharedMode.AutoSplit)
            policy.set_allow_out_of_order_delivery(False)
            conf.key_shared_policy(policy)
        return cast(
            RawConsumer,
            await answered(
                f"Subscribing to {topic}",
                self.where,
                lambda answer: client.subscribe_async_v2(topic, subscription, conf, answer),
            ),
        )

    async def reader(self, topic: str, name: str, *, queue: int) -> RawReader:
        """Read what is published from now on. It leaves nothing behind."""
        client, library = self._open(), self.library
        conf = library.ReaderConfiguration()
        conf.receiver_queue_size(queue)
        conf.reader_name(name)
        conf.subscription_role_prefix(name)
        return cast(
            RawReader,
            await answered(
                f"Reading {topic}",
                self.where,
                lambda answer: client.create_reader_async_v2(topic, library.MessageId.latest, conf, answer),
            ),
        )

    async def close(self) -> None:
        """Close in a thread: the library's own asynchronous close may end the process when it exits."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            try:
                await asyncio.to_thread(client.close)
            except Exception:  # noqa: BLE001 (a broker that is away: nothing is left to be closed)
                client.shutdown()

    def _open(self) -> Any:
        if self._closed:
            raise TransportClosed("This transport is closed")
        if self._client is None:
            try:
                self._client = self.library.Client(self.where, connection(self.library, self._settings))
            except Exception as error:
                raise ConfigurationError(f"The client of {self.where} cannot be made: {error}") from error
        return self._client
