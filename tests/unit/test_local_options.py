"""Which tasks are local, and which cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from infinitic import RegistrationError, UsageError, Worker, batch, service, task
from infinitic.definitions.service_contract import implementation_of
from infinitic_transports.memory import InMemoryTransport


@service(local=True)
class Mostly:
    async def one(self) -> int:
        return 1

    @task(local=False)
    async def two(self) -> int:
        return 2


def test_a_task_wins_over_its_service_and_a_worker_over_both() -> None:
    def locals_of(local: bool | None) -> list[str]:
        return [name for name, each in implementation_of(Mostly(), local=local).tasks.items() if each.local]

    assert locals_of(None) == ["one"]
    assert locals_of(True) == ["one", "two"]
    assert locals_of(False) == []


class Slow:
    @task(local=True, total_timeout=5.1)
    async def wait(self) -> None: ...


class Delegated:
    @task(local=True, delegated=True)
    async def begin(self) -> None: ...


class Beating:
    @task(local=True, heartbeat_timeout=10)
    async def beat(self) -> None: ...


class Batched:
    @task(local=True)
    async def send(self, text: str) -> str:
        return text

    @batch("send")
    async def send_all(self, texts: dict[str, str]) -> dict[str, str]:
        return texts


@pytest.mark.parametrize(
    ("implementation", "why"),
    [
        (Slow, "Slow.wait cannot be local, since its total_timeout of 5.1 s is above 5 s"),
        (Delegated, "Delegated.begin cannot be local, since it is delegated"),
        (Beating, "Beating.beat cannot be local, since it has a heartbeat_timeout"),
        (Batched, "Batched.send cannot be local, since it has a batch"),
    ],
)
def test_a_task_that_cannot_be_local_is_refused_with_the_reason(implementation: type[Any], why: str) -> None:
    with pytest.raises(RegistrationError, match=why):
        Worker(InMemoryTransport()).add_service(implementation)
    # Where the worker says otherwise, it runs as ever.
    Worker(InMemoryTransport()).add_service(implementation, local=False)


class OfOther:
    @task(total_timeout=5.0)
    async def quick(self) -> None: ...

    @task(delegated=True)
    async def begin(self) -> None: ...


def test_what_a_worker_says_of_all_tasks_is_checked_for_each() -> None:
    with pytest.raises(RegistrationError, match=r"OfOther.begin cannot be local"):
        Worker(InMemoryTransport()).add_service(OfOther, local=True)


@pytest.mark.parametrize("given", ["yes", 1])
def test_local_is_a_flag(given: Any) -> None:
    with pytest.raises(UsageError, match="local in @task must be True or False"):
        task(local=given)
    with pytest.raises(UsageError, match="local of a service must be True or False"):
        Worker(InMemoryTransport()).add_service(Mostly, local=given)
