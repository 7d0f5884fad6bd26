"""The heartbeats of one attempt: what it said last, and how long it may be silent.

The task calls `beat`. A call is cheap: what it says travels at most every third of the timeout, by
a *guard* (see `guards`). The attempt is over if no heartbeat has travelled within the timeout. So
an executor that cannot reach the broker stops by itself before another one takes its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from msgspec import Raw
from msgspec.structs import replace

from infinitic.codec.payloads import Coder
from infinitic.codec.values import value_codec
from infinitic.errors import InfiniticError, PayloadError, PayloadUnavailable, UsageError
from infinitic.limits import check_value
from infinitic.messages import service
from infinitic.messages.attempts import NO_HEARTBEAT
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.wakeup import wake

_logger = logging.getLogger("infinitic.executor")

RESERVED = 8 * 1024
"""Bytes of a message that details must leave: for the failure that the next attempt is told."""


class HeartbeatTimedOut(InfiniticError):
    """No heartbeat came in time. The attempt has failed, and may be retried."""


class _Stopped(Protocol):
    def cancel(self) -> None: ...


Send = Callable[[Raw, float], Awaitable[bool]]
"""Publishes a guard: what the task said, and how many seconds ago. False: the broker refused it."""


class Pulse:
    """The heartbeats of one attempt that runs here.

    Args:
        message: what is run.
        seconds: the timeout.
        send: publishes a guard.
        limit: bytes that the broker takes in a message.
        coder: encodes and decodes details, if payloads are compressed or encrypted.
    """

    def __init__(self, message: ExecuteTask, seconds: float, send: Send, limit: int, coder: Coder | None) -> None:
        self._message = message
        self._seconds = seconds
        self._send = send
        self._limit = limit
        self._coder = coder
        self._loop = asyncio.get_running_loop()
        self._room: int | None = None
        # What was said last, as JSON, and in the form that travels. None: not said by this attempt.
        self._said: bytes | None = None
        self._coded = message.last_heartbeat
        self._said_at = self._sent_at = self._loop.time()
        self._deadline = self._sent_at + seconds
        self._has_news = False
        self._is_over = False
        self._wanted: asyncio.Future[None] | None = None
        self._scope: asyncio.Timeout | None = None

    def read_last(self) -> Any:
        """Decode what the attempt before said last; None: it said nothing.

        Raises:
            PayloadUnavailable: the payload codec cannot decode it now.
            DecodingError: it can never be decoded.
        """
        return read_heartbeat(self._message, self._coder)

    def beat(self, details: Any) -> None:
        """Note that the attempt lives, and how far it is. Threads may call it.

        Raises:
            PayloadError: the details cannot be sent.
        """
        what = f"The heartbeat of {self._message.service}.{self._message.task}"
        try:
            data = value_codec(object).encode(details)
        except UsageError as error:
            raise PayloadError(f"{what} cannot be sent: {error}") from error
        if len(data) > 2:
            if self._room is None:
                alone = replace(self._message, last_failure=None, last_heartbeat=NO_HEARTBEAT)
                self._room = max(self._limit - len(service.encode(alone)) - RESERVED, 0)
            # Coded payloads travel as base64.
            check_value(what, data, 0, self._room if self._coder is None else self._room // 2)
        at = self._loop.time()
        if _is_running(self._loop):
            self._note(data, at)
            return
        try:
            self._loop.call_soon_threadsafe(self._note, data, at)
        except RuntimeError:
            # The loop is closed: the worker is gone.
            return

    def renew(self, message: ExecuteTask) -> ExecuteTask:
        """Put what was said last into the message of an attempt, for the one that follows."""
        self._encode_news()
        return replace(message, last_heartbeat=self._coded)

    @asynccontextmanager
    async def limit(self, current: _Stopped) -> AsyncGenerator[None]:
        """Cancel the block if no heartbeat travels in time.

        Args:
            current: told to stop then.

        Raises:
            HeartbeatTimedOut: no heartbeat came in time.
        """
        now = self._loop.time()
        self._said_at = self._sent_at = now
        self._deadline = now + self._seconds
        self._scope = scope = asyncio.timeout_at(self._deadline)
        sender = self._loop.create_task(self._send_news())
        try:
            async with scope:
                try:
                    yield
                except asyncio.CancelledError:
                    current.cancel()
                    raise
        except TimeoutError:
            # It may be one that the task itself raised.
            if not scope.expired():
                raise
            raise HeartbeatTimedOut(f"No heartbeat came for {self._seconds:g} s") from None
        finally:
            self._is_over = True
            self._scope = None
            sender.cancel()

    def _note(self, data: bytes, at: float) -> None:
        if self._is_over:
            return
        self._said = data
        # One that comes too late is no sign of life: another executor may run the task by now.
        if at <= self._deadline:
            self._said_at, self._has_news = at, True
            wake(self._wanted)

    def _encode_news(self) -> None:
        """Bring what was said last into the form that travels."""
        if self._said is None:
            return
        try:
            self._coded = Raw(self._said if self._coder is None else self._coder.encode(self._said))
            self._said = None
        except (PayloadError, PayloadUnavailable) as error:
            self._note_left_out(error)

    async def _encode_outside(self) -> None:
        """Do the same as `_encode_news`. A codec that takes long holds up nobody."""
        said, coder = self._said, self._coder
        if said is None or coder is None:
            self._encode_news()
            return
        try:
            self._coded = Raw(await coder.encode_outside(said))
        except (PayloadError, PayloadUnavailable) as error:
            self._note_left_out(error)
        else:
            if self._said is said:
                self._said = None

    def _note_left_out(self, error: Exception) -> None:
        _logger.warning("A heartbeat of %s.%s is left out: %s", self._message.service, self._message.task, error)

    async def _send_news(self) -> None:
        while True:
            while not self._has_news:
                self._wanted = self._loop.create_future()
                await self._wanted
            pause = self._sent_at + self._seconds / 3 - self._loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            self._has_news = False
            said_at, self._sent_at = self._said_at, self._loop.time()
            await self._encode_outside()
            if not await self._send(self._coded, self._loop.time() - said_at):
                self._has_news = True
            elif self._scope is not None and not self._scope.expired():
                self._deadline = said_at + self._seconds
                self._scope.reschedule(self._deadline)


def read_heartbeat(message: ExecuteTask, coder: Coder | None) -> Any:
    """Decode what the attempt before said last; None: it said nothing.

    Args:
        message: the message of the attempt that asks.
        coder: decodes it, if payloads are compressed or encrypted.
    """
    data = bytes(message.last_heartbeat)
    if not data:
        return None
    return value_codec(object).decode(data if coder is None else coder.decode(data))


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
