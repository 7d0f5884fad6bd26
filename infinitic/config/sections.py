"""What a configuration file may say, one class a section.

The settings of a transport or a storage are not here: each adapter has its own. The documentation
of the file is generated from the docstrings and descriptions below.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infinitic.config.listener_section import EventListenerSection
from infinitic.definitions.batches import MOST_MESSAGES
from infinitic.definitions.retries import ExponentialBackoff
from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.plugins import Settings
from infinitic.runtime.memory_bounds import (
    DEFAULT_BUFFER_BYTES,
    DEFAULT_CACHE_BYTES,
    DEFAULT_CACHE_SIZE,
    SMALLEST,
    MemoryBounds,
)

DAY = 86_400.0


def _check_name(value: str) -> str:
    try:
        return check_name("A name", value)
    except UsageError as error:
        raise ValueError(str(error)) from None


Name = Annotated[str, AfterValidator(_check_name)]
Concurrency = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, lt=1e12, allow_inf_nan=False)]
Duration = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]
ClassPath = Annotated[str, Field(min_length=1)]


class TransportSection(Settings):
    """The broker. It has the name of one installed transport as a key, and this key:"""

    shutdown_grace_period_seconds: Duration = Field(
        default=30.0, description="Seconds that running work may take when the worker stops"
    )


class StorageSection(Settings):
    """Where workflows are kept. It has the name of one installed storage as a key, and this key:"""

    compression: Literal["none", "gzip", "zstd"] = Field(
        default="none",
        description="How stored data is compressed. It may be changed at any time: older data can still be read",
    )


class RetrySection(Settings):
    """A retry policy with growing delays. It overrides those of `@task` and `@service`."""

    minimum_seconds: float = Field(default=1.0, description="Seconds to wait after the first failure")
    maximum_seconds: float | None = Field(
        default=None,
        description="Seconds to wait at most, before the random factor; by default 1000 times the minimum",
    )
    backoff_coefficient: float = Field(
        default=2.0, description="The factor by which the delay grows after each failure"
    )
    random_factor: float = Field(
        default=0.5, description="The delay is multiplied by a random number between 1 - this and 1 + this"
    )
    maximum_retries: int = Field(default=11, description="How many times a task is tried again")
    ignored_exceptions: tuple[str, ...] = Field(
        default=(),
        description="Names of exceptions that are not retried, short or qualified. Subclasses are ignored as well",
    )

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        self.make_policy()
        return self

    def make_policy(self) -> ExponentialBackoff:
        """Make the retry policy that this section describes.

        Raises:
            ValueError: a value makes no sense.
        """
        try:
            return ExponentialBackoff(**self.model_dump())
        except UsageError as error:
            raise ValueError(str(error).removeprefix("ExponentialBackoff: ")) from None


class BatchSection(Settings):
    """When the batches of a service are complete. It overrides `@batch`."""

    max_messages: int | None = Field(
        default=None, ge=1, le=MOST_MESSAGES, description="How many tasks a batch has at most"
    )
    max_seconds: Duration | None = Field(
        default=None, description="Seconds that the first task of a batch waits for others"
    )


class ServiceExecutorSection(Settings):
    """The part of a worker that runs the tasks of a service."""

    class_path: ClassPath | None = Field(
        default=None,
        alias="class",
        description="Class of the service: package.module.Class. It is called without arguments",
    )
    factory: ClassPath | None = Field(
        default=None, description="Function without arguments that returns the service; instead of `class`"
    )
    concurrency: Concurrency = Field(default=100, description="How many tasks run at once")
    attempt_timeout_seconds: Positive | None = Field(
        default=None, description="Seconds that an attempt may take; overrides `@task` and `@service`"
    )
    retry: RetrySection | None = Field(default=None, description="Retry policy; by default that of the code")
    batch: BatchSection | None = Field(
        default=None, description="Limits of batches, for a service that has methods with `@batch`"
    )
    max_per_second: Positive | None = Field(
        default=None, description="How many attempts begin in a second at most, in this worker; by default any number"
    )
    local: bool | None = Field(
        default=None,
        description="Whether workflows that run in this worker run the tasks themselves, without messages; overrides "
        "`@task` and `@service`",
    )

    @model_validator(mode="after")
    def _check_class_or_factory(self) -> Self:
        if (self.class_path is None) == (self.factory is None):
            raise ValueError("give either class or factory")
        return self


class TagEngineSection(Settings):
    """The part of a worker that knows who has a tag. That of a workflow knows custom ids, too."""

    concurrency: Concurrency = Field(default=100, description="How many tags are worked on at once")


class ServiceSection(Settings):
    """A service that the worker hosts."""

    name: Name = Field(description="Name of the service. The class must have the same name")
    executor: ServiceExecutorSection | None = Field(default=None, description="Runs the tasks of the service")
    tag_engine: TagEngineSection | None = Field(
        default=None,
        description="Knows which tasks have a tag. Some worker must have it if workflows give tags to tasks",
    )

    @model_validator(mode="after")
    def _check_any_part(self) -> Self:
        if self.executor is None and self.tag_engine is None:
            raise ValueError("give executor, tag_engine or both")
        return self


class WorkflowExecutorSection(Settings):
    """The part of a worker that runs the code of a workflow."""

    class_path: ClassPath | None = Field(
        default=None, alias="class", description="Class of the workflow: package.module.Class"
    )
    classes: tuple[ClassPath, ...] | None = Field(
        default=None, min_length=1, description="Several classes, one for each version; instead of `class`"
    )
    concurrency: Concurrency = Field(default=100, description="How many instances run at once")
    retention_seconds: Duration | None = Field(
        default=None, description="Seconds that closed instances are kept; by default that of `state_engine`"
    )
    replay_check: Literal["none", "simple", "strict"] | None = Field(
        default=None, description="What replay compares with the history; overrides `@workflow`"
    )

    @model_validator(mode="after")
    def _check_class_or_classes(self) -> Self:
        if (self.class_path is None) == (self.classes is None):
            raise ValueError("give either class or classes")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all classes, whether one or several are given."""
        return self.classes or ((self.class_path,) if self.class_path else ())


