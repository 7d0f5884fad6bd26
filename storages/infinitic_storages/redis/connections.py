"""Connections to one server, and batches of commands on them. Imports the driver.

A batch is sent on one connection in one write, and its replies are read in order. Nothing is sent
again without the caller: whether a lost commit is repeated is not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as DriverConnectionError, NoScriptError, RedisError, ResponseError

from infinitic.errors import StorageError
from infinitic.storage import StorageClosed, StorageConfigurationError, StorageOutcomeUnknown
from infinitic_storages.hosts import is_unknown_host
from infinitic_storages.redis.errors import ELSEWHERE, REPLIES, is_untouched, translate
from infinitic_storages.redis.pools import make_pool, make_sentinel_pool
from infinitic_storages.redis.settings import RedisSettings

WRITTEN = 0
"""The answer of a writing script that has written. Any other answer says that it has not."""

Argument = str | bytes
Command = tuple[Argument, ...]


class Script:
    """A Lua script. It is called by its digest, and loaded when the server does not have it.

    Args:
        text: the script.
    """

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def command(self, *arguments: Argument) -> Command:
        return ("EVALSHA", self.digest, "0", *arguments)


class Connections:
    """A bounded pool of connections. Callers that wait for one are served in order.

    A call may take as long as its deadline, which includes the wait.

    Args:
        settings: where the server is.
    """

    def __init__(self, settings: RedisSettings) -> None:
        address = settings.address
        self._deadline = settings.deadline_seconds
        self._patience = settings.connect_timeout_seconds
        self._size = settings.pool_size
        self._slots = asyncio.Semaphore(settings.pool_size)
        self._sentinel: Any = None
        self._closed = False
        # Once it has connected, the name of the host is right: later failures are outages.
        self._proven = False
        if settings.sentinel is None:
            self.where = str(address)
            self._pool: Any = make_pool(settings, address)
        else:
            hosts = ", ".join(f"{each.host}:{each.port}" for each in settings.sentinel.hosts)
            self.where = f"master '{settings.sentinel.master}' of the Sentinels {hosts}"
            self._sentinel, self._pool = make_sentinel_pool(settings, address)

    def check_open(self) -> None:
        if self._closed:
            raise StorageClosed("This storage is closed")

    async def run(self, commands: Sequence[Command], *, writing: bool = False) -> list[Any]:
        """Send commands, and return their replies. Error replies are among them, as exceptions.

        Args:
            commands: what is sent, in one write.
            writing: whether a command may change something.

        Raises:
            StorageUnavailable: the server is away, or no connection was free in time.
            StorageConfigurationError: the server refuses us.
            StorageOutcomeUnknown: the reply to a command that writes was lost.
            StorageClosed: the storage has been closed.
        """
        self.check_open()
        sent = False
        try:
            async with asyncio.timeout(self._deadline), self._slots:
                self.check_open()
                connection = await self._pool.get_connection()
                self._proven = True
                try:
                    packed = connection.pack_commands(commands)
                    sent = writing
                    await connection.send_packed_command(packed, check_health=False)
                    replies = [await _read(connection) for _ in commands]
                    if any(isinstance(reply, ELSEWHERE) for reply in replies):
                        # The name may lead to the new master by now.
                        await connection.disconnect(nowait=True)
                    if not writing:
                        _raise_for_connection(replies)
                    return replies
                except BaseException:
                    # Replies that are still on their way would go to the next caller.
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    await self._pool.release(connection)
        except TimeoutError as error:
            text = TimeoutError(f"no answer within {self._deadline:g} seconds")
            raise translate(text, self.where, sent=sent) from error
        except (RedisError, OSError) as error:
            if not self._proven and is_unknown_host(str(error)):
                told = f"Redis at {self.where} cannot be reached: {error}: there is no such host; correct its name"
                raise StorageConfigurationError(told) from error
            raise translate(error, self.where, sent=sent) from error

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands that only read, and return their replies. Error replies are raised."""
        replies = await self.run(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise translate(reply, self.where) from reply
        return replies

    async def call(self, script: Script, calls: Sequence[tuple[Argument, ...]], *, writing: bool = False) -> list[Any]:
        """Call a script many times, in one round trip. Return one reply for each call.

        Args:
            script: the script.
            calls: its arguments for each call.
            writing: whether it may change something.

        Raises:
            StorageError: a reply is an error, see `evaluate`.
        """
        return await self.evaluate([(script, arguments) for arguments in calls], writing=writing)

    async def evaluate(
        self, calls: Sequence[tuple[Script, tuple[Argument, ...]]], *, writing: bool = False
    ) -> list[Any]:
        """Call scripts in one round trip, and return one reply for each call.

        If the server has lost a script, that costs a second round trip.

        Args:
            calls: scripts with their arguments.
            writing: whether a script may change something.

        Raises:
            StorageOutcomeUnknown: some calls may have been written, and others not.
        """
        replies = await self.run([script.command(*arguments) for script, arguments in calls], writing=writing)
        missing = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            try:
                again = await self._load_and_run([calls[index] for index in missing], writing=writing)
            except StorageError as error:
                if writing and any(reply == WRITTEN or _may_be_written(reply) for reply in replies):
                    raise StorageOutcomeUnknown(f"Only a part of a commit was answered: {error}") from error
                raise
            for index, reply in zip(missing, again, strict=True):
                replies[index] = reply
        if writing:
            self._check_written(replies)
        errors = [reply for reply in replies if isinstance(reply, REPLIES)]
        if errors:
            raise translate(errors[0], self.where) from errors[0]
        return replies

    async def _load_and_run(self, calls: Sequence[tuple[Script, tuple[Argument, ...]]], *, writing: bool) -> list[Any]:
        load: list[Command] = [("SCRIPT", "LOAD", text) for text in {script.text for script, _ in calls}]
        runs = [script.command(*arguments) for script, arguments in calls]
        replies = await self.run([*load, *runs], writing=writing)
        failed: list[RedisError] = [reply for reply in replies[: len(load)] if isinstance(reply, REPLIES)]
        cause: RedisError | None = failed[0] if failed else None  # why a script is missing still
        return [cause if cause and isinstance(reply, NoScriptError) else reply for reply in replies[len(load) :]]

    def _check_written(self, replies: Sequence[Any]) -> None:
        """Check a batch of writing scripts.

        The batch counts as not written only if no reply says that something was written, and none
        leaves that open.
        """
        torn = next((reply for reply in replies if _may_be_written(reply)), None)
        if torn is not None:
            refused = translate(torn, self.where)
            raise StorageOutcomeUnknown(f"A change failed midway, and may be written in part: {refused}") from torn
        errors = [reply for reply in replies if isinstance(reply, REPLIES)]
        if errors and any(reply == WRITTEN for reply in replies):
            refused = translate(errors[0], self.where)
            raise StorageOutcomeUnknown(f"A part of a commit was written, another was not: {refused}") from errors[0]

    async def close(self) -> None:
        """Let running calls end, within the time to open a connection. Waiting calls are told."""
        if self._closed:
            return
        self._closed = True
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    for _ in range(self._size):
                        await self._slots.acquire()
        finally:
            for _ in range(self._size):
                self._slots.release()
            # If the server is gone, so are its connections.
            with contextlib.suppress(RedisError, OSError):
                await self._pool.disconnect(inuse_connections=True)
            if self._sentinel is not None:
                with contextlib.suppress(RedisError, OSError):
                    await self._sentinel.aclose()


async def _read(connection: Any) -> Any:
    """Read one reply.

    The connection class of a Sentinel takes READONLY for a lost connection. So the method of its
    parent is called.
    """
    parent: Any = AbstractConnection  # untyped
    try:
        return await parent.read_response(connection, disconnect_on_error=False)
    except REPLIES as error:
        return error


def _raise_for_connection(replies: Sequence[Any]) -> None:
    """Raise what concerns the connection itself. It is used where nothing can have been written."""
    for reply in replies:
        if isinstance(reply, DriverConnectionError):
            raise reply


def _may_be_written(reply: Any) -> bool:
    return isinstance(reply, REPLIES) and not is_untouched(reply)
