"""What to do when tasks fail: retry policies, a timeout for each attempt, and permanent errors.

Run it with ``python examples/retries.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from infinitic import Client, ExponentialBackoff, TaskFailedError, Worker, Workflow, task, task_context
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

ATTEMPT_TIMEOUT = 0.3
"""Seconds that one attempt may take."""


class CardStolen(Exception):
    """Trying again will not help."""


PATIENT = ExponentialBackoff(
    minimum_seconds=0.1,  # 0.1 s after the first failure, then 0.2 s, 0.4 s, ... spread by a random factor
    maximum_seconds=60,
    maximum_retries=5,
    ignored_exceptions=(CardStolen,),  # final at once
)


class Payments(Protocol):
    async def charge(self, amount: int) -> str: ...
    async def receipt(self, amount: int) -> str: ...
    async def block(self, card: str) -> None: ...


class Bank(Payments):
    def __init__(self) -> None:
        self._charged: dict[str, int] = {}

    @task(retry=PATIENT)  # a policy given to worker.add_service(...) overrides it
    async def charge(self, amount: int) -> str:
        context = task_context()
        attempt = context.retry_index + 1
        if context.last_failure is not None:
            print(f"  charge, attempt {context.retry_index} failed: {context.last_failure.exception}")
        key = context.task_id  # the same in every attempt: an idempotency key
        if key in self._charged:
            print(f"  charge, attempt {attempt}: this key is known, so nothing is charged again")
        else:
            print(f"  charge, attempt {attempt}: {amount} is charged")
            self._charged[key] = amount
        if attempt <= 2:
            raise ConnectionError("the answer was lost")
        return f"{amount} charged, answered at attempt {attempt}"

    @task(retry=PATIENT, attempt_timeout=ATTEMPT_TIMEOUT)
    async def receipt(self, amount: int) -> str:
        attempt = task_context().retry_index + 1
        if attempt == 1:
            print("  receipt, attempt 1: the printer hangs")
            await asyncio.sleep(3600)  # cancelled by the timeout, then retried
        print(f"  receipt, attempt {attempt}: printed")
        return f"receipt for {amount}, printed at attempt {attempt}"

    @task(retry=PATIENT)
    async def block(self, card: str) -> None:
        print(f"  block, attempt {task_context().retry_index + 1}: {card} is stolen")
        raise CardStolen(card)


class Purchase(Workflow):
    payments = Workflow.new_service(Payments)

    async def pay(self, amount: int) -> list[str]:
        # Nothing about retries here: the service decides about them.
        charged = await self.payments.charge(amount)
        receipt = await self.payments.receipt(amount)
        try:
            await self.payments.block("card 42")
        except TaskFailedError as error:
            failure = error.last_failure
            return [charged, receipt, f"{failure.exception}, final at attempt {failure.retry_index + 1}"]
        return [charged, receipt, "blocked"]


SERVICES: list[Callable[[], object]] = [Bank]
WORKFLOWS: list[type[Workflow]] = [Purchase]


async def scenario(client: Client) -> dict[str, str]:
    """A purchase during which everything goes wrong once."""
    charge, receipt, block = await client.new_workflow(Purchase).pay(420)
    return {"charge": charge, "receipt": receipt, "block": block}


async def main() -> None:
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    for implementation in SERVICES:
        worker.add_service(implementation)
    for workflow in WORKFLOWS:
        worker.add_workflow(workflow)
    async with worker.running():
        print("A bank on a bad day:")
        outcome = await scenario(worker.client)
    for what, result in outcome.items():
        print(f"{what}: {result}")


if __name__ == "__main__":
    asyncio.run(main())