class StateEngineSection(Settings):
    """The part of a worker that keeps the state of a workflow."""

    concurrency: Concurrency = Field(default=100, description="How many instances are worked on at once")
    retention_seconds: Duration | None = Field(
        default=None, description="Seconds that closed instances are kept; overrides `@workflow`"
    )


class WorkflowSection(Settings):
    """A workflow that the worker hosts: its code, its state engine, or both, which is faster."""

    name: Name = Field(description="Name of the workflow. The classes must have the same name")
    executor: WorkflowExecutorSection | None = Field(default=None, description="Runs the code of the workflow")
    state_engine: StateEngineSection | None = Field(
        default=None, description="Keeps the state of the workflow. Some worker must have it"
    )
    tag_engine: TagEngineSection | None = Field(
        default=None,
        description="Knows who has a tag or custom id. Some worker must have it if workflows have tags or custom ids",
    )

    @model_validator(mode="after")
    def _check_any_part(self) -> Self:
        if self.executor is None and self.state_engine is None and self.tag_engine is None:
            raise ValueError("give executor, state_engine, tag_engine or several of them")
        return self


class CodecSection(Settings):
    """A payload codec: it compresses or encrypts arguments, results and signals."""

    class_path: ClassPath = Field(
        alias="class", description="Class of the codec, a `PayloadCodec`: package.module.Class"
    )
    options: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description="Keyword arguments with which it is made. Take secrets from the environment: `${KEY}`",
    )


class MiddlewareSection(Settings):
    """A middleware: code around client calls, attempts of tasks and activations of workflows."""

    class_path: ClassPath = Field(
        alias="class", description="Class of the middleware, a `Middleware`: package.module.Class"
    )
    options: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description="Keyword arguments with which it is made. Take secrets from the environment: `${KEY}`",
    )


class Document(Settings):
    """The keys at the top of the file."""

    name: Name | None = Field(
        default=None, description="Name of the worker, unique among all workers; chosen at random by default"
    )
    deduplication_window_seconds: Positive = Field(
        default=14 * DAY,
        description="Seconds for which a duplicate of a message is recognised. The broker keeps a message as long",
    )
    cache_size: int = Field(
        default=DEFAULT_CACHE_SIZE,
        ge=SMALLEST["cache_size"],
        description="How many instances of each workflow stay live in memory. With 0, each step is a replay",
    )
    cache_bytes: int = Field(
        default=DEFAULT_CACHE_BYTES,
        ge=SMALLEST["cache_bytes"],
        description="How many bytes of history the live instances of each workflow have together",
    )
    buffer_bytes: int = Field(
        default=DEFAULT_BUFFER_BYTES,
        ge=SMALLEST["buffer_bytes"],
        description="How many bytes of messages each consumer holds, and as many again that wait for a retry",
    )
    transport: TransportSection = Field(description="The broker")
    storage: StorageSection | None = Field(
        default=None, description="Where workflows are kept. A worker with services alone needs none"
    )
    codec: tuple[CodecSection, ...] = Field(
        default=(),
        description="Payload codecs of workers, clients and commands, in order: the first one encodes first. "
        "All of them must have the same",
    )
    middleware: tuple[MiddlewareSection, ...] = Field(
        default=(),
        description="Middlewares of workers and clients, the outermost first. Commands have none",
    )
    events: bool = Field(
        default=False,
        description="Whether what happens is published for event listeners. All workers of a service or workflow "
        "should do the same",
    )
    services: tuple[ServiceSection, ...] = Field(default=(), description="The services that the worker hosts")
    workflows: tuple[WorkflowSection, ...] = Field(default=(), description="The workflows that the worker hosts")
    event_listener: EventListenerSection | None = Field(
        default=None, description="The event listener that the worker hosts"
    )

    @property
    def memory_bounds(self) -> MemoryBounds:
        """How much the worker keeps in memory."""
        return MemoryBounds(self.cache_size, self.cache_bytes, self.buffer_bytes)
