"""Waits for methods to end.

There is one request for a method, however many wait for it, and none when nobody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType

from infinitic import topics
from infinitic.clock import Clock
from infinitic.errors import TransportError
from infinitic.messages import engine
from infinitic.messages.client import MethodFailed, ReplyTo, Response
from infinitic.runtime.publisher import Publisher
from infinitic.transport import Message, Outgoing

GRACE_SECONDS = 10.0
"""How long a request outlives the last who waited: whoever polls goes on with it."""
LONGEST_SECONDS = 60.0
"""How long it waits at most before it asks again, if too many wait for a method."""
CLOSE_SECONDS = 1.0
"""How long closing may take to tell the engines that nobody waits any more."""

Key = tuple[str, str, str]
"""A method that somebody waits for: name of the workflow, id of the instance, id of the method."""


class Request:
    """What this client has asked of an instance, and those here who wait for the answer.

    Each of them waits on a future of its own: one that is cancelled disturbs nobody else. One
    future for all behind `asyncio.shield` would do the same, but with three more callbacks a call.
    """

    __slots__ = ("_error", "_response", "_traceback", "_waiters", "is_settled", "workflow_id")

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        self.is_settled = False
        self._response: Response | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._waiters: dict[asyncio.Future[None], None] = {}

    @property
    def has_failed(self) -> bool:
        """True if no answer comes: whoever still wants one has to ask again."""
        return self._error is not None

    @property
    def may_change(self) -> bool:
        """True if the answer tells of a failure: an operator may have re-opened the instance."""
        return isinstance(self._response, MethodFailed)

    def settle(self, response: Response) -> None:
        """The answer has come. A second one changes nothing."""
        if not self.is_settled:
            self._response = response
            self._wake()

    def fail(self, error: BaseException) -> None:
        """No answer comes, for this reason: it is raised to all who wait, now or later."""
        if not self.is_settled:
            self._error, self._traceback = error, error.__traceback__
            self._wake()

    async def answer(self) -> Response:
        """The answer, once it is there."""
        if not self.is_settled:
            waiter = self.add_waiter()
            try:
                await waiter
            finally:
                self.remove_waiter(waiter)
        if self._error is not None:
            # Each raise adds to the traceback: so that it stays short, however many wait.
            raise self._error.with_traceback(self._traceback)
        assert self._response is not None
        return self._response

    def add_waiter(self) -> asyncio.Future[None]:
        """A future that is done once this is settled."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        return waiter

    def remove_waiter(self, waiter: asyncio.Future[None]) -> None:
        """Whoever has that future waits no more."""
        self._waiters.pop(waiter, None)

    def _wake(self) -> None:
        self.is_settled = True
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class MethodWait(Request):
    """One request for the outcome of one method.

    Args:
        key: the method.
        waits: all requests of the client.
        kept: the outcome is told only once, so the request stays until it comes.
    """

    __slots__ = ("_waits", "asking", "kept", "key", "reply_to", "sending", "timer", "waiting")

    reply_to: ReplyTo

    def __init__(self, key: Key, waits: Waits, *, kept: bool) -> None:
        super().__init__(key[1])
        self._waits = waits
        self.key = key
        self.kept = kept
        self.waiting = 0
        self.timer: asyncio.TimerHandle | None = None
        self.asking: asyncio.TimerHandle | None = None
        self.sending: asyncio.Task[None] | None = None

    def defer(self, seconds: float) -> None:
        """Too many wait for the method: ask again after so many seconds."""
        self._waits.ask_later(self, seconds)

    def _wake(self) -> None:
        self._waits.drop(self)
        super()._wake()


