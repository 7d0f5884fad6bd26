"""The settings of the Pulsar transport. Importable without the drivers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from infinitic.plugins import Settings

Seconds = Annotated[float, Field(gt=0)]


def _check_no_password(url: str) -> str:
    if "@" in url:
        raise ValueError("this URL may not contain a user or a password")
    return url


Url = Annotated[str, Field(min_length=1), AfterValidator(_check_no_password)]


class Token(Settings):
    """A JSON Web Token, as text or in a file that is read for each connection."""

    type: Literal["token"]
    token: SecretStr | None = Field(default=None, description="The token")
    token_file: Path | None = Field(default=None, description="File with the token. It is read for each connection")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("give either token or token_file")
        return self


class OAuth2(Settings):
    """OAuth 2.0 client credentials."""

    type: Literal["oauth2"]
    issuer_url: Url = Field(description="URL of the provider of tokens")
    private_key: SecretStr = Field(
        min_length=1, description="Credentials: a JSON file (a path, or a file: or data: URL), or its text"
    )
    audience: str = Field(default="", description="Identifier of the Pulsar cluster at the provider")
    scope: str = Field(default="", description="Scope that is requested")


class Athenz(Settings):
    """Athenz, for the broker only. REST gets no credentials: make topics by other means."""

    type: Literal["athenz"]
    tenant_domain: str = Field(min_length=1, description="Domain of the tenant")
    tenant_service: str = Field(min_length=1, description="Service of the tenant")
    provider_domain: str = Field(min_length=1, description="Domain of the provider")
    private_key: SecretStr = Field(min_length=1, description="Private key: a file: or data: URL, or its text")
    key_id: str = Field(default="0", description="Identifier of the private key")
    zts_url: Url = Field(description="URL of the ZTS server")


class Basic(Settings):
    """A user and a password."""

    type: Literal["basic"]
    username: str = Field(min_length=1, description="User that connects")
    password: SecretStr = Field(description="Password of the user")


class ClientCertificate(Settings):
    """A certificate of the client (mutual TLS)."""

    type: Literal["tls"]
    certificate: Path = Field(description="File with the certificate of the client")
    private_key: Path = Field(description="File with the private key of the client")


Authentication = Annotated[Token | OAuth2 | Athenz | Basic | ClientCertificate, Field(discriminator="type")]


class PulsarTls(Settings):
    """Which certificates are trusted, if the URLs are pulsar+ssl: and https:."""

    trust_certs: Path | None = Field(
        default=None, description="File with the certificates of trusted authorities; default is certifi's"
    )
    validate_hostname: bool = Field(default=True, description="Whether the certificate has to be for the host")
    allow_insecure: bool = Field(default=False, description="Whether any certificate is accepted. Never in production")


class Policies(Settings):
    """Policies of the namespace. They are set when it is created here, and never changed."""

    retention_minutes: int = Field(
        default=0, ge=-1, description="Minutes that acknowledged messages are kept; -1: for ever"
    )
    retention_size_mb: int = Field(default=0, ge=-1, description="Megabytes of them that are kept; -1: without limit")
    ttl_seconds: int | None = Field(
        default=None,
        ge=2 * 86_400,
        description="Seconds after which an unacknowledged message is dropped; default is the deduplication window",
    )
    delayed_delivery_tick_seconds: float = Field(
        default=0.1, ge=0.01, le=10, description="Seconds between checks for delayed messages: they may be so late"
    )
    deduplication: bool = Field(
        default=False, description="Whether the broker drops messages that a producer sends twice"
    )
    ephemeral_idle_seconds: int = Field(
        default=3600, ge=60, description="Seconds until the topic of a client is removed after its process died"
    )


class Compression(StrEnum):
    """How messages are compressed on the wire and on disk."""

    NONE = "none"
    LZ4 = "lz4"
    ZLIB = "zlib"
    ZSTD = "zstd"
    SNAPPY = "snappy"


class LogLevel(StrEnum):
    """The lowest level that the client library logs."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class ClientOptions(Settings):
    """The connection to the brokers."""

    io_threads: int = Field(default=1, ge=1, le=64, description="Threads for network traffic")
    operation_timeout_seconds: int = Field(
        default=30, ge=1, description="Seconds within which a producer or consumer has to be made"
    )
    connection_timeout_seconds: Seconds = Field(default=10.0, description="Seconds that opening a connection may take")
    concurrent_lookup_requests: int = Field(
        default=50_000, ge=1, description="Lookups of topics that are under way, at most"
    )
    listener_name: str | None = Field(default=None, description="Name of the advertised listener of the brokers")
    stats_interval_seconds: int = Field(default=0, ge=0, description="Seconds between statistics in the log; 0: never")
    log_level: LogLevel = Field(default=LogLevel.ERROR, description="Lowest level that the client library logs")
    log_path: Path | None = Field(
        default=None, description="File for its log, such as /dev/stderr; null: none, since errors are raised anyway"
    )
    rest_timeout_seconds: Seconds = Field(default=30.0, description="Seconds that a REST call may take")


