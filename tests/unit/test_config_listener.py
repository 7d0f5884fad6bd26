"""Event listeners of a configuration file."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from examples.hello import Visit
from infinitic import EventType, Worker
from infinitic.errors import ConfigurationError

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

_numbers = itertools.count()


class Audit:
    """A listener that is made without arguments."""

    heard: list[CloudEvent] = []  # noqa: RUF012 (the tests look at what the worker has made)

    def __call__(self, events: list[CloudEvent]) -> None:
        self.heard += events


class Broken(Audit):
    def __init__(self) -> None:
        raise OSError("no disk")


def note(events: list[CloudEvent]) -> None:
    """A listener that is a function."""
    Audit.heard += events


NO_LISTENER = 42


def hello(listener: str, *, events: bool = True) -> str:
    name = f"listener-{next(_numbers)}"
    return f"""\
transport: {{in_memory: {{name: {name}}}}}
storage: {{in_memory: {{name: {name}}}}}
events: {str(events).lower()}
services:
  - name: Greeter
    executor: {{class: examples.hello.EnglishGreeter}}
workflows:
  - name: Visit
    executor: {{class: examples.hello.Visit}}
    state_engine: {{}}
event_listener: {listener}
"""


def play(text: str) -> list[CloudEvent]:
    Audit.heard = []

    async def main() -> None:
        worker = Worker.from_config(text=text)
        async with worker.running():
            await worker.client.new_workflow(Visit).receive("Ada")
            await asyncio.sleep(0)

    asyncio.run(main())
    return Audit.heard


@pytest.mark.parametrize(
    "keys",
    [
        "{class: tests.unit.test_config_listener.Audit}",
        "{class: tests.unit.test_config_listener.note, subscriptionName: audit, batch: {maxMessages: 5}}",
    ],
)
def test_a_listener_of_a_file_hears_what_the_worker_does(keys: str) -> None:
    heard = play(hello(keys))
    assert {event.get_source() for event in heard} <= {"/services/Greeter", "/workflows/Visit"}
    assert EventType.WORKFLOW_DISPATCH in {event.get_type() for event in heard}


def test_names_and_types_are_chosen_in_the_file() -> None:
    keys = (
        "{class: tests.unit.test_config_listener.Audit, services: {allow: []}, workflows: {disallow: [Other]}, "
        "types: [workflow.dispatch]}"
    )
    heard = play(hello(keys))
    assert [event.get_type() for event in heard] == [EventType.WORKFLOW_DISPATCH]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("{}", "event_listener.class: is missing"),
        ("{class: no_such_module.Audit}", "event_listener.class: there is no module 'no_such_module'"),
        ("{class: tests.unit.test_config_listener.Audits}", "did you mean 'Audit'"),
        (
            "{class: tests.unit.test_config_listener.NO_LISTENER}",
            "event_listener.class: An event listener is a function",
        ),
        ("{class: tests.unit.test_config_listener.Broken}", "event_listener.class: making the listener raised OSError"),
        (
            "{class: tests.unit.test_config_listener.Audit, types: [task.completed, task.complete]}",
            "event_listener.types[1]: There is no type of event 'task.complete' (did you mean 'task.completed'?)",
        ),
        ("{class: a.B, batch: {max_events: 0}}", "event_listener.batch.max_events: must be greater than or equal to 1"),
        ("{class: a.B, batch: {max_seconds: -1}}", "event_listener.batch.max_seconds: must be greater than or equal"),
        ("{class: a.B, name: ''}", "event_listener.name"),
        ("{class: a.B, services: {allow: ['']}}", "event_listener.services.allow[0]"),
        ("{class: a.B, services: {list_refresh_seconds: 60}}", "name the services: allow"),
        ("{class: a.B, topics: []}", "event_listener.topics"),
    ],
)
def test_mistakes_are_named_with_their_place(keys: str, problem: str) -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError) as raised:
            Worker.from_config(text=hello(keys))
        found: Any = str(raised.value)
        assert problem in found
        assert "<text>:11" in found

    asyncio.run(main())
