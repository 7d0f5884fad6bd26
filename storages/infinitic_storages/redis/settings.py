"""The settings of the Redis storage. Importable without the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, Field, SecretStr, model_validator

from infinitic.plugins import Settings

Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Address(NamedTuple):
    """Where the server is, and with which credentials to connect to it."""

    host: str
    port: int
    unix_socket: str | None
    username: str | None
    password: str | None
    database: int
    tls: bool

    def __str__(self) -> str:
        return self.unix_socket or f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        """Without the password."""
        return f"Address({self}, username={self.username!r}, database={self.database}, tls={self.tls})"


class RedisTls(Settings):
    """TLS to the server, and to the Sentinels."""

    ca: Path | None = Field(
        default=None, description="File with the certificates of trusted authorities; default is the system's"
    )
    cert: Path | None = Field(default=None, description="File with the certificate of the client")
    key: Path | None = Field(default=None, description="File with the private key of the client")
    validate_hostname: bool = Field(default=True, description="Whether the certificate has to be for the host")
    allow_insecure: bool = Field(default=False, description="Whether any certificate is accepted. Never in production")


class SentinelHost(Settings):
    """One Sentinel."""

    host: str = Field(min_length=1, description="Host name or address of the Sentinel")
    port: Port = Field(default=26379, description="Port of the Sentinel")


class Sentinel(Settings):
    """Sentinels that know which server is the master."""

    master: str = Field(min_length=1, description="Name of the master, as the Sentinels know it")
    hosts: tuple[SentinelHost, ...] = Field(min_length=1, description="The Sentinels")
    username: str | None = Field(default=None, description="User at the Sentinels")
    password: SecretStr | None = Field(default=None, description="Password at the Sentinels")


class RedisSettings(Settings):
    """Redis 6.2 or newer, or what speaks like it; not Redis Cluster."""

    model_config = ConfigDict(hide_input_in_errors=True)  # a URL that is wrong may hold a password

    url: SecretStr | None = Field(
        default=None,
        description="redis://user:password@host:port/database, rediss:// for TLS, or unix:///path; replaces the rest",
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="Host name or address of the server")
    port: Port = Field(default=6379, description="Port of the server")
    username: str | None = Field(default=None, description="User that connects; default is the user `default` of Redis")
    password: SecretStr | None = Field(default=None, description="Password of the user")
    database: int = Field(default=0, ge=0, description="Number of the database")
    tls: RedisTls | None = Field(default=None, description="TLS. Without it: none, unless the URL is rediss://")
    sentinel: Sentinel | None = Field(default=None, description="Sentinels, instead of host and port")
    key_prefix: str = Field(
        default="infinitic",
        pattern=r"^[A-Za-z0-9_.:{}-]{1,100}$",
        description="What every key begins with. Deployments that share a database have one each",
    )
    pool_size: int = Field(
        default=4, ge=1, le=1000, description="Connections. Calls that wait for one are served in order"
    )
    connect_timeout_seconds: Seconds = Field(default=5.0, description="Seconds that opening a connection may take")
    deadline_seconds: Seconds = Field(
        default=30.0, description="Seconds that a call may take, its wait for a connection included"
    )
    max_value: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="Bytes of one head, events or outbox, at most; below `proto-max-bulk-len` of the server",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.url is not None:
            beside = {"host", "port", "username", "password", "database", "sentinel"} & self.model_fields_set
            if beside:
                raise ValueError(f"give either url or {', '.join(sorted(beside))}")
            _parse(self.url.get_secret_value())
        if self.sentinel is not None and {"host", "port"} & self.model_fields_set:
            raise ValueError("give either sentinel or host and port")
        return self

    @property
    def address(self) -> Address:
        """Where the server is and who connects."""
        if self.url is not None:
            parsed = _parse(self.url.get_secret_value())
            return parsed._replace(tls=parsed.tls or self.tls is not None)
        password = None if self.password is None else self.password.get_secret_value()
        return Address(self.host, self.port, None, self.username, password, self.database, self.tls is not None)


def _parse(url: str) -> Address:
    """Parse a URL.

    Raises:
        ValueError: it cannot be parsed. The text does not repeat the URL, which may hold a
            password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise ValueError("the url cannot be parsed; is the port a number?") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("the url has to begin with redis://, rediss:// or unix://")
    if parts.query or parts.fragment:
        raise ValueError("the url may not have ?… or #…: options have settings of their own")
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if parts.scheme == "unix":
        return Address("", 0, unquote(parts.path), username, password, 0, False)
    path = parts.path.strip("/")
    if path and not (path.isascii() and path.isdigit()):
        raise ValueError("the path of the url has to be the number of the database")
    return Address(
        parts.hostname or "127.0.0.1", port, None, username, password, int(path or 0), parts.scheme[5:] == "s"
    )
