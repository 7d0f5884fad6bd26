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

from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from infinitic.storage import StorageClosed, StorageOutcomeUnknown, StorageUnavailable
from infinitic_storages.redis.errors import translate
from infinitic_storages.redis.settings import Address, RedisSettings

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
        if settings.sentinel is None:
            self.where = str(address)
            self._pool: Any = _pool(settings, address)
        else:
            hosts = ", ".join(f"{each.host}:{each.port}" for each in settings.sentinel.hosts)
            self.where = f"master '{settings.sentinel.master}' of the Sentinels {hosts}"
            self._sentinel, self._pool = _sentinel_pool(settings, address)

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
                try:
                    packed = connection.pack_commands(commands)
                    sent = writing
                    await connection.send_packed_command(packed, check_health=False)
                    replies = [await _read(connection) for _ in commands]
                    if any(isinstance(reply, ReadOnlyError) for reply in replies):
                        await connection.disconnect(nowait=True)  # the name may lead to the new master by now
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
            load: list[Command] = [("SCRIPT", "LOAD", text) for text in {calls[index][0].text for index in missing}]
            again = [calls[index][0].command(*calls[index][1]) for index in missing]
            try:
                second = await self.run([*load, *again], writing=writing)
            except StorageUnavailable as error:
                if writing and len(missing) < len(calls):
                    raise StorageOutcomeUnknown(f"Only a part of a commit was answered: {error}") from error
                raise
            for reply in second[: len(load)]:
                if isinstance(reply, ResponseError):
                    raise translate(reply, self.where) from reply
            for index, reply in zip(missing, second[len(load) :], strict=True):
                replies[index] = reply
        errors = [reply for reply in replies if isinstance(reply, ResponseError)]
        if not errors:
            return replies
        refused = translate(errors[0], self.where)
        if writing and len(errors) < len(replies):
            raise StorageOutcomeUnknown(f"A part of a commit was written, another was not: {refused}") from errors[0]
        raise refused from errors[0]

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
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _untyped(driver: Any) -> Any:
    """The driver's classes, whose annotations are too few or wrong."""
    return driver


def _common(settings: RedisSettings) -> dict[str, Any]:
    return {
        "socket_timeout": None,  # the deadline of a call is ours
        "socket_connect_timeout": settings.connect_timeout_seconds,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
    }


def _tls(settings: RedisSettings) -> dict[str, Any]:
    tls = settings.tls
    if tls is None:
        return {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return {
        "ssl_ca_certs": None if tls.ca is None else str(tls.ca),
        "ssl_certfile": None if tls.cert is None else str(tls.cert),
        "ssl_keyfile": None if tls.key is None else str(tls.key),
        "ssl_cert_reqs": "none" if tls.allow_insecure else "required",
        "ssl_check_hostname": tls.validate_hostname and not tls.allow_insecure,
    }


def _pool(settings: RedisSettings, address: Address) -> Any:
    options: dict[str, Any] = _common(settings) | {
        "username": address.username,
        "password": address.password,
        "db": address.database,
    }
    connection: type[Any] = Connection
    if address.unix_socket is not None:
        connection = UnixDomainSocketConnection
        del options["socket_keepalive"]
        options["path"] = address.unix_socket
    else:
        options |= {"host": address.host, "port": address.port}
        if address.tls:
            connection = SSLConnection
            options |= _tls(settings)
    return _untyped(ConnectionPool)(connection_class=connection, max_connections=settings.pool_size, **options)


def _sentinel_pool(settings: RedisSettings, address: Address) -> tuple[Any, Any]:
    chosen = settings.sentinel
    assert chosen is not None
    tls = _tls(settings) if address.tls else {}
    password = None if chosen.password is None else chosen.password.get_secret_value()
    sentinel_options = _common(settings) | {"username": chosen.username, "password": password, **tls}
    sentinel_options |= {"socket_timeout": settings.connect_timeout_seconds, "ssl": address.tls}
    sentinel_class: Any = Sentinel  # its types are partly missing
    pool_class: Any = SentinelConnectionPool
    sentinel: Sentinel = sentinel_class(
        [(each.host, each.port) for each in chosen.hosts], sentinel_kwargs=sentinel_options
    )
    options = _common(settings) | {"username": address.username, "password": address.password, "db": address.database}
    pool: ConnectionPool = pool_class(
        chosen.master,
        sentinel,
        connection_class=SentinelManagedSSLConnection if address.tls else SentinelManagedConnection,
        max_connections=settings.pool_size,
        check_connection=True,
        **options,
        **tls,
    )
    return sentinel, pool
