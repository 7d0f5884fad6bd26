"""Many tasks in one call: letters of many readers go to the mail service a few at a time.

Run it with ``python examples/newsletter.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from infinitic import Client, ExponentialBackoff, TaskFailedError, Worker, Workflow, batch, service, task, task_context
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


class NoSuchAddress(Exception):
    """Trying again will not help."""


@service(name="Mail")
class Mail:
    """What workflows see: one letter at a time."""

    async def send(self, address: str, text: str) -> str:
        raise NotImplementedError


class BulkMail(Mail):
    """What runs: one request for up to 5 letters. A letter waits half a second at most."""

    @task(retry=ExponentialBackoff(minimum_seconds=0.1, maximum_retries=3, ignored_exceptions=(NoSuchAddress,)))
    @batch("send", max_messages=5, max_seconds=0.5)
    async def send_all(self, letters: dict[str, tuple[str, str]]) -> dict[str, str | Exception]:
        addresses = [address or "nobody" for address, _ in letters.values()]
        print(f"  one request: {', '.join(addresses)}")
        return {task_id: self._send(task_id, address) for task_id, (address, _) in letters.items()}

    def _send(self, task_id: str, address: str) -> str | Exception:
        # The result of each letter is its own, and so are its failures and retries.
        attempt = task_context(task_id).retry_index + 1
        if not address:
            return NoSuchAddress("a letter needs one")
        if address == "Grace" and attempt == 1:
            return ConnectionError("her mailbox is full")
        return f"sent to {address} at attempt {attempt}"


class Subscription(Workflow):
    """One reader. It knows nothing of batches."""

    mail = Workflow.new_service(Mail)

    async def greet(self, reader: str) -> str:
        try:
            return await self.mail.send(reader, "Welcome!")
        except TaskFailedError as error:
            return f"not sent: {error.last_failure.exception}"


SERVICES: list[Callable[[], object]] = [BulkMail]
WORKFLOWS: list[type[Workflow]] = [Subscription]
READERS = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Margaret", "")


async def scenario(client: Client) -> dict[str, str]:
    """Greet some readers at once."""
    greet = client.new_workflow(Subscription).greet
    handles = [await client.dispatch(greet, reader) for reader in READERS]
    return {reader or "nobody": await handle.result() for reader, handle in zip(READERS, handles, strict=True)}


async def main() -> None:
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    for implementation in SERVICES:
        worker.add_service(implementation)
    for workflow in WORKFLOWS:
        worker.add_workflow(workflow)
    async with worker.running():
        print("Letters to seven readers:")
        outcome = await scenario(worker.client)
    for reader, result in outcome.items():
        print(f"{reader}: {result}")


if __name__ == "__main__":
    asyncio.run(main())
