"""Errors in services, with the reports of both type checkers. Only checked, see `shop`."""

from __future__ import annotations

from infinitic import ExponentialBackoff, Worker, batch, service, task, task_context
from infinitic_testing.simulation import Simulation
from tests.typing.shop import Flight, Flights, Request, Trip


def no_policy(retry_index: str) -> float:
    return 1.0


@service("Named")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportUntypedClassDecorator]
class Positional:
    @task("one")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
    async def one(self) -> None: ...

    @task(retry=no_policy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async def two(self) -> None: ...

    @task(retry=3)  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
    async def three(self) -> None: ...

    @task(attempt_timeout="30 s")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
    async def four(self) -> None: ...

    @task(timeout=3)  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
    async def five(self) -> None: ...

    @batch  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async def many(self, tasks: dict[str, int]) -> dict[str, int]:  # type: ignore[misc]
        return tasks

    @batch("six", max_messages="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async def more(self, tasks: dict[str, int]) -> dict[str, int]:
        return tasks

    @task
    async def six(self, x: int) -> int:
        return x


@service(name=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
class Numbered: ...


@service  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
def function() -> None: ...


class Halfway(Flights):
    async def book(self, request: str) -> Flight:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return Flight(request)


async def calling(worker: Worker, sim: Simulation) -> None:
    await Positional().six("6")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _text: str = await Positional().six(6)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    Halfway()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
    ExponentialBackoff(maximum_retries="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ExponentialBackoff(ignored_exceptions=(3,))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    task_context().meta["key"] = "text"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    _ = task_context().worker  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    worker.add_workflow(Request)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    worker.add_workflow("Trip")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    worker.add_workflow(Trip, retention="1 d")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    worker.add_service(Halfway, concurrency="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sim.add_workflow(Flights)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    flights = sim.mock(Flights)
    flights.on(Flights.book).returns("AF1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    flights.on(Flights.book).returns(Flight)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    flights.on(Flights.price).returns(3.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    flights.on(Flights.book).runs(lambda request: request)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    flights.on(Flights.book).runs(lambda: Flight(""))  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    flights.on(Flights.refund).raises("gone")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    flights.on("book")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await sim.sleep("1 d")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
