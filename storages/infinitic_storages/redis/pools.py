"""Makes the pools of the driver from our settings. Imports the driver."""

from __future__ import annotations

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

from infinitic_storages.redis.settings import Address, RedisSettings


def _drop_types(driver: Any) -> Any:
    """A class of the driver whose annotations are missing or wrong, without its types."""
    return driver


def _make_options(settings: RedisSettings) -> dict[str, Any]:
    return {
        "socket_timeout": None,  # the deadline of a call is ours
        "socket_connect_timeout": settings.connect_timeout_seconds,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
    }


def _make_tls_options(settings: RedisSettings) -> dict[str, Any]:
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


def make_pool(settings: RedisSettings, address: Address) -> Any:
    options: dict[str, Any] = _make_options(settings) | {
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
            options |= _make_tls_options(settings)
    return _drop_types(ConnectionPool)(connection_class=connection, max_connections=settings.pool_size, **options)


def make_sentinel_pool(settings: RedisSettings, address: Address) -> tuple[Any, Any]:
    chosen = settings.sentinel
    assert chosen is not None
    tls = _make_tls_options(settings) if address.tls else {}
    password = None if chosen.password is None else chosen.password.get_secret_value()
    sentinel_options = _make_options(settings) | {"username": chosen.username, "password": password, **tls}
    sentinel_options |= {"socket_timeout": settings.connect_timeout_seconds, "ssl": address.tls}
    sentinel_class: Any = Sentinel  # its types are partly missing
    pool_class: Any = SentinelConnectionPool
    sentinel: Sentinel = sentinel_class(
        [(each.host, each.port) for each in chosen.hosts], sentinel_kwargs=sentinel_options
    )
    options = _make_options(settings) | {
        "username": address.username,
        "password": address.password,
        "db": address.database,
    }
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
