"""What a configuration file may say of an event listener."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.plugins import Settings


def _check_name(value: str) -> str:
    try:
        return check_name("A name", value)
    except UsageError as error:
        raise ValueError(str(error)) from None


Name = Annotated[str, AfterValidator(_check_name)]


class ListenerBatchSection(Settings):
    """How many events are handed over together. A batch ends at whichever comes first."""

    max_events: int = Field(default=1000, ge=1, le=10_000, description="How many events a call gets at most")
    max_seconds: Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)] = Field(
        default=1.0, description="Seconds that an event waits for others"
    )


class ListenedNamesSection(Settings):
    """The names of services, or of workflows, that a listener listens to."""

    allow: tuple[Name, ...] | None = Field(
        default=None, description="The names to listen to; by default those that the worker hosts"
    )
    disallow: tuple[Name, ...] = Field(default=(), description="Names that are left out")


class EventListenerSection(Settings):
    """A listener that is called with what happens to tasks and workflows."""

    class_path: Annotated[str, Field(min_length=1)] = Field(
        alias="class",
        description="Class of the listener, or a function: package.module.Class. It takes a list of events",
    )
    name: Name = Field(
        default="default",
        description="Name of the listener. Those of different names each get all events; those of one name share them",
    )
    batch: ListenerBatchSection = Field(default=ListenerBatchSection(), description="How events are put together")
    services: ListenedNamesSection = Field(
        default=ListenedNamesSection(), description="The services that it listens to"
    )
    workflows: ListenedNamesSection = Field(
        default=ListenedNamesSection(), description="The workflows that it listens to"
    )
    types: tuple[str, ...] | None = Field(
        default=None, description="Types of events that it gets, such as task.failed; by default all"
    )
