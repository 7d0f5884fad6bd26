"""S7: what `@batch` takes, and which batch methods are refused when a service is registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from infinitic import (
    ExponentialBackoff,
    InfiniticError,
    RegistrationError,
    UsageError,
    Worker,
    Workflow,
    batch,
    service,
    task,
)
from infinitic.definitions.batch_methods import BatchMethod
from infinitic.definitions.service_contract import contract_of, implementation_of
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


@service(name="Payments")
class Payments:
    @task(total_timeout=100)
    async def charge(self, euros: int) -> str: ...  # type: ignore[empty-body] # a contract

    async def move(self, euros: int, to: str = "bank", *, urgent: bool = False) -> None: ...

    async def ping(self) -> bool: ...  # type: ignore[empty-body] # a contract


class Base(Payments):
    """What the tests do not care about."""

    async def charge(self, euros: int) -> str:
        return str(euros)

    async def move(self, euros: int, to: str = "bank", *, urgent: bool = False) -> None:
        raise NotImplementedError

    async def ping(self) -> bool:
        return True


def read(cls: type[Any], name: str = "charge") -> BatchMethod:
    found = implementation_of(cls()).tasks[name].batch
    assert found is not None
    return found


def refuse(cls: type[Any]) -> str:
    with pytest.raises(RegistrationError) as caught:
        implementation_of(cls())
    return str(caught.value)


def test_a_batch_is_no_task_and_stands_for_the_method_of_its_task() -> None:
    class Stripe(Payments):
        @task(retry=ExponentialBackoff(maximum_retries=7), attempt_timeout=5)
        @batch("charge", max_messages=20, max_seconds=timedelta(seconds=3))
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str | Exception]:
            return {}

        @batch("move")
        def _move_all(self, moves: Mapping[str, tuple[int, str, bool]]) -> Mapping[str, None]:
            return {}

        @batch("ping")
        @staticmethod
        async def ping_all(pings: dict[str, tuple[()]]) -> dict[str, bool]:
            return {}

    whole = implementation_of(Stripe())
    assert whole.name == "Payments"
    assert set(whole.tasks) == set(contract_of(Stripe).tasks) == {"charge", "move", "ping"}
    charge, move, ping = (whole.tasks[name] for name in ("charge", "move", "ping"))
    assert charge.batch is not None
    assert move.batch is not None
    assert ping.batch is not None
    assert (charge.batch.max_messages, charge.batch.max_seconds, charge.batch.is_coroutine) == (20, 3.0, True)
    assert (move.batch.max_messages, move.batch.max_seconds, move.batch.is_coroutine) == (1000, 1.0, False)
    assert isinstance(charge.retry, ExponentialBackoff)
    assert (charge.retry.maximum_retries, charge.attempt_timeout) == (7, 5.0)
    # The argument itself, or a tuple of all of them, with defaults.
    assert charge.batch.join_arguments((3,), {}) == charge.batch.join_arguments((), {"euros": 3}) == 3
    assert move.batch.join_arguments((3,), {}) == (3, "bank", False)
    assert move.batch.join_arguments((3,), {"urgent": True}) == (3, "bank", True)
    assert move.batch.join_arguments((3, "me"), {"urgent": True}) == (3, "me", True)
    assert ping.batch.join_arguments((), {}) == ()


def test_a_batch_method_that_is_overridden_stays_one() -> None:
    class First(Base):
        @batch("charge", max_messages=3)
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
            return {}

    class Second(First):
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
            return {"": ""}

    class Third(First):
        @batch("charge", max_messages=4)
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
            return {"": ""}

    assert set(implementation_of(Second()).tasks) == {"charge", "move", "ping"}
    assert (read(Second).max_messages, read(Third).max_messages) == (3, 4)
    second = Second()
    found = implementation_of(second).tasks["charge"].batch
    assert found is not None
    assert found.function == second.charge_all


class Declined(Exception):
    pass


def declare(parameter: Any, result: Any, *, name: str = "charge", plain: bool = False) -> type[Any]:
    async def wait(self: object, tasks: Any) -> Any:
        return {}

    def block(self: object, tasks: Any) -> Any:
        return {}

    method = block if plain else wait
    method.__annotations__ = {"tasks": parameter, "return": result}
    return type("Stripe", (Base,), {"charge_all": batch(name)(method)})


@pytest.mark.parametrize(
    ("parameter", "result", "plain"),
    [
        (dict[str, int], dict[str, str], False),
        (dict[str, int], dict[str, str], True),
        (dict[str, int], Awaitable[dict[str, str]], True),
        (Mapping[str, int], MappingProxyType[str, str], False),
        (dict[str, object], dict[str, str | Declined | ValueError], False),
        (dict[str, int | None], dict[str, Any], False),
        (dict[str, float | int], dict[str, Declined], False),
        (dict, dict, False),
        (Any, Any, False),
        (object, dict[Any, BaseException | str], False),
    ],
)
def test_hints_that_fit_are_taken(parameter: Any, result: Any, plain: bool) -> None:
    assert read(declare(parameter, result, plain=plain)).name == "Stripe.charge_all"


@pytest.mark.parametrize(
    ("parameter", "result", "problem"),
    [
        (list[int], dict[str, str], "takes list[int]"),
        (int, dict[str, str], "takes int"),
        (dict[int, int], dict[str, str], "takes dict[int, int]"),
        (dict[str, str], dict[str, str], "takes dict[str, str]"),
        (dict[str, tuple[int, int]], dict[str, str], "takes dict[str, tuple[int, int]]"),
        (Sequence[int], dict[str, str], "takes Sequence[int]"),
        (dict[str, int], list[str], "returns list[str]"),
        (dict[str, int], None, "returns None"),
        (dict[str, int], dict[str, int], "returns dict[str, int]"),
        (dict[str, int], dict[str, str | None], "returns dict[str, str | None]"),
        (dict[str, int], str, "returns str"),
    ],
)
def test_hints_that_do_not_fit_are_refused_with_those_that_would(parameter: Any, result: Any, problem: str) -> None:
    assert refuse(declare(parameter, result)) == (
        f"Stripe.charge_all is the batch of the task 'charge', and {problem}. Declare it like this: async def "
        "charge_all(self, tasks: dict[str, int]) -> dict[str, str]"
    )


def test_the_arguments_of_a_task_with_several_are_a_tuple() -> None:
    message = refuse(declare(dict[str, int], dict[str, None], name="move"))
    assert message.endswith("(self, tasks: dict[str, tuple[int, str, bool]]) -> dict[str, None]")
    message = refuse(declare(dict[str, int], dict[str, bool], name="ping"))
    assert message.endswith("(self, tasks: dict[str, tuple[()]]) -> dict[str, bool]")


async def none(self: object) -> dict[str, str]:
    return {}


async def two(self: object, orders: dict[str, int], limit: int) -> dict[str, str]:
    return {}


async def named(self: object, *, orders: dict[str, int]) -> dict[str, str]:
    return {}


async def many(self: object, *orders: dict[str, int]) -> dict[str, str]:
    return {}


def generate(self: object, orders: dict[str, int]) -> Any:
    yield {}


async def unwritten(self: object, orders: dict[str, int]) -> dict[str, str]: ...  # type: ignore[empty-body] # the mistake


async def unreadable(self: object, orders: Any) -> dict[str, str]:
    return {}


unreadable.__annotations__["orders"] = "dict[str, Nowhere]"


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        (none, "must take one argument, the tasks by their id (its parameters: none)"),
        (two, "must take one argument, the tasks by their id (its parameters: orders: 'dict[str, int]', limit: 'int')"),
        (named, "must take one argument"),
        (many, "must take one argument"),
        (generate, "is a generator function, which cannot return a dict"),
        (unwritten, "is declared but not implemented"),
        (unreadable, "has type hints that cannot be read"),
    ],
)
def test_wrong_signatures_are_refused(method: Callable[..., Any], problem: str) -> None:
    assert problem in refuse(type("Stripe", (Base,), {"charge_all": batch("charge")(method)}))


def test_a_task_that_takes_any_number_of_arguments_has_no_batch() -> None:
    class Stripe:
        async def charge(self, *euros: int) -> str:
            return ""

        @batch("charge")
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
            return {}

    assert "which takes any number of arguments" in refuse(Stripe)


def test_an_unknown_task_is_refused() -> None:
    class Stripe(Base):
        @batch("charg")
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
            return {}

    message = refuse(Stripe)
    assert message.endswith('@batch("charg") names no task of this service: it has charge, move, ping')

    class Renamed:
        @task(name="charge-v2")
        async def charge(self, euros: int) -> str:
            return ""

        @batch("charge")
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
            return {}

    assert refuse(Renamed).endswith('names no task of this service: it is called "charge-v2" in messages')


def test_two_batches_of_one_task_are_refused() -> None:
    class Stripe(Base):
        @batch("charge")
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
            return {}

        @batch("charge")
        async def charge_some(self, orders: dict[str, int]) -> dict[str, str]:
            return {}

    assert refuse(Stripe).endswith("has two batches of the task 'charge': charge_all and charge_some")


def test_options_of_the_task_do_not_stand_at_its_batch() -> None:
    async def charge_all(self: object, orders: dict[str, int]) -> dict[str, str]:
        return {}

    for decorator in (task(name="other"), task(total_timeout=3)):
        method = decorator(batch("charge")(charge_all))
        assert "belong to its own method" in refuse(type("Stripe", (Base,), {"charge_all": method}))


def test_a_contract_without_code_needs_no_single_method_but_an_abstract_one_does() -> None:
    class Abstract(ABC):
        @abstractmethod
        async def charge(self, euros: int) -> str: ...

    class Incomplete(Abstract):
        @batch("charge")
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
            return {}

    class Complete(Incomplete):
        async def charge(self, euros: int) -> str:
            raise NotImplementedError

    worker = Worker(InMemoryTransport(), InMemoryStorage())
    with pytest.raises(RegistrationError, match="is abstract"):
        worker.add_service(Incomplete)
    worker.add_service(Complete)

    class Half(Payments):
        @batch("charge")
        async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
            return {}

    assert refuse(Half).endswith("move is declared but not implemented")


def test_a_workflow_has_no_batches() -> None:
    class Trip(Workflow):
        async def run(self) -> None: ...

        @batch("run")
        async def run_all(self, runs: dict[str, tuple[()]]) -> dict[str, None]:
            return {}

    with pytest.raises(RegistrationError, match="run_all: @batch is for services, and this is a workflow"):
        Worker(InMemoryTransport(), InMemoryStorage()).add_workflow(Trip)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((two,), {}, r'@batch takes the name of a task, @batch\("charge"\), got <function'),
        (("",), {}, "The name in @batch"),
        (("charge",), {"max_messages": 0}, "max_messages in @batch must be a whole number from 1 to 10,000, got 0"),
        (("charge",), {"max_messages": 10_001}, "got 10001"),
        (("charge",), {"max_messages": True}, "got True"),
        (("charge",), {"max_messages": 2.5}, "got 2.5"),
        (("charge",), {"max_seconds": -1}, "max_seconds in @batch cannot be below zero, got -1"),
        (("charge",), {"max_seconds": "1"}, "A duration is"),
    ],
)
def test_senseless_values_are_refused_at_the_decorator(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        batch(*arguments, **options)


def test_a_class_cannot_be_a_batch() -> None:
    with pytest.raises(InfiniticError, match="@batch is for methods, not for the class Payments"):
        batch("charge")(Payments)


class Stripe(Base):
    @batch("charge", max_messages=20, max_seconds=3)
    async def charge_all(self, orders: dict[str, int]) -> dict[str, str]:
        return {}


def limits_of(worker: Worker) -> tuple[int, float]:
    found = worker._hosted.services["Payments"].implementation.tasks["charge"].batch  # pyright: ignore[reportPrivateUsage]
    assert found is not None
    return found.max_messages, found.max_seconds


def test_limits_given_to_the_worker_win() -> None:
    def host(**limits: Any) -> tuple[int, float]:
        worker = Worker(InMemoryTransport())
        worker.add_service(Stripe, **limits)
        return limits_of(worker)

    assert host() == (20, 3.0)
    assert host(batch_max_messages=5) == (5, 3.0)
    assert host(batch_max_seconds=timedelta(milliseconds=50)) == (20, 0.05)
    with pytest.raises(UsageError, match="batch_max_messages must be a whole number from 1 to 10,000, got 0"):
        host(batch_max_messages=0)
    with pytest.raises(UsageError, match="batch_max_seconds cannot be below zero"):
        host(batch_max_seconds=-1)
    with pytest.raises(RegistrationError, match="The service 'Payments' has no method with @batch"):
        Worker(InMemoryTransport()).add_service(Base, batch_max_messages=5)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [("", (20, 3.0)), ("batch: {max_messages: 7}", (7, 3.0)), ("batch: {maxMessages: 7, maxSeconds: 0.5}", (7, 0.5))],
)
def test_limits_of_a_configuration_win(limits: str, expected: tuple[int, float]) -> None:
    text = f"""\
transport: {{in_memory: {{name: batches}}}}
services:
  - name: Payments
    executor: {{class: "{__name__}.Stripe"{", " if limits else ""}{limits}}}
"""
    assert limits_of(Worker.from_config(text=text)) == expected
