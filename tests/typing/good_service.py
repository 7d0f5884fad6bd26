"""Services: decorators keep what they decorate. Only checked, see `shop`."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from decimal import Decimal
from typing import Any, assert_type

from infinitic import ExponentialBackoff, TaskContext, Worker, batch, service, task, task_context
from infinitic_testing.doubles import MethodDouble, ServiceDouble
from infinitic_testing.simulation import Simulation
from tests.typing.shop import Flight, Flights, Hotel, Hotels, Payments, Request, Trip


def never(retry_index: int, error: Exception) -> float | None:
    return None


@service
class Bare:
    @task
    async def one(self, x: int, /, *, y: str = "") -> str:
        return f"{x}{y}"

    @task(retry=ExponentialBackoff(maximum_retries=5, ignored_exceptions=(ValueError, "Refused")), attempt_timeout=30)
    async def two(self, x: int) -> list[int]:
        assert_type(task_context(), TaskContext)
        assert_type(task_context().meta, dict[str, bytes])
        return [x]

    @task(name="drei", retry=never, total_timeout=timedelta(days=1))
    def three(self, *xs: int) -> int:
        return sum(xs)

    @task
    @staticmethod
    def four(x: int) -> bytes:
        return bytes(x)

    @classmethod
    @task()
    async def five(cls, x: int) -> float:
        return x / 2

    @task
    @classmethod
    def seven(cls, x: int) -> bytes:
        return bytes(x)

    @staticmethod
    @task(name="sechs")
    def six(x: int) -> float:
        return x / 2


class Batched(Bare):
    @task(retry=never, attempt_timeout=30)
    @batch("two", max_messages=100, max_seconds=timedelta(milliseconds=500))
    async def two_by_two(self, numbers: dict[str, int]) -> dict[str, list[int] | Exception]:
        assert_type(task_context("id"), TaskContext)
        assert_type(task_context("id").batch_key, bytes | None)
        return {task_id: [number] for task_id, number in numbers.items()}


@service(name="Named", retry=ExponentialBackoff(), attempt_timeout=1.5, total_timeout=timedelta(hours=1))
class Named:
    async def one(self) -> None: ...


async def decorators_keep_signatures() -> None:
    bare = Bare()
    assert_type(bare, Bare)
    assert_type(Named(), Named)
    called: Coroutine[Any, Any, str] = bare.one(1)
    assert_type(await called, str)
    assert_type(await bare.one(1, y=""), str)
    assert_type(await bare.two(x=1), list[int])
    assert_type(bare.three(1, 2), int)
    assert_type(bare.four(1), bytes)
    assert_type(await bare.five(1), float)
    assert_type(bare.six(1), float)
    assert_type(bare.seven(1), bytes)
    assert_type(await Batched().two_by_two({}), dict[str, list[int] | Exception])


class RealFlights(Flights):
    """An implementation narrows and is checked as any subclass."""

    async def book(self, request: Request) -> Flight:
        return Flight(request.city)

    async def refund(self, flight: Flight, /, *, reason: str = "") -> None: ...

    def price(self, request: Request, currency: str = "EUR") -> Decimal:
        return Decimal(request.nights)


class RealHotels:
    """Implements the Protocol by its shape."""

    async def book(self, request: Request) -> Hotel:
        return Hotel(request.city)


def hosting(worker: Worker, sim: Simulation) -> None:
    worker.add_service(RealFlights())
    worker.add_service(RealHotels, concurrency=5, retry=never, attempt_timeout=timedelta(seconds=1))
    worker.add_service(lambda: Payments())
    worker.add_workflow(Trip, lambda: Trip(), retention=60)
    assert_type(sim.mock(Flights), ServiceDouble)
    assert_type(sim.mock(Payments).charge, MethodDouble[..., Any])
    assert_type(sim.mock(Payments).charge.raises(ValueError).returns("done"), MethodDouble[..., Any])


async def answering(sim: Simulation) -> None:
    async def charge(amount: Decimal, *, card: str) -> str:
        return f"{card} {amount}"

    payments, flights, hotels = sim.mock(Payments), sim.mock(Flights), sim.mock(Hotels)
    payments.on(Payments.charge).returns("done").raises(ValueError).runs(charge)
    payments.on(Payments.fee).returns(Decimal(1)).runs(lambda *amounts: sum(amounts, Decimal()))
    flights.on(Flights.book).returns(Flight("AF1")).runs(lambda request: Flight(request.city))
    flights.on(Flights.price).returns(Decimal(1))
    hotels.on(Hotels.stars).returns(5)
    hotels.on(Hotels.later).returns("soon")
    assert_type(len(payments.on(Payments.charge).calls), int)
