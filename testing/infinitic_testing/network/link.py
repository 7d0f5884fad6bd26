"""The way of one process to the broker or to the database: each call takes time there and back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar, assert_never

from infinitic.topics import Topic
from infinitic_testing.intercepting import Interceptor, Operation
from infinitic_testing.network.fates import Fate, Fates, make_error
from infinitic_testing.network.sides import HasConnections, Path, Server, Session, run_at_once, run_far

T = TypeVar("T")

_NEXT = 1e-6
"""Seconds between two messages on one connection: none overtakes another."""


class Notify(Protocol):
    """Tells observers that an operation of a process has taken effect."""

    def __call__(self, who: str, operation: Operation, result: object, /) -> Exception | None:
        """Return the error of an observer, if one raises."""
        ...


class Link(Interceptor):
    """Carries the calls of one connection. Each takes effect on the far side, at one instant.

    A call that is on its way when its process ends may still arrive. Its reply goes nowhere.

    Args:
        who: the name of the process.
        path: leads to the far side.
        fates: draws how long a call takes, and whether it fails.
        notify: called at the instant of effect.
        process: whose calls these are; None: that of a client, which never dies.
        intake: what keeps a publish back while the broker takes none; None for a storage.
        contend: called with `who` when others may get its inputs: a commit is held, or the path is
            cut off.
    """

    __slots__ = ("_busy_until", "contend", "fates", "intake", "notify", "path", "process", "who")

    def __init__(
        self,
        who: str,
        path: Path,
        fates: Fates,
        notify: Notify,
        *,
        process: HasConnections | None = None,
        intake: Server | None = None,
        contend: Callable[[str], None] | None = None,
    ) -> None:
        self.who = who
        self.path = path
        self.fates = fates
        self.notify = notify
        self.process = process
        self.intake = intake
        self.contend = contend
        # When the last publish to a topic arrives, by its name.
        self._busy_until: dict[str, float] = {}

    async def perform(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[T] = loop.create_future()
        if self.process is not None and not self.process.is_alive:
            # It has killed itself in this step, or something waits that was not told.
            return await reply
        if operation.verb == "receive":
            # The broker has sent the messages: only the way back is left, and `call` does nothing.
            self._send_back(operation, reply, None, self.path.cuts)
        else:
            # One that is cut off stays so no longer, however often it tries again.
            seconds = self.fates.draw_partition() if self.path.own.is_up else None
            if seconds is not None:
                self._cut_off(seconds)
            delay = self.fates.draw_way_there(operation.verb)
            if operation.verb == "publish" and operation.topic is not None:
                delay = self._queue(operation.topic, loop.time(), delay)
            run_far(delay, partial(self._arrive, operation, call, reply))
        return await reply

    def send(self, operation: Operation, call: Callable[[], Awaitable[object]], if_lost: Callable[[], object]) -> None:
        """Send a call to which there is no reply. While the far side is away, it is lost.

        Args:
            operation: what is called.
            call: calls it.
            if_lost: called when the far side is back, if the call is lost.
        """

        def arrive() -> None:
            if self.path.is_up:
                self.act(operation, call)
            else:
                self.path.when_up(if_lost)

        run_far(self.fates.draw_way_there(operation.verb), arrive)

    def act(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> tuple[Any, Exception | None]:
        """Let an operation take effect now, and tell the observers.

        Returns:
            Its result, and the error that it or an observer has raised.
        """
        try:
            result = run_at_once(call)
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises is for its caller
            return None, error
        return result, self.notify(self.who, operation, result)

    async def close(self, call: Callable[[], Awaitable[None]]) -> None:
        """Close without delay: the broker notices the end of a connection by itself."""
        await call()

    def _cut_off(self, seconds: float) -> None:
        """Cut this process off. For some lengths, the broker takes it for dead."""
        self.path.own.cut(seconds)
        if self.contend is not None and self.fates.draw_doubt():
            self.contend(self.who)

    def _queue(self, topic: Topic, now: float, delay: float) -> float:
        """Delay a message so that it arrives behind the earlier ones to its topic."""
        arrival = max(now + delay, self._busy_until.get(topic.name, 0.0) + _NEXT)
        self._busy_until[topic.name] = arrival
        return arrival - now

    def _arrive(self, operation: Operation, call: Callable[[], Awaitable[T]], reply: asyncio.Future[T]) -> None:
        if not self.path.is_up:
            self._miss(operation, call, reply)
            return
        if operation.verb == "publish" and self.intake is not None and self._is_blocked(self.intake):
            if self.fates.draw_patience():
                self.intake.when_up(partial(self._arrive, operation, call, reply))
            else:
                self._fail(operation, reply, is_outcome_unknown=False)
            return
        self._meet(self.fates.draw_fate(operation.verb), operation, call, reply)

    def _is_blocked(self, intake: Server) -> bool:
        if intake.is_up:
            seconds = self.fates.draw_window("back-pressure", factor=0.5)
            if seconds is not None:
                intake.cut(seconds)
        return not intake.is_up

    def _meet(
        self, fate: Fate, operation: Operation, call: Callable[[], Awaitable[T]], reply: asyncio.Future[T]
    ) -> None:
        match fate:
            case Fate.NORMAL:
                self._succeed(operation, call, reply)
            case Fate.REFUSED:
                self._fail(operation, reply, is_outcome_unknown=False)
            case Fate.LOST:
                self._fail(operation, reply, is_outcome_unknown=True)
            case Fate.REPLY_LOST:
                self.act(operation, call)
                self._fail(operation, reply, is_outcome_unknown=True)
            case Fate.LATE:
                act = partial(self.path.when_up, partial(self.act, operation, call))
                run_far(self.fates.draw_lateness(), act)
                self._fail(operation, reply, is_outcome_unknown=True)
            case Fate.HELD:
                if self.contend is not None:
                    self.contend(self.who)
                go_on = partial(self._succeed, operation, call, reply)
                run_far(self.fates.draw_hold(), partial(self.path.when_up, go_on))
            case _:
                assert_never(fate)

    def _miss(self, operation: Operation, call: Callable[[], Awaitable[T]], reply: asyncio.Future[T]) -> None:
        """The far side is away: the call fails, or, for a client, waits until it is back."""
        if self.fates.is_sound:
            self.path.when_up(partial(self._arrive, operation, call, reply))
        else:
            self._fail(operation, reply, is_outcome_unknown=self.fates.draw_doubt())

    def _succeed(self, operation: Operation, call: Callable[[], Awaitable[T]], reply: asyncio.Future[T]) -> None:
        # An observer may cut the server off at this instant: then the reply is lost.
        cuts = self.path.cuts
        result, error = self.act(operation, call)
        if error is None:
            self._send_back(operation, reply, result, cuts)
        else:
            run_far(self.fates.draw_way_back(operation.verb), partial(_set_error, reply, error))

    def _send_back(self, operation: Operation, reply: asyncio.Future[T], result: Any, cuts: int) -> None:
        arrive = partial(self._come_back, operation, reply, result, cuts)
        run_far(self.fates.draw_way_back(operation.verb), arrive)

    def _come_back(self, operation: Operation, reply: asyncio.Future[T], result: Any, cuts: int) -> None:
        if reply.done():
            # Cancelled meanwhile.
            _abandon(result)
        elif cuts == self.path.cuts:
            reply.set_result(result)
        elif self.fates.is_sound or operation.verb == "receive":
            self.path.when_up(partial(_set_result, reply, result))
        else:
            _abandon(result)
            _set_error(reply, make_error(operation.verb, is_outcome_unknown=True))

    def _fail(self, operation: Operation, reply: asyncio.Future[Any], *, is_outcome_unknown: bool) -> None:
        error = make_error(operation.verb, is_outcome_unknown=is_outcome_unknown)
        run_far(self.fates.draw_timeout(), partial(_set_error, reply, error))


def _abandon(result: object) -> None:
    """End what nobody has: a consumer whose `subscribe` has failed."""
    if isinstance(result, Session):
        result.end()


def _set_error(reply: asyncio.Future[Any], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)


def _set_result(reply: asyncio.Future[T], result: T) -> None:
    if not reply.done():
        reply.set_result(result)
