"""Errors of somebody who gave the wrong thing: each says what it is, and what to give instead."""

from __future__ import annotations

import re
import sys
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

import pytest

from infinitic import Client, Worker, Workflow, service
from infinitic.codec.values import value_codec
from infinitic.errors import UsageError
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.doubles import ServiceDouble
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport


class Mailer:
    """A service that needs an argument."""

    def __init__(self, host: str, *, port: int = 25) -> None:
        self.host = host

    async def send(self, to: str) -> int:
        return len(to)

    def fee(self) -> int:
        return 1


class Trip(Workflow):
    async def book(self) -> None: ...


class NeedsSeat(Workflow):
    def __init__(self, seat: int) -> None:
        self.seat = seat

    async def book(self) -> int:
        return self.seat


class Abstract(ABC):
    @abstractmethod
    async def run(self) -> None: ...


class Breaks:
    def __init__(self) -> None:
        raise TypeError("of its own")

    async def run(self) -> None: ...


def made_of(seat: int) -> NeedsSeat:
    return NeedsSeat(seat)


def worker() -> Any:
    return Worker(InMemoryTransport(), InMemoryStorage())


def client() -> Any:
    return Client(InMemoryTransport())


LIKE_A_SERVICE = re.escape(
    "add_service(Mailer) hosts it, and a workflow calls it by a stub in its class body, Workflow.new_service(Mailer)"
)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: worker().add_service(Mailer), r"give add_service an instance, or a factory, lambda: Mailer\(host=…\)"),
        (lambda: worker().add_service(Mailer.send), "cannot be called without arguments"),
        (lambda: worker().add_service(Abstract), "Abstract is abstract: host a class that implements it"),
        (lambda: worker().add_service(Trip), r"Trip is a workflow, not a service: add_workflow\(Trip\)"),
        (lambda: worker().add_service(Trip()), r"Trip is a workflow, not a service: add_workflow\(Trip\)"),
        (lambda: worker().add_service(lambda: Trip()), r"Trip is a workflow, not a service: add_workflow\(Trip\)"),
        (lambda: worker().add_service("Mailer"), "its class or a factory, got 'Mailer'"),
        (lambda: worker().add_service(lambda: None), "<lambda> returned None"),
        (lambda: worker().add_workflow(NeedsSeat), r"give add_workflow a factory, lambda: NeedsSeat\(seat=…\)"),
        (lambda: worker().add_workflow(made_of), r"a factory, lambda: made_of\(seat=…\)"),
        (lambda: worker().add_workflow(Trip()), r"give the class Trip, or a factory, lambda: Trip\(…\)"),
        (lambda: worker().add_workflow(Mailer), LIKE_A_SERVICE),
        (lambda: worker().add_workflow(lambda: Mailer("h")), LIKE_A_SERVICE),
        (lambda: worker().add_workflow(Workflow), "derive your own class from it"),
        (lambda: client().new_workflow(Mailer), LIKE_A_SERVICE),
        (lambda: client().get_workflow_by_id(Mailer, "id"), LIKE_A_SERVICE),
        (lambda: client().new_workflow(Trip()), "give the class Trip, not an instance"),
        (lambda: client().new_workflow("Trip"), "A workflow is a subclass of Workflow, got 'Trip'"),
        (lambda: client().get_handle(Trip().book, "id"), "give the method of the class, not of an object"),
        (lambda: Workflow.new_service(Trip), r"and Trip is a workflow\. A client starts it, with client\.new_workflow"),
        (lambda: Workflow.new_service(cast(Any, Mailer("h"))), "got an instance of Mailer: give Mailer itself"),
        (lambda: Workflow.new_service(cast(Any, "Mailer")), "takes the class of a service, got 'Mailer'"),
        (lambda: ServiceDouble(Trip), "Trip is a workflow"),
        (lambda: service(Trip), "Trip is a workflow: use @workflow"),
    ],
)  # fmt: skip
def test_it_says_what_to_give(given: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        given()


def test_an_error_of_a_constructor_is_raised_as_it_is() -> None:
    with pytest.raises(TypeError, match="of its own"):
        worker().add_service(Breaks)


def test_typing_typed_dict_works_or_names_the_one_that_does() -> None:
    class Typed(typing.TypedDict):
        a: int

    if sys.version_info >= (3, 12):
        codec = value_codec(Typed)
        assert codec.decode(codec.encode({"a": 1})) == {"a": 1}
    else:
        with pytest.raises(UsageError, match=r"use `typing_extensions\.TypedDict`"):
            value_codec(Typed)


class Calls(Workflow):
    mailer = Workflow.new_service(Mailer)

    async def plainly(self) -> int:
        return int(await cast(Any, self.mailer.fee()))

    async def as_told(self) -> int:
        return await self.dispatch(self.mailer.fee)


async def test_a_plain_method_that_is_awaited_names_dispatch(sim: Simulation) -> None:
    sim.add_workflow(Calls)
    sim.mock(Mailer).on(Mailer.fee).returns(7)
    with pytest.raises(Exception, match=r"await self\.dispatch\(self\.mailer\.fee, …\) instead"):
        await sim.client.new_workflow(Calls).plainly()
    assert await sim.client.new_workflow(Calls).as_told() == 7
