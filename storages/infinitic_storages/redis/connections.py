"""Connections to one server, and batches of commands on them. Imports the driver.

A batch goes on one connection in one write, and its replies are read in order. Nothing is sent twice behind the
caller's back: whether a lost commit is repeated is not ours to decide.
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
from infinitic_storages.hosts import unknown_host
from infinitic_storages.redis.errors import ELSEWHERE, REPLIES, translate, untouched
from infinitic_storages.redis.pools import pool, sentinel_pool
from infinitic_storages.redis.settings import RedisSettings

WRITTEN = 0
"""What a writing script answers when it has written; anything else that it answers says that it has not."""

Argument = str | bytes
Command = tuple[Argument, ...]


class Script:
    """A Lua script, called by its digest and loaded when the server does not have it."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def command(self, *arguments: Argument) -> Command:
        return ("EVALSHA", self.digest, "0", *arguments)


class Connections:
    """A bounded pool. Who waits for a connection is served in order, within the deadline of its call."""

    def __init__(self, settings: RedisSettings) -> None:
        address = settings.address
        self._deadline = settings.deadline_seconds
        self._patience = settings.connect_timeout_seconds
        self._size = settings.pool_size
        self._slots = asyncio.Semaphore(settings.pool_size)
        self._sentinel: Any = None
        self._closed = False
        self._proven = False  # it has connected: a name that leads nowhere now is an outage, not a mistake
        if settings.sentinel is None:
            self.where = str(address)
            self._pool: Any = pool(settings, address)
        else:
            hosts = ", ".join(f"{each.host}:{each.port}" for each in settings.sentinel.hosts)
            self.where = f"master '{settings.sentinel.master}' of the Sentinels {hosts}"
            self._sentinel, self._pool = sentinel_pool(settings, address)

    def check(self) -> None:
        if self._closed:
            raise StorageClosed("This storage is closed")

    async def run(self, commands: Sequence[Command], *, writing: bool = False) -> list[Any]:
        """The replies, error replies among them as exceptions.

        Raises `StorageUnavailable`, `StorageConfigurationError`; `StorageOutcomeUnknown` if `writing`.
        """
        self.check()
        sent = False
        try:
            async with asyncio.timeout(self._deadline), self._slots:
                self.check()
                connection = await self._pool.get_connection()
                self._proven = True
                try:
                    packed = connection.pack_commands(commands)
                    sent = writing
                    await connection.send_packed_command(packed, check_health=False)
                    replies = [await _read(connection) for _ in commands]
                    if any(isinstance(reply, ELSEWHERE) for reply in replies):
                        await connection.disconnect(nowait=True)  # the name may lead to the new master by now
                    if not writing:
                        _raise_for_connection(replies)
                    return replies
                except BaseException:
                    await connection.disconnect(nowait=True)  # replies on their way would go to the next caller
                    raise
                finally:
                    await self._pool.release(connection)
        except TimeoutError as error:
            text = TimeoutError(f"no answer within {self._deadline:g} seconds")
            raise translate(text, self.where, sent=sent) from error
        except (RedisError, OSError) as error:
            if not self._proven and unknown_host(str(error)):
                told = f"Redis at {self.where} cannot be reached: {error}: there is no such host; correct its name"
                raise StorageConfigurationError(told) from error
            raise translate(error, self.where, sent=sent) from error

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to what only reads. Raises for error replies as well."""
        replies = await self.run(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise translate(reply, self.where) from reply
        return replies

    async def call(self, script: Script, calls: Sequence[tuple[Argument, ...]], *, writing: bool = False) -> list[Any]:
        """One reply for each call of the script. Raises for error replies as well."""
        return await self.evaluate([(script, arguments) for arguments in calls], writing=writing)

    async def evaluate(
        self, calls: Sequence[tuple[Script, tuple[Argument, ...]]], *, writing: bool = False
    ) -> list[Any]:
        """One reply for each call, in one round trip. Scripts that the server lost cost a second one."""
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
        """A batch is not written only if no reply says so, and none leaves it open."""
        torn = next((reply for reply in replies if _may_be_written(reply)), None)
        if torn is not None:
            refused = translate(torn, self.where)
            raise StorageOutcomeUnknown(f"A change failed midway, and may be written in part: {refused}") from torn
        errors = [reply for reply in replies if isinstance(reply, REPLIES)]
        if errors and any(reply == WRITTEN for reply in replies):
            refused = translate(errors[0], self.where)
            raise StorageOutcomeUnknown(f"A part of a commit was written, another was not: {refused}") from errors[0]

    async def close(self) -> None:
        """Calls under way may end, for as long as a connection may take; those that wait are told."""
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
            with contextlib.suppress(RedisError, OSError):  # the server is gone: so are its connections
                await self._pool.disconnect(inuse_connections=True)
            if self._sentinel is not None:
                with contextlib.suppress(RedisError, OSError):
                    await self._sentinel.aclose()


async def _read(connection: Any) -> Any:
    """One reply. The class of a Sentinel's connection would make a lost one of READONLY: its parent's is called."""
    parent: Any = AbstractConnection  # untyped
    try:
        return await parent.read_response(connection, disconnect_on_error=False)
    except REPLIES as error:
        return error


def _raise_for_connection(replies: Sequence[Any]) -> None:
    """What refuses the connection is no matter of one reply, where nothing can have been written."""
    for reply in replies:
        if isinstance(reply, DriverConnectionError):
            raise reply


def _may_be_written(reply: Any) -> bool:
    return isinstance(reply, REPLIES) and not untouched(reply)
