"""Signals inside an instance.

A `Channel` keeps them until a `Receiver` that is awaited takes them.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, TypeVar, cast, get_args, overload

from infinitic.codec.values import ValueCodec, value_codec
from infinitic.definitions.combination import SignalSource, Taking
from infinitic.definitions.deferred import Deferred, DeferredStatus, Waitable, status_of
from infinitic.definitions.home import Home
from infinitic.errors import ChannelClosedError, DecodingError, UsageError

T = TypeVar("T")
U = TypeVar("U")

KEEP = 10_000


class Channel(Generic[T]):
    """A channel for signals to a workflow, declared in its class body.

    ``approvals = Channel[bool]()``.

    Outside, a client sends signals to it, through a stub::

        trip = client.get_workflow_by_id(Trip, workflow_id)
        await trip.approvals.send(True)

    Inside, `receive` gives a receiver: ``approved = await self.approvals.receive()``. Signals that
    nobody awaits yet are kept, in order. A signal is taken by one receiver only.

    Args:
        keep: how many signals to keep at most; further ones are dropped, with a warning in the log.
            0 keeps none: a signal that nobody waits for is dropped.

    Raises:
        UsageError: `keep` is negative.
    """

    name: str = ""

    def __init__(self, *, keep: int = KEEP) -> None:
        if keep < 0:
            raise UsageError(f"Channel(keep={keep}) is negative")
        self.keep = keep

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    def hint(self) -> object:
        """Return the type of its signals; `Any` if it was declared without one."""
        arguments = get_args(getattr(self, "__orig_class__", None))
        return arguments[0] if arguments else Any

    async def send(self, value: T, *, confirm: bool = False, meta: Mapping[str, bytes] | None = None) -> None:
        """Send a signal. For stubs that a client gives; returns when the broker has it.

        The workflow may end before it sees the signal, or may not exist: nobody is told, unless
        `confirm`.

        Args:
            value: the signal; its type is that of the channel.
            confirm: return only when the workflow has got the signal.
            meta: bytes that are kept beside the signal in the history, for people and tools that
                read it. The code of the workflow does not see them.

        Raises:
            PayloadError: the value does not fit the type of the channel.
            UsageError: `meta` is no mapping of texts to bytes.
            WorkflowUnknownError: with `confirm`: there is no such workflow.
        """
        raise UsageError(
            f"Channel '{self.name}': signals are sent through a stub of a client, "
            "as in client.get_workflow_by_id(MyWorkflow, workflow_id)"
        )

    @overload
    def receive(
        self, type: None = None, limit: int | None = None, where: str | Mapping[str, object] | None = None
    ) -> Receiver[T]: ...
    @overload
    def receive(
        self, type: type[U], limit: int | None = None, where: str | Mapping[str, object] | None = None
    ) -> Receiver[U]: ...
    def receive(
        self,
        type: type[Any] | None = None,
        limit: int | None = None,
        where: str | Mapping[str, object] | None = None,
    ) -> Receiver[Any]:
        """Make a receiver of signals, for the code of the workflow.

        The receiver takes one signal each time it is awaited, alone or in a combination. It takes
        none before that, and none if the race in which it is awaited is lost::

            payment = await self.payments.receive(where="?@.amount > 10")
            async for vote in self.votes.receive(limit=3):
                ...

        Args:
            type: take only signals that are instances of this class.
            limit: how many signals it gives. To await it once more raises `ChannelClosedError`.
            where: take only signals that match. A JSONPath query (RFC 9535) must find something in
                the signal; a filter such as ``"?@.amount > 10"`` looks at the signal itself; a
                mapping gives fields and the values that they must have.

        Raises:
            UsageError: the limit is below 1, or the query is not valid.
        """
        raise UsageError(f"Channel '{self.name}': receive() is for the code of the workflow, while it runs")


class BoundChannel(Channel[T]):
    """A channel of one instance: the signals that nobody has taken, and those who wait."""

    def __init__(self, channel: Channel[T], home: Home) -> None:
        super().__init__(keep=channel.keep)
        self.name = channel.name
        self._home = home
        self._codec: ValueCodec = value_codec(channel.hint())
        self._kept: list[_Signal] = []
        self._waiting: list[_Taking] = []
        self._count = 0

    def receive(
        self,
        type: type[Any] | None = None,
        limit: int | None = None,
        where: str | Mapping[str, object] | None = None,
    ) -> Receiver[Any]:
        if limit is not None and limit < 1:
            raise UsageError(f"receive(limit={limit}): a receiver gives one signal at least")
        return Receiver(self, self._home, type, limit, None if where is None else make_matcher(where))

    def offer(self, data: bytes, origin: object = None) -> None:
        """Give a signal to the first receiver that waits for such a one, else keep it.

        Args:
            data: the signal as JSON text.
            origin: what it came with, for `list_kept`.

        Raises:
            DecodingError: it is not of the type of the channel.
        """
        self._count += 1
        try:
            value = self._codec.decode(data)
        except DecodingError as error:
            raise DecodingError(f"A signal of channel '{self.name}': {error}") from error
        self._place(_Signal(self._count, value, data, origin))

    def list_kept(self) -> list[Any]:
        """List the origins of the signals that nobody has taken, in order."""
        return [signal.origin for signal in self._kept]

    def take(self, taking: _Taking) -> None:
        """Give a receiver the earliest kept signal that it takes, else let it wait."""
        for index, signal in enumerate(self._kept):
            if taking.receiver.takes(signal):
                del self._kept[index]
                taking.accept(signal)
                return
        self._waiting.append(taking)

    def release(self, taking: _Taking) -> None:
        """A receiver gave up: it waits no more.

        What it had taken goes back to its place in the order.
        """
        if taking in self._waiting:
            self._waiting.remove(taking)
        elif taking.signal is not None:
            signal, taking.signal = taking.signal, None
            self._place(signal)

    def _place(self, signal: _Signal) -> None:
        for index, taking in enumerate(self._waiting):
            if taking.receiver.takes(signal):
                del self._waiting[index]
                taking.accept(signal)
                return
        insort(self._kept, signal, key=_number)
        if len(self._kept) > self.keep:
            self._kept.pop()  # the latest one: what was given back had its place before it
            if self.keep:
                self._home.note("Channel '%s' keeps %d signals already: one more is dropped", self.name, self.keep)

    def close(self, receiver: Receiver[Any], error: Callable[[], ChannelClosedError]) -> None:
        """A receiver has reached its limit: tell its other awaits that no signal comes.

        Args:
            receiver: the receiver.
            error: makes the error that they get.
        """
        others = [taking for taking in self._waiting if taking.receiver is receiver]
        for taking in others:
            self._waiting.remove(taking)
            taking.fail(error())


class _Signal:
    __slots__ = ("data", "number", "origin", "value")

    def __init__(self, number: int, value: object, data: bytes, origin: object) -> None:
        self.origin = origin
        self.number = number
        self.value = value
        self.data = data


def _number(signal: _Signal) -> int:
    return signal.number


class Receiver(SignalSource[T]):
    """Gives one signal each time it is awaited; ``async for`` gives all that come.

    `Channel.receive` makes it. Unlike a `Deferred`, which has one value, it can be awaited again
    and again, and gives another signal each time. Its status is that of the latest await. A
    receiver whose race is lost, or whose wait was cancelled, takes nothing.
    """

    def __init__(
        self,
        channel: BoundChannel[Any],
        home: Home,
        cls: type[Any] | None,
        limit: int | None,
        matches: Callable[[bytes], bool] | None,
    ) -> None:
        self.home = home
        self._number = home.next_number()
        self.given = 0
        self._channel = channel
        self._cls = cls
        self._limit = limit
        self._matches = matches
        self._taking: _Taking | None = None

    def __hash__(self) -> int:
        return self._number

    @property
    def channel_name(self) -> str:
        """The channel whose signals it takes."""
        return self._channel.name

    def takes(self, signal: _Signal) -> bool:
        """Tell whether the filters of the receiver let a signal pass."""
        if self._cls is not None and not isinstance(signal.value, self._cls):
            return False
        return self._matches is None or self._matches(signal.data)

    def begin(self) -> _Taking:
        """Begin an await: return a future of the next signal."""
        taking = self._taking = _Taking(self)
        if self._at_limit():
            taking.fail(self._closed())
        else:
            self._channel.take(taking)
        return taking

    def close_if_full(self) -> None:
        """Once the limit is reached, tell all who still wait that they get no signal."""
        if self._at_limit():
            self._channel.close(self, self._closed)

    def release(self, taking: Taking[Any]) -> None:
        """End an await. Its signal, if it has one, goes back to the channel."""
        assert isinstance(taking, _Taking)
        if self._taking is taking:
            self._taking = None
        self.given -= taking.signal is not None
        self._channel.release(taking)

    def _at_limit(self) -> bool:
        return self._limit is not None and self.given >= self._limit

    def _closed(self) -> ChannelClosedError:
        return ChannelClosedError(self._channel.name, self._limit or 0)

    def __await__(self) -> Generator[Any, None, T]:
        taking = self.begin()
        try:
            return cast(T, (yield from taking))
        except (asyncio.CancelledError, GeneratorExit):
            self.release(taking)
            raise

    def __aiter__(self) -> Receiver[T]:
        return self

    async def __anext__(self) -> T:
        if self._at_limit():
            raise StopAsyncIteration
        return await self

    def status(self) -> DeferredStatus:
        return DeferredStatus.ONGOING if self._taking is None else status_of(self._taking)

    def __or__(self, other: Waitable[U]) -> Deferred[T | U]:
        """Whichever completes first."""
        both: Deferred[T | U] = self.home.combine((self, other), every=False)
        return both

    def __and__(self, other: Waitable[U]) -> Deferred[tuple[T, U]]:
        """The values of both, as `all_of` gives them."""
        both: Deferred[tuple[T, U]] = self.home.combine((self, other), every=True)
        return both


class _Taking(Taking[Receiver[Any]]):
    """One await of a receiver."""

    def accept(self, signal: _Signal) -> None:
        self.receiver.given += 1
        self.complete(signal, signal.value)
        self.receiver.close_if_full()

    def cancel(self, msg: object = None) -> bool:
        if self.done():
            return False
        self.receiver.release(self)
        return super().cancel(msg)


def make_matcher(where: str | Mapping[str, object]) -> Callable[[bytes], bool]:
    """Make a predicate over the JSON text of a signal.

    Args:
        where: a JSONPath query, a filter, or a mapping of fields to values, as for
            `Channel.receive`.

    Raises:
        UsageError: the query is not valid.
    """
    import msgspec

    decode = msgspec.json.decode
    if not isinstance(where, str):
        expected = dict(where)

        def equal(data: bytes) -> bool:
            value = decode(data)
            return isinstance(value, dict) and expected.items() <= cast("dict[str, object]", value).items()

        return equal
    import jsonpath_rfc9535

    on_itself = where.lstrip().startswith("?")
    try:
        query = jsonpath_rfc9535.compile(f"$[{where}]" if on_itself else where)
    except jsonpath_rfc9535.JSONPathError as error:
        raise UsageError(f"receive(where={where!r}) is not a JSONPath query: {error}") from error

    def found(data: bytes) -> bool:
        value = decode(data)
        return bool(query.find([value] if on_itself else value))

    return found
