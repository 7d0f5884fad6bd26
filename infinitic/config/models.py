"""What a configuration file may say, besides the settings of transports and storages, which are theirs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infinitic.definitions.services import ExponentialBackoff
from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.plugins import Settings
from infinitic.runtime.cache import DEFAULT_BUFFER_BYTES, DEFAULT_CACHE_BYTES, DEFAULT_SIZE, LEAST, Bounds

DAY = 86_400.0


def _name(value: str) -> str:
    try:
        return check_name("A name", value)
    except UsageError as error:
        raise ValueError(str(error)) from None


Name = Annotated[str, AfterValidator(_name)]
Concurrency = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, lt=1e12, allow_inf_nan=False)]
Duration = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]
ClassPath = Annotated[str, Field(min_length=1)]


class TransportSection(Settings):
    """The broker: the key of exactly one installed transport with its settings, and this."""

    shutdown_grace_period_seconds: Duration = Field(
        default=30.0, description="Seconds that running work may take when the worker stops"
    )


class StorageSection(Settings):
    """Where workflows are kept: the key of exactly one installed storage with its settings, and this."""

    compression: Literal["none", "gzip", "zstd"] = Field(
        default="none", description="How what is stored is compressed; may be changed at any time"
    )


class RetrySection(Settings):
    """A retry policy with growing delays, `ExponentialBackoff`. It wins over `@task` and `@service`."""

    minimum_seconds: float = Field(default=1.0, description="Seconds to wait after the first failure")
    maximum_seconds: float | None = Field(
        default=None, description="Seconds to wait at most, before they are spread; default is 1000 times the minimum"
    )
    backoff_coefficient: float = Field(default=2.0, description="What the delay is multiplied with after each failure")
    random_factor: float = Field(default=0.5, description="The delay is multiplied with a random number in 1 ± this")
    maximum_retries: int = Field(default=11, description="How many times a task is tried again")
    ignored_exceptions: tuple[str, ...] = Field(
        default=(), description="Names of exceptions that are not retried, short or qualified; subclasses match"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.policy()
        return self

    def policy(self) -> ExponentialBackoff:
        """The policy that this says."""
        try:
            return ExponentialBackoff(**self.model_dump())
        except UsageError as error:
            raise ValueError(str(error).removeprefix("ExponentialBackoff: ")) from None


class ServiceExecutorSection(Settings):
    """Runs the tasks of a service."""

    class_path: ClassPath | None = Field(
        default=None, alias="class", description="Class of the service, made without arguments: package.module.Class"
    )
    factory: ClassPath | None = Field(
        default=None, description="Function without arguments that makes the service, instead of a class"
    )
    concurrency: Concurrency = Field(default=100, description="How many tasks run at once")
    attempt_timeout_seconds: Positive | None = Field(
        default=None, description="Seconds that an attempt may take; wins over `@task` and `@service`"
    )
    retry: RetrySection | None = Field(default=None, description="Retry policy; default is what the code says")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.class_path is None) == (self.factory is None):
            raise ValueError("give either class or factory")
        return self


class ServiceSection(Settings):
    """A service that the worker hosts."""

    name: Name = Field(description="Name of the service; the class must have the same")
    executor: ServiceExecutorSection = Field(description="Runs its tasks")


class WorkflowExecutorSection(Settings):
    """Runs the code of a workflow."""

    class_path: ClassPath | None = Field(
        default=None, alias="class", description="Class of the workflow: package.module.Class"
    )
    classes: tuple[ClassPath, ...] | None = Field(
        default=None, min_length=1, description="Classes, one for each version, instead of `class`"
    )
    concurrency: Concurrency = Field(default=100, description="How many instances run at once")
    retention_seconds: Duration | None = Field(
        default=None, description="Seconds that closed instances are kept; default is that of `state_engine`"
    )
    replay_check: Literal["none", "simple", "strict"] | None = Field(
        default=None, description="What replay compares with the history; wins over `@workflow`"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.class_path is None) == (self.classes is None):
            raise ValueError("give either class or classes")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The class or the classes."""
        return self.classes or ((self.class_path,) if self.class_path else ())


class StateEngineSection(Settings):
    """Keeps the state of a workflow."""

    concurrency: Concurrency = Field(default=100, description="How many instances are worked on at once")
    retention_seconds: Duration | None = Field(
        default=None, description="Seconds that closed instances are kept; wins over `@workflow`"
    )


class WorkflowSection(Settings):
    """A workflow that the worker hosts: its code, its state engine, or both, which are faster together."""

    name: Name = Field(description="Name of the workflow; the classes must have the same")
    executor: WorkflowExecutorSection | None = Field(default=None, description="Runs its code")
    state_engine: StateEngineSection | None = Field(
        default=None, description="Keeps its state; each workflow needs one"
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.executor is None and self.state_engine is None:
            raise ValueError("give executor, state_engine or both")
        return self


class Document(Settings):
    """What stands at the top of the file."""

    name: Name | None = Field(
        default=None, description="Name of the worker, unique among all workers; chosen if not given"
    )
    deduplication_window_seconds: Positive = Field(
        default=14 * DAY,
        description="Seconds for which a duplicate of a message is recognised; the broker keeps messages as long",
    )
    cache_size: int = Field(
        default=DEFAULT_SIZE,
        ge=LEAST["cache_size"],
        description="Workflow instances that stay live in memory, for each workflow; 0: all are replayed at each step",
    )
    cache_bytes: int = Field(
        default=DEFAULT_CACHE_BYTES,
        ge=LEAST["cache_bytes"],
        description="Bytes of history that these have together, for each workflow",
    )
    buffer_bytes: int = Field(
        default=DEFAULT_BUFFER_BYTES,
        ge=LEAST["buffer_bytes"],
        description="Bytes of messages that each consumer holds; as many again of those that cannot be handled now",
    )
    transport: TransportSection = Field(description="The broker")
    storage: StorageSection | None = Field(
        default=None, description="Where workflows are kept; services alone need none"
    )
    services: tuple[ServiceSection, ...] = Field(default=(), description="Services that the worker hosts")
    workflows: tuple[WorkflowSection, ...] = Field(default=(), description="Workflows that the worker hosts")

    @property
    def bounds(self) -> Bounds:
        """How much the worker keeps in memory."""
        return Bounds(self.cache_size, self.cache_bytes, self.buffer_bytes)
