"""The settings of the SQL storages. Importable without any driver."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from infinitic.plugins import Settings

Seconds = Annotated[float, Field(gt=0)]


class SslMode(StrEnum):
    """How much of TLS is required."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class Synchronous(StrEnum):
    """When SQLite waits for the disk."""

    FULL = "full"
    NORMAL = "normal"


class _SqlSettings(Settings):
    pool_size: int = Field(
        default=4,
        ge=1,
        le=100,
        description="Connections, and threads that use them. Calls that wait for one are served in order",
    )
    deadline_seconds: Seconds = Field(
        default=30.0, description="Seconds that a call may take, with its wait for a connection and its retries"
    )
    max_value: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="Bytes of one head, events or outbox, at most",
    )


class _ServerSettings(_SqlSettings):
    host: str = Field(default="127.0.0.1", min_length=1, description="Host name or address of the server")
    username: str = Field(min_length=1, description="User that connects")
    password: SecretStr | None = Field(default=None, description="Password of the user")
    database: str = Field(default="infinitic", min_length=1, description="Database. It must exist")
    unix_socket: str | None = Field(
        default=None, description="Unix socket, used instead of host and port (PostgreSQL: its directory)"
    )
    connect_timeout_seconds: Seconds = Field(default=5.0, description="Seconds that opening a connection may take")
    sslmode: SslMode = Field(
        default=SslMode.PREFER,
        description="TLS: disable, prefer, require, verify-ca (checks the certificate), verify-full (and the host)",
    )
    sslrootcert: Path | None = Field(default=None, description="File with the certificates of trusted authorities")
    sslcert: Path | None = Field(default=None, description="File with the certificate of the client")
    sslkey: Path | None = Field(default=None, description="File with the private key of the client")


class PostgresSettings(_ServerSettings):
    """PostgreSQL 12 or newer."""

    port: int = Field(default=5432, ge=1, le=65535, description="Port of the server")
    schema_name: str = Field(
        default="infinitic",
        alias="schema",
        min_length=1,
        max_length=63,
        description="Schema that holds the tables. Created if it is missing, and if the user may do that",
    )
    prepare_threshold: int | None = Field(
        default=5,
        ge=0,
        description="Uses before a statement is prepared; null: never, for poolers that do not allow it",
    )


class MysqlSettings(_ServerSettings):
    """MySQL 8.0 or newer, MariaDB 10.6 or newer. `prefer` uses TLS only if a file is given."""

    port: int = Field(default=3306, ge=1, le=65535, description="Port of the server")
    table_prefix: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_]{0,40}$",
        description="What the names of the tables begin with. Deployments that share a database have one each",
    )

    @model_validator(mode="after")
    def _authority(self) -> Self:
        """Without a file, PyMySQL would skip the check of the host name in silence."""
        if self.sslmode in (SslMode.VERIFY_CA, SslMode.VERIFY_FULL) and self.sslrootcert is None:
            raise ValueError(f"sslmode {self.sslmode.value} needs sslrootcert, the file with trusted certificates")
        return self


class SqliteSettings(_SqlSettings):
    """A SQLite file, shared by processes of one machine."""

    path: Path = Field(description="Database file. Created if it is missing; its directory must exist")
    synchronous: Synchronous = Field(
        default=Synchronous.FULL,
        description="full: what is written survives a power cut. normal: faster; a power cut may undo the last writes",
    )
