"""Event listeners that are given to a worker: checked, and what each of them listens to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from infinitic import ids, topics
from infinitic.clock import to_seconds
from infinitic.definitions.service_contract import read_service_name
from infinitic.definitions.workflow_spec import workflow_name
from infinitic.definitions.workflows import Workflow
from infinitic.errors import RegistrationError, UsageError
from infinitic.messages.cloud_events import EventType
from infinitic.topics import Topic

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

Listener = Callable[["list[CloudEvent]"], object]
"""A function that is called with events, `def` or `async def`."""

DEFAULT_LISTENER: Final = "default"
"""The name of a listener that is given none."""

SUBSCRIPTION_PREFIX: Final = "listener:"
"""It stands before the name of a listener in that of its subscriptions."""

MOST_EVENTS: Final = 10_000
"""How many events one call of a listener gets at most."""

_PREFIX = "io.infinitic."


@dataclass(frozen=True)
class HostedListener:
    """An event listener that runs here.

    Args:
        name: its name, which is that of its subscriptions.
        call: the function.
        services: the services that it listens to; None: those that the worker hosts.
        workflows: the workflows that it listens to; None: those that the worker hosts.
        without_services: services that it does not listen to, though the worker hosts them.
        without_workflows: the same for workflows.
        types: the types of events that it gets; None: all.
        max_events: how many events a call gets at most.
        max_seconds: how long an event waits for others, in seconds.
    """

    name: str
    call: Listener
    services: tuple[str, ...] | None
    workflows: tuple[str, ...] | None
    without_services: frozenset[str]
    without_workflows: frozenset[str]
    types: frozenset[str] | None
    max_events: int
    max_seconds: float

    @property
    def subscription(self) -> str:
        """The name of its subscription on each topic."""
        return SUBSCRIPTION_PREFIX + self.name

    def find_topics(self, services: Iterable[str], workflows: Iterable[str]) -> list[Topic]:
        """Find the topics that it listens to.

        Args:
            services: the services that the worker hosts.
            workflows: the workflows that it hosts.
        """
        chosen = services if self.services is None else self.services
        found = [topics.service_events(each) for each in chosen if each not in self.without_services]
        chosen = workflows if self.workflows is None else self.workflows
        return found + [topics.workflow_events(each) for each in chosen if each not in self.without_workflows]

    @property
    def named(self) -> Mapping[Topic, str]:
        """What was named, with the topic on which it works: without that, it may not exist."""
        services = {topics.service_executor(each): f"service '{each}'" for each in self.services or ()}
        return services | {topics.workflow_engine(each): f"workflow '{each}'" for each in self.workflows or ()}


def read_listener(
    listener: object,
    *,
    name: str,
    services: Collection[str | type[Any]] | None,
    workflows: Collection[str | type[Workflow]] | None,
    without_services: Collection[str | type[Any]],
    without_workflows: Collection[str | type[Workflow]],
    types: Collection[str] | None,
    max_events: object,
    max_seconds: float | timedelta,
) -> HostedListener:
    """Check what `Worker.add_event_listener` was given.

    Raises:
        RegistrationError: the listener cannot be called with a list of events.
        UsageError: another argument cannot be.
    """
    return HostedListener(
        ids.check_name("The name of an event listener", name),
        _read_call(listener),
        None if services is None else _read_names("services", services, _read_service),
        None if workflows is None else _read_names("workflows", workflows, _read_workflow),
        frozenset(_read_names("without_services", without_services, _read_service)),
        frozenset(_read_names("without_workflows", without_workflows, _read_workflow)),
        None if types is None else frozenset(_read_names("types", types, read_event_type)),
        _check_max_events(max_events),
        _check_max_seconds(max_seconds),
    )


def read_event_type(name: object) -> str:
    """Read the type of an event: "task.completed", or with "io.infinitic." before it.

    Raises:
        UsageError: there is no such type.
    """
    known = [each.value for each in EventType]
    if isinstance(name, str):
        full = name if name.startswith(_PREFIX) else _PREFIX + name
        if full in known:
            return full
        close = get_close_matches(full, known, 1)
        if close:
            hint = close[0].removeprefix(_PREFIX)
            raise UsageError(f"There is no type of event '{name}' (did you mean '{hint}'?)")
    raise UsageError(f"There is no type of event {name!r}: infinitic.EventType has them all")


def _read_call(listener: object) -> Listener:
    given = listener
    if isinstance(listener, type):
        try:
            inspect.signature(listener).bind()
        except TypeError as error:
            raise RegistrationError(
                f"{listener.__qualname__} cannot be made without arguments ({error}): give an instance of it"
            ) from error
        except ValueError:
            pass  # it is written in C: calling it tells
        listener = listener()
    if not callable(listener):
        kind = getattr(given, "__qualname__", repr(given))
        raise RegistrationError(
            f"An event listener is a function, or has a method __call__(self, events), and {kind} has none"
        )
    if inspect.isgeneratorfunction(listener) or inspect.isasyncgenfunction(listener):
        raise RegistrationError(f"{_name(listener)} is a generator: an event listener is called, and returns")
    try:
        inspect.signature(listener).bind([])
    except TypeError as error:
        raise RegistrationError(
            f"{_name(listener)} cannot be called with one argument, the list of events: {error}"
        ) from error
    except ValueError:
        pass  # it is written in C: calling it tells
    return listener


def _name(listener: object) -> str:
    while isinstance(listener, partial):
        listener = cast("partial[object]", listener).func
    return str(getattr(listener, "__qualname__", type(listener).__qualname__))


def _read_names(what: str, given: Collection[Any], read: Callable[[Any], str]) -> tuple[str, ...]:
    if isinstance(given, str | bytes | type) or not isinstance(given, Collection):  # pyright: ignore[reportUnnecessaryIsInstance]  # users without a type checker
        raise UsageError(f"{what} of an event listener is a list of names, got {given!r}")
    return tuple(dict.fromkeys(read(each) for each in given))


def _read_service(given: Any) -> str:
    return read_service_name("add_event_listener", given)


def _read_workflow(given: Any) -> str:
    name = given if isinstance(given, str) else workflow_name(given)
    return ids.check_name("The name of a workflow", name)


def _check_max_events(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_EVENTS:
        raise UsageError(f"max_events must be a whole number from 1 to {MOST_EVENTS:,}, got {given!r}")
    return given


def _check_max_seconds(given: float | timedelta) -> float:
    seconds = to_seconds(given)
    if seconds < 0:
        raise UsageError(f"max_seconds must be 0 or more, got {given!r}")
    return seconds
