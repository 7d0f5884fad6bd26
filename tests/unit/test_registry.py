"""Names, options and completeness of services and workflows at registration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Protocol

import pytest

from infinitic import (
    Channel,
    ExponentialBackoff,
    RegistrationError,
    UsageError,
    Worker,
    Workflow,
    service,
    task,
    workflow,
)
from infinitic.definitions.service_contract import contract_of, implementation_of, service_name
from infinitic.definitions.workflow_spec import spec_of
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


class Plain:
    async def run(self) -> None: ...


@service
class Decorated:
    async def run(self) -> None: ...


@service(name="Payments", retry=ExponentialBackoff(maximum_retries=1), attempt_timeout=5)
class Named:
    async def charge(self, cents: int) -> int:  # type: ignore[empty-body]  # pyright: ignore[reportReturnType]  # a contract
        """Bodies of nothing but a docstring implement nothing."""

    @task(name="give_back", attempt_timeout=7, total_timeout=60)
    async def refund(self, cents: int) -> int:  # type: ignore[empty-body]  # pyright: ignore[reportReturnType]  # a contract
        """As above."""


class Abstract(ABC):
    @abstractmethod
    async def run(self) -> None: ...


class Structural(Protocol):
    async def run(self) -> None: ...


class OfDecorated(Decorated):
    async def run(self) -> None:
        return None


class OfNamed(Named):
    async def charge(self, cents: int) -> int:
        return cents

    async def refund(self, cents: int) -> int:
        return -cents


class OfAbstract(Abstract):
    async def run(self) -> None:
        return None


class OfStructural(Structural):
    async def run(self) -> None:
        return None


@service(retry=ExponentialBackoff())
class DecoratedOfNamed(OfNamed):
    pass


class Both(Abstract, Structural):
    async def run(self) -> None:
        return None


@service(name="One")
class BothNamed(Abstract, Structural):
    async def run(self) -> None:
        return None


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (Plain, "Plain"),
        (Decorated, "Decorated"),
        (Named, "Payments"),
        (OfDecorated, "Decorated"),
        (OfNamed, "Payments"),
        (OfAbstract, "Abstract"),
        (OfStructural, "Structural"),
        (DecoratedOfNamed, "Payments"),
        (BothNamed, "One"),
    ],
)
def test_the_name_of_a_service(cls: type[Any], name: str) -> None:
    assert service_name(cls) == name


def test_two_contracts_without_a_name_are_refused() -> None:
    with pytest.raises(RegistrationError, match="Abstract or Structural"):
        service_name(Both)


def test_options_of_a_task_win_over_those_of_its_service_and_the_worker_wins_over_both() -> None:
    tasks = implementation_of(OfNamed()).tasks
    assert sorted(tasks) == ["charge", "give_back"]
    assert (tasks["charge"].attempt_timeout, tasks["give_back"].attempt_timeout) == (5, 7)
    assert tasks["charge"].retry == ExponentialBackoff(maximum_retries=1)
    policy = ExponentialBackoff(maximum_retries=9)
    given = implementation_of(OfNamed(), retry=policy, attempt_timeout=1).tasks["give_back"]
    assert (given.retry, given.attempt_timeout) == (policy, 1)


def test_the_total_timeout_is_read_from_the_contract() -> None:
    contract = contract_of(Named)
    assert contract.tasks["refund"].total_timeout == 60
    assert contract.tasks["charge"].total_timeout is None


class Incomplete(Named):
    async def charge(self, cents: int) -> int:
        return cents


class Nothing:
    def _private(self) -> None: ...


class Generates:
    async def run(self) -> AsyncIterator[int]:
        yield 1


class Unhintable:
    async def run(self, lock: object, what: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037  # pyright: ignore[reportUndefinedVariable, reportUnknownParameterType]


class NeedsArguments:
    def __init__(self, key: str) -> None:
        self.key = key

    async def run(self) -> str:
        return self.key


@pytest.mark.parametrize(
    ("implementation", "words"),
    [
        (Incomplete(), "Incomplete.refund is declared but not implemented"),
        (Nothing(), "no public method"),
        (Generates(), "Generates.run"),
        (Unhintable(), "Missing"),
        (NeedsArguments, "without arguments"),
    ],
)
def test_what_cannot_be_hosted_says_why(implementation: object, words: str) -> None:
    with pytest.raises(RegistrationError, match=words):
        Worker(InMemoryTransport()).add_service(implementation)


@pytest.mark.parametrize("factory", [partial(NeedsArguments, "k"), lambda: NeedsArguments("k"), NeedsArguments("k")])
def test_instances_and_factories_are_taken(factory: object) -> None:
    Worker(InMemoryTransport()).add_service(factory)


def test_two_services_of_one_name_are_refused() -> None:
    worker = Worker(InMemoryTransport())
    worker.add_service(OfNamed())
    with pytest.raises(RegistrationError, match="Payments"):
        worker.add_service(DecoratedOfNamed())


class Empty(Workflow):
    def helper(self) -> None: ...


class Trip(Workflow):
    async def book(self) -> None: ...


@workflow(name="Trip")
class OtherTrip(Workflow):
    async def book(self) -> None: ...


@workflow(name="Trip", version=1)
class NextTrip(Workflow):
    async def book(self) -> None: ...


class NeedsStub(Workflow):
    nothing = Workflow.new_service(Nothing)

    async def book(self) -> None: ...


def test_a_workflow_without_a_public_coroutine_is_refused() -> None:
    with pytest.raises(RegistrationError, match="Empty has no public `async def`"):
        spec_of(Empty)


def test_two_classes_of_one_name_and_version_are_refused() -> None:
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    worker.add_workflow(Trip, NextTrip)
    with pytest.raises(RegistrationError, match="OtherTrip and Trip are both version 0 of the workflow 'Trip'"):
        worker.add_workflow(OtherTrip)


def test_a_stub_of_something_that_is_no_service_is_refused_at_registration() -> None:
    with pytest.raises(RegistrationError, match="Nothing has no public method"):
        spec_of(NeedsStub)


def test_a_workflow_needs_a_storage() -> None:
    with pytest.raises(UsageError, match="storage"):
        Worker(InMemoryTransport()).add_workflow(Trip)


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.5])
def test_concurrency_is_a_whole_number_above_zero(concurrency: Any) -> None:
    with pytest.raises(UsageError, match="concurrency"):
        Worker(InMemoryTransport()).add_service(OfNamed(), concurrency=concurrency)


@pytest.mark.parametrize("wrong", [{"version": -1}, {"retention": -1}, {"replay_check": "loose"}, {"name": ""}])
def test_wrong_arguments_of_the_decorator_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        workflow(**wrong)


LONG = "n" * 256


async def _nothing(self: object) -> None: ...


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (type(LONG, (), {"work": _nothing}), r"The name of a service has 256 bytes.*@service\(name=…\)"),
        (type("Short", (), {LONG: _nothing}), r"The name of a task has 256 bytes.*@task\(name=…\)"),
    ],
)
def test_names_that_no_message_carries_are_refused_where_they_are_read(cls: Any, message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        contract_of(cls)
    with pytest.raises(RegistrationError, match=message):
        implementation_of(cls())


@pytest.mark.parametrize(
    ("name", "members", "message"),
    [
        (LONG, {"run": _nothing}, r"The name of a workflow has 256 bytes.*@workflow\(name=…\)"),
        ("Short", {LONG: _nothing}, r"The name of a method has 256 bytes.*@method\(name=…\)"),
        ("Short", {"run": _nothing, LONG: Channel[int]()}, "The name of a channel has 256 bytes"),
    ],
)
def test_names_of_workflows_are_too(name: str, members: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        spec_of(type(name, (Workflow,), members))


def test_a_version_that_no_decision_carries_is_refused() -> None:
    with pytest.raises(UsageError, match=r"from 0 to 2,147,483,647"):
        workflow(version=2**31)
