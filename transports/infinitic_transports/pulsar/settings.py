"""The settings of the Pulsar transport. Importable without the drivers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from infinitic.plugins import Settings

Seconds = Annotated[float, Field(gt=0)]


def _without_password(url: str) -> str:
    if "@" in url:
        raise ValueError("a URL here holds no user and no password")
    return url


Url = Annotated[str, Field(min_length=1), AfterValidator(_without_password)]


class Token(Settings):
    """A JSON Web Token, as text or in a file that is read again for each connection."""

    type: Literal["token"]
    token: SecretStr | None = Field(default=None, description="The token")
    token_file: Path | None = Field(default=None, description="File with the token; a new one is picked up")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("give either token or token_file")
        return self


class OAuth2(Settings):
    """OAuth 2.0 client credentials."""

    type: Literal["oauth2"]
    issuer_url: Url = Field(description="URL of the provider that gives tokens")
    private_key: SecretStr = Field(
        min_length=1, description="Credentials: a JSON file (a path, or a file: or data: URL), or its text"
    )
    audience: str = Field(default="", description="Identifier of the Pulsar cluster at the provider")
    scope: str = Field(default="", description="Scope that is asked for")


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
    """What is trusted where the URLs are pulsar+ssl: and https:."""

    trust_certs: Path | None = Field(
        default=None, description="File with the certificates of trusted authorities; default is certifi's"
    )
    validate_hostname: bool = Field(default=True, description="Whether the host must be the one of the certificate")
    allow_insecure: bool = Field(default=False, description="Whether any certificate is accepted. Never in production")


class Policies(Settings):
    """Policies of the namespace. They are set when it is created here, and never changed."""

    retention_minutes: int = Field(default=0, ge=-1, description="Minutes that acknowledged messages are kept; -1 ever")
    retention_size_mb: int = Field(default=0, ge=-1, description="Megabytes of them that are kept; -1 without limit")
    ttl_seconds: int | None = Field(
        default=None,
        ge=2 * 86_400,
        description="Seconds after which an unacknowledged message is given up; default is the deduplication window",
    )
    delayed_delivery_tick_seconds: float = Field(
        default=0.1, ge=0.01, le=10, description="Seconds between looks at delayed messages: how late they may come"
    )
    deduplication: bool = Field(default=False, description="Whether the broker drops what a producer sends twice")
    ephemeral_idle_seconds: int = Field(
        default=3600, ge=60, description="Seconds until a client's topic is removed whose process died, or is cut off"
    )


class Compression(StrEnum):
    """How payloads are compressed on the wire and on disk."""

    NONE = "none"
    LZ4 = "lz4"
    ZLIB = "zlib"
    ZSTD = "zstd"
    SNAPPY = "snappy"


class LogLevel(StrEnum):
    """From which level on the client library logs."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class ClientOptions(Settings):
    """The connection to the brokers."""

    io_threads: int = Field(default=1, ge=1, le=64, description="Threads for network traffic")
    operation_timeout_seconds: int = Field(
        default=30, ge=1, description="Seconds until making a producer or consumer is given up"
    )
    connection_timeout_seconds: Seconds = Field(default=10.0, description="Seconds that opening a connection may take")
    concurrent_lookup_requests: int = Field(default=50_000, ge=1, description="Lookups of topics under way at most")
    listener_name: str | None = Field(default=None, description="Advertised listener of the brokers that is used")
    stats_interval_seconds: int = Field(default=0, ge=0, description="Seconds between log lines of figures; 0 never")
    log_level: LogLevel = Field(default=LogLevel.ERROR, description="Level from which on the client library logs")
    log_path: Path | None = Field(
        default=None, description="File that it logs to, such as /dev/stderr; null: nowhere, errors are raised anyway"
    )
    rest_timeout_seconds: Seconds = Field(default=30.0, description="Seconds that a REST call may take")


class ProducerOptions(Settings):
    """How messages are sent. Batches are by key, chunks are never made."""

    send_timeout_seconds: Seconds = Field(default=30.0, description="Seconds until a message that is not taken fails")
    compression: Compression = Field(default=Compression.NONE, description="none, lz4, zlib, zstd or snappy")
    batching: bool = Field(default=True, description="Whether messages of a key are sent together")
    batching_max_messages: int = Field(default=1000, ge=1, description="Messages of one batch at most")
    batching_max_size_bytes: int = Field(default=131_072, ge=1, description="Bytes of one batch at most")
    batching_max_publish_delay_ms: int = Field(default=1, ge=1, description="Milliseconds that a batch is waited for")
    max_pending_messages: int = Field(default=1000, ge=2, description="Messages of a topic sent and not taken yet")
    max_pending_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1, description="Bytes of these at most, or one message if that is larger"
    )
    idle_seconds: Seconds = Field(default=30.0, description="Seconds until the producer for a client's topic is closed")


class ConsumerOptions(Settings):
    """How messages are received."""

    receiver_queue_size: int = Field(
        default=500, ge=1, description="Messages that wait in the client beyond those in hand, at most"
    )
    receiver_queue_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=64 * 1024,
        description="Bytes that these have at most: there are fewer, the larger max_message_size_bytes is",
    )


def _http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


class PulsarSettings(Settings):
    """Apache Pulsar 4.0.13 or newer, 4.2.4 or newer."""

    broker_service_url: str = Field(default="pulsar://localhost:6650", description="URL of the brokers")
    web_service_url: str = Field(default="http://localhost:8080", description="URL of their REST interface")
    tenant: str = Field(
        default="infinitic", pattern=r"^[-=:.\w]+$", description="Tenant. Created if it is missing and the user may"
    )
    namespace: str = Field(
        default="infinitic", pattern=r"^[-=:.\w]+$", description="Namespace. Created if it is missing and the user may"
    )
    allowed_clusters: tuple[str, ...] = Field(
        default=(), description="Clusters of a tenant that is created here; default is all"
    )
    partitions: int | None = Field(
        default=None, ge=1, le=1000, description="Partitions of new topics; null: not partitioned. Never change it"
    )
    max_message_size_bytes: int = Field(
        default=5 * 1024 * 1024,
        ge=64 * 1024,
        description="Bytes of a message at most; less if the brokers take less (their maxMessageSize)",
    )
    authentication: Authentication | None = Field(default=None, description="How the client says who it is")
    tls: PulsarTls = Field(default_factory=PulsarTls, description="What is trusted")
    policies: Policies = Field(default_factory=Policies, description="Policies of a namespace that is created here")
    client: ClientOptions = Field(default_factory=ClientOptions, description="The connection")
    producer: ProducerOptions = Field(default_factory=ProducerOptions, description="How messages are sent")
    consumer: ConsumerOptions = Field(default_factory=ConsumerOptions, description="How messages are received")

    @model_validator(mode="after")
    def _urls(self) -> Self:
        if not self.broker_service_url.startswith(("pulsar://", "pulsar+ssl://")):
            raise ValueError("broker_service_url starts with pulsar:// or pulsar+ssl://")
        if not _http(self.web_service_url):
            raise ValueError("web_service_url starts with http:// or https://")
        if "@" in self.broker_service_url or "@" in self.web_service_url:
            raise ValueError("a URL holds no user and no password: they are for `authentication`")
        return self