class ProducerOptions(Settings):
    """How messages are sent. Batches are by key, chunks are never made."""

    send_timeout_seconds: Seconds = Field(
        default=30.0, description="Seconds after which a message that was not accepted fails"
    )
    compression: Compression = Field(default=Compression.NONE, description="none, lz4, zlib, zstd or snappy")
    batching: bool = Field(default=True, description="Whether messages of a key are sent in batches")
    batching_max_messages: int = Field(default=1000, ge=1, description="Messages of one batch, at most")
    batching_max_size_bytes: int = Field(default=131_072, ge=1, description="Bytes of one batch, at most")
    batching_max_publish_delay_ms: int = Field(
        default=1, ge=1, description="Milliseconds to wait until a batch is full"
    )
    max_pending_messages: int = Field(
        default=1000, ge=2, description="Messages of a topic that are sent and not accepted yet, at most"
    )
    max_pending_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1, description="Bytes of these messages, at most; one message may have more"
    )
    idle_seconds: Seconds = Field(
        default=30.0, description="Seconds after which an idle producer for the topic of a client is closed"
    )


class ConsumerOptions(Settings):
    """How messages are received."""

    receiver_queue_size: int = Field(
        default=500, ge=1, description="Messages that the client requests beforehand, at most"
    )
    receiver_queue_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=64 * 1024,
        description="Bytes of these, at most: the larger max_message_size_bytes is, the fewer messages",
    )


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


class PulsarSettings(Settings):
    """Apache Pulsar 4.0.13 or newer, 4.2.4 or newer."""

    broker_service_url: str = Field(default="pulsar://localhost:6650", description="URL of the brokers")
    web_service_url: str = Field(default="http://localhost:8080", description="URL of their REST interface")
    tenant: str = Field(
        default="infinitic",
        pattern=r"^[-=:.\w]+$",
        description="Tenant. Created if it is missing, and if the user may do that",
    )
    namespace: str = Field(
        default="infinitic",
        pattern=r"^[-=:.\w]+$",
        description="Namespace. Created if it is missing, and if the user may do that",
    )
    allowed_clusters: tuple[str, ...] = Field(
        default=(), description="Clusters of a tenant that is created here; default is all of them"
    )
    partitions: int | None = Field(
        default=None, ge=1, le=1000, description="Partitions of new topics; null: none. Never change it later"
    )
    max_message_size_bytes: int = Field(
        default=5 * 1024 * 1024,
        ge=64 * 1024,
        description="Bytes of a message, at most; less if the brokers accept less (their maxMessageSize)",
    )
    authentication: Authentication | None = Field(default=None, description="Credentials of the client")
    tls: PulsarTls = Field(default_factory=PulsarTls, description="Which certificates are trusted")
    policies: Policies = Field(default_factory=Policies, description="Policies of a namespace that is created here")
    client: ClientOptions = Field(default_factory=ClientOptions, description="The connection")
    producer: ProducerOptions = Field(default_factory=ProducerOptions, description="How messages are sent")
    consumer: ConsumerOptions = Field(default_factory=ConsumerOptions, description="How messages are received")

    @model_validator(mode="after")
    def _urls(self) -> Self:
        if not self.broker_service_url.startswith(("pulsar://", "pulsar+ssl://")):
            raise ValueError("broker_service_url starts with pulsar:// or pulsar+ssl://")
        if not _is_http(self.web_service_url):
            raise ValueError("web_service_url starts with http:// or https://")
        if "@" in self.broker_service_url or "@" in self.web_service_url:
            raise ValueError("a URL may not contain a user or a password: use `authentication`")
        return self
