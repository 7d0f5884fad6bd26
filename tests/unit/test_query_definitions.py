"""`@query`: what it takes, what clients may do with it, and what each mistake is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from infinitic import Client, RegistrationError, UsageError, Workflow, query
from infinitic.definitions.workflow_spec import spec_of
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport


class Trip(Workflow):
    points: int = 0

    async def book(self) -> int:
        return self.points

    @query
    def balance(self) -> int:
        return self.points

    @query(name="history")
    def list_all(self, most: int = 10) -> list[int]:
        return [self.points][:most]


class LongTrip(Trip):
    def balance(self) -> int:
        return -self.points


def test_queries_are_read_by_their_names_in_messages() -> None:
    assert {name: each.attribute for name, each in spec_of(Trip).queries.items()} == {
        "balance": "balance",
        "history": "list_all",
    }
    assert set(spec_of(Trip).methods) == {"book"}


def test_an_override_of_a_query_is_a_query() -> None:
    assert set(spec_of(LongTrip).queries) == {"balance", "history"}


def test_a_query_that_is_a_coroutine_is_refused_where_it_is_declared() -> None:
    with pytest.raises(RegistrationError, match=r"balance is `async def`: a query answers at once"):

        @query
        async def balance(self: Any) -> int:
            return 1

    class Bad(Trip):
        async def balance(self) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # this is the mistake
            return 1

    with pytest.raises(RegistrationError, match=r"Bad.balance is `async def`"):
        spec_of(Bad)


def test_what_is_no_plain_method_is_refused() -> None:
    with pytest.raises(RegistrationError, match="plain method"):
        query(property(lambda self: 1))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]  # this is the mistake

    class Generator(Workflow):
        async def run(self) -> None: ...

        @query
        def each(self) -> Iterator[int]:
            yield 1

    with pytest.raises(RegistrationError, match="generator function"):
        spec_of(Generator)

    class Private(Workflow):
        async def run(self) -> None: ...

        @query
        def _hidden(self) -> int:
            return 1

    with pytest.raises(RegistrationError, match=r"_hidden is private: .* Remove the underscore"):
        spec_of(Private)

    class Twice(Workflow):
        async def run(self) -> None: ...

        @query
        def one(self) -> int:
            return 1

        @query(name="one")
        def two(self) -> int:
            return 2

    with pytest.raises(RegistrationError, match="two queries named 'one'"):
        spec_of(Twice)
    with pytest.raises(UsageError, match="The name in @query must be non-empty text"):
        query(name="")


async def check_a_query_is_neither_awaited_nor_dispatched() -> None:
    client: Any = Client(InMemoryTransport())
    stub = client.get_workflow_by_id(Trip, "t1")
    with pytest.raises(UsageError, match=r"Trip.balance is a query: it is asked by await client.query\(stub.balance"):
        await stub.balance()
    with pytest.raises(UsageError, match=r"Trip.balance is a query: it is asked by"):
        await stub.balance
    with pytest.raises(UsageError, match=r"Trip.balance is a query, and dispatch starts methods"):
        await client.dispatch(stub.balance)


async def check_only_a_query_of_an_instance_can_be_asked() -> None:
    client: Any = Client(InMemoryTransport())
    stub = client.get_workflow_by_id(Trip, "t1")
    with pytest.raises(UsageError, match=r"Trip.book is a method, not a query"):
        await client.query(stub.book)
    with pytest.raises(UsageError, match=r"query takes a query of a stub, .* got <function Trip.balance"):
        await client.query(Trip.balance)
    with pytest.raises(UsageError, match=r"a query asks a workflow that was started"):
        await client.query(client.new_workflow(Trip).balance)
    with pytest.raises(
        UsageError, match=r"no public coroutine, query or channel 'total'; it has balance, book, list_all"
    ):
        await client.query(stub.total)
    with pytest.raises(UsageError, match="has no argument 'least'"):
        await client.query(stub.list_all, least=1)
    with pytest.raises(UsageError, match=r"argument 'most'"):
        await client.query(stub.list_all, "ten")
    with pytest.raises(UsageError, match="not open"):
        await client.query(stub.balance)


def test_a_query_is_neither_awaited_nor_dispatched() -> None:
    run(check_a_query_is_neither_awaited_nor_dispatched())


def test_only_a_query_of_an_instance_can_be_asked() -> None:
    run(check_only_a_query_of_an_instance_can_be_asked())
