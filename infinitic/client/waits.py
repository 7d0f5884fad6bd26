"""Waiting for methods to end: one request for a method, however many wait for it, and none when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from infinitic import topics
from infinitic.clock import Clock
from infinitic.engines.workflow.render import Outgoing
from infinitic.errors import TransportError
from infinitic.messages import engine
from infinitic.messages.client import ReplyTo, Response
from infinitic.runtime.publisher import Publisher
from infinitic.transport import Message

GRACE_SECONDS = 10.0
"""How long a request outlives the last who waited: whoever polls goes on with it."""
CLOSE_SECONDS = 1.0
"""How long closing may take to tell the engines that nobody waits any more."""


class Wait:
    """One request for the outcome of one method. `kept`: it is told only once, so the request stays until it comes."""

    __slots__ = ("future", "kept", "method_id", "name", "reply_to", "sending", "timer", "waiting", "workflow_id")

    def __init__(
        self,
        name: str,
        workflow_id: str,
        method_id: str,
        reply_to: ReplyTo,
        future: asyncio.Future[Response],
        *,
        kept: bool,
    ) -> None:
        self.name = name
        self.workflow_id = workflow_id
        self.method_id = method_id
        self.reply_to = reply_to
        self.future = future
        self.kept = kept
        self.waiting = 0
        self.timer: asyncio.TimerHandle | None = None
        self.sending: asyncio.Task[None] | None = None


class Waits:
    """The methods whose end a client waits for.

    Args:
        request: makes a request about an instance: whom to answer, and the future of the response.
        forget: takes a request back.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Clock,
        request: Callable[[str], tuple[ReplyTo, asyncio.Future[Response]]],
        forget: Callable[[str], object],
    ) -> None:
        self._publisher = publisher
        self._clock = clock
        self._request = request
        self._forget = forget
        self._open: dict[tuple[str, str, str], Wait] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, name: str, workflow_id: str, method_id: str, *, kept: bool = False) -> Wait:
        """A request that goes with the start of its method: the caller sends it."""
        reply_to, future = self._request(workflow_id)
        wait = Wait(name, workflow_id, method_id, reply_to, future, kept=kept)
        key = (name, workflow_id, method_id)
        self._open[key] = wait
        future.add_done_callback(lambda _: self._drop(wait))
        return wait

    def give_up(self, wait: Wait) -> None:
        """Its request was never sent."""
        self._drop(wait)
        self._forget(wait.reply_to.request)

    async def join(self, name: str, workflow_id: str, method_id: str) -> Wait:
        """The request for this method that is under way; a new one if there is none. Raises what sending it raises."""
        wait = self._open.get((name, workflow_id, method_id))
        if wait is None:
            wait = self.begin(name, workflow_id, method_id)
            # Others may join meanwhile: who asked first may leave without them.
            wait.sending = self._send(wait, stop=False)
            wait.sending.add_done_callback(partial(self._sent, wait))
        sending = wait.sending
        if sending is not None and not sending.done():
            wait.waiting += 1
            either: set[asyncio.Future[Any]] = {sending, wait.future}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._let_go(wait)
        if sending is not None and sending.done() and not sending.cancelled():
            sending.result()
        return wait

    def _send(self, wait: Wait, *, stop: bool) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._publisher.publish([self._message(wait, stop=stop)]))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _sent(self, wait: Wait, sending: asyncio.Task[None]) -> None:
        if not sending.cancelled() and sending.exception() is not None:
            self.give_up(wait)

    async def outcome(self, wait: Wait, timeout: float | None) -> Response:
        """The response. Raises `TimeoutError` after `timeout` seconds; others wait on."""
        wait.waiting += 1
        if wait.timer is not None:
            wait.timer.cancel()
            wait.timer = None
        try:
            if timeout is None:
                return await asyncio.shield(wait.future)
            async with asyncio.timeout(timeout):
                return await asyncio.shield(wait.future)
        finally:
            self._let_go(wait)

    def _let_go(self, wait: Wait) -> None:
        """One waits less. Without any, the request goes after a while."""
        wait.waiting -= 1
        if not (wait.waiting or wait.kept or wait.future.done() or wait.timer is not None):
            loop = asyncio.get_running_loop()
            call_at = getattr(loop, "call_background", loop.call_at)  # virtual time does not wait for it
            wait.timer = call_at(loop.time() + GRACE_SECONDS, self._leave, wait)

    def _leave(self, wait: Wait) -> None:
        """Nobody has asked for a while: tell the engine."""
        if wait.waiting or wait.future.done() or self._open.get(_key(wait)) is not wait:
            return
        self.give_up(wait)
        self._send(wait, stop=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who waits learns it; a waiter too many stays until its method ends, and harms nobody

    async def stop(self) -> None:
        """Tell the engines that this client waits for nothing any more, if that can be done within a second."""
        waits = list(self._open.values())
        for wait in waits:
            if wait.timer is not None:
                wait.timer.cancel()
        self._open.clear()
        with suppress(TimeoutError, TransportError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._tasks:
                    await asyncio.wait(self._tasks)
                if waits:
                    await self._publisher.publish([self._message(wait, stop=True) for wait in waits])
        for task in list(self._tasks):
            task.cancel()

    def _drop(self, wait: Wait) -> None:
        if wait.timer is not None:
            wait.timer.cancel()
            wait.timer = None
        if self._open.get(_key(wait)) is wait:
            del self._open[_key(wait)]

    def _message(self, wait: Wait, *, stop: bool) -> Outgoing:
        body = engine.encode(
            engine.Wait(
                made_at=self._clock.now(),
                reply_to=wait.reply_to,
                method_id=None if wait.method_id == wait.workflow_id else wait.method_id,
                single=True,
                stop=stop,
            )
        )
        return Outgoing(topics.workflow_engine(wait.name), Message(wait.workflow_id, wait.workflow_id, body))


def _key(wait: Wait) -> tuple[str, str, str]:
    return wait.name, wait.workflow_id, wait.method_id