class Waits:
    """The methods whose end a client waits for.

    Args:
        publisher: sends the requests.
        clock: the time that goes into messages.
        register: has the answer to a request given to it: whom to answer.
        forget: takes a request back, by its name.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Clock,
        register: Callable[[Request], ReplyTo],
        forget: Callable[[str], object],
    ) -> None:
        self._publisher = publisher
        self._clock = clock
        self._register = register
        self._forget = forget
        self._open: dict[Key, MethodWait] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, name: str, workflow_id: str, method_id: str, *, kept: bool = False) -> MethodWait:
        """Make a request that goes with the start of its method. The caller sends it.

        Args:
            name: the workflow.
            workflow_id: the instance.
            method_id: the method.
            kept: the outcome is told only once, so the request stays until it comes.
        """
        key = (name, workflow_id, method_id)
        wait = MethodWait(key, self, kept=kept)
        wait.reply_to = self._register(wait)
        self._open[key] = wait
        return wait

    def give_up(self, wait: MethodWait) -> None:
        """Forget a request that was never sent."""
        self.drop(wait)
        self._forget(wait.reply_to.request)

    async def join(self, name: str, workflow_id: str, method_id: str) -> MethodWait:
        """Return the request for this method that is under way. Send a new one if there is none.

        Raises whatever sending it raises.
        """
        wait = self._open.get((name, workflow_id, method_id))
        if wait is None:
            wait = self.begin(name, workflow_id, method_id)
            # Others may join meanwhile: who asked first may leave without them.
            wait.sending = self._send(wait, stop=False)
            wait.sending.add_done_callback(partial(self._sent, wait))
        sending = wait.sending
        if sending is not None and not sending.done():
            wait.waiting += 1
            settled = wait.add_waiter()
            either: set[asyncio.Future[None]] = {sending, settled}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                wait.remove_waiter(settled)
                self._let_go(wait)
        if sending is not None and sending.done() and not sending.cancelled():
            sending.result()
        return wait

    def _send(self, wait: MethodWait, *, stop: bool) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._publisher.publish([self._message(wait, stop=stop)]))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _sent(self, wait: MethodWait, sending: asyncio.Task[None]) -> None:
        if not sending.cancelled() and sending.exception() is not None:
            self.give_up(wait)

    def ask_later(self, wait: MethodWait, seconds: float) -> None:
        """Send a request once more after some seconds, as the engine has asked."""
        if self._open.get(wait.key) is wait:
            wait.reply_to = self._register(wait)
            loop = asyncio.get_running_loop()
            wait.asking = loop.call_later(min(seconds, LONGEST_SECONDS), self._ask_again, wait)

    def _ask_again(self, wait: MethodWait) -> None:
        wait.asking = None
        self._send(wait, stop=False).add_done_callback(partial(self._asked_again, wait))

    def _asked_again(self, wait: MethodWait, sending: asyncio.Task[None]) -> None:
        error = None if sending.cancelled() else sending.exception()
        if error is not None:
            self._forget(wait.reply_to.request)
            wait.fail(error)

    async def outcome(self, wait: MethodWait, timeout: float | None) -> Response:
        """Wait for the response to a request.

        Args:
            wait: the request.
            timeout: seconds to wait; None: without end.

        Raises:
            TimeoutError: there is no response in time. Others go on waiting.
        """
        wait.waiting += 1
        if wait.timer is not None:
            wait.timer.cancel()
            wait.timer = None
        try:
            if timeout is None:
                return await wait.answer()
            async with asyncio.timeout(timeout):
                return await wait.answer()
        finally:
            self._let_go(wait)

    def _let_go(self, wait: MethodWait) -> None:
        """One waiter less. If nobody waits for a request any more, it is soon taken back."""
        wait.waiting -= 1
        if not (wait.waiting or wait.kept or wait.is_settled or wait.timer is not None):
            loop = asyncio.get_running_loop()
            # Virtual time does not wait for it.
            call_at = getattr(loop, "call_background", loop.call_at)
            wait.timer = call_at(loop.time() + GRACE_SECONDS, self._leave, wait)

    def _leave(self, wait: MethodWait) -> None:
        """Nobody has waited for a while: tell the engine that this client waits no more."""
        if wait.waiting or wait.is_settled or self._open.get(wait.key) is not wait:
            return
        self.give_up(wait)
        self._send(wait, stop=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever waits has been told. A request that could not be taken back stays until its
            # method ends, and does no harm.
            task.exception()

    async def stop(self) -> None:
        """Tell the engines that this client waits for nothing any more.

        It is given up after `CLOSE_SECONDS`.
        """
        waits = list(self._open.values())
        for wait in waits:
            self.drop(wait)
        with suppress(TimeoutError, TransportError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._tasks:
                    await asyncio.wait(self._tasks)
                if waits:
                    await self._publisher.publish([self._message(wait, stop=True) for wait in waits])
        for task in list(self._tasks):
            task.cancel()

    def drop(self, wait: MethodWait) -> None:
        """Keep a request no longer: it is settled, or nobody waits for it."""
        if wait.timer is not None:
            wait.timer.cancel()
            wait.timer = None
        if wait.asking is not None:
            wait.asking.cancel()
            wait.asking = None
        if self._open.get(wait.key) is wait:
            del self._open[wait.key]

    def _message(self, wait: MethodWait, *, stop: bool) -> Outgoing:
        name, workflow_id, method_id = wait.key
        body = engine.encode(
            engine.Wait(
                made_at=self._clock.now(),
                reply_to=wait.reply_to,
                method_id=None if method_id == workflow_id else method_id,
                single=True,
                stop=stop,
            )
        )
        return Outgoing(topics.workflow_engine(name), Message(workflow_id, workflow_id, body))
