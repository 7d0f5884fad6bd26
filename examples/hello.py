"""The smallest complete program: a service, a workflow that uses it, a worker and a client.

Run it with ``python examples/hello.py``. Broker and storage are in the same process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from infinitic import Client, Worker, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

PAUSE = 0.5
"""Seconds. It could be a month: a workflow that sleeps costs nothing and survives restarts."""


class Greeter(Protocol):
    """The contract: all that a workflow knows of a service."""

    async def greet(self, name: str) -> str: ...
    async def part(self, name: str) -> str: ...


class EnglishGreeter(Greeter):
    """The implementation: plain methods, which may do anything. They can run on any machine."""

    async def greet(self, name: str) -> str:
        print(f"  task greet: {name} comes in")
        return f"Hello, {name}!"

    async def part(self, name: str) -> str:
        print(f"  task part: {name} leaves")
        return f"Goodbye, {name}."


class Visit(Workflow):
    """The workflow: ordinary asyncio code. If its process dies, another one resumes it."""

    greeter = Workflow.new_service(Greeter)

    async def receive(self, name: str) -> list[str]:
        hello = await self.greeter.greet(name)
        await asyncio.sleep(PAUSE)  # in a workflow this is a durable timer
        goodbye = await self.greeter.part(name)
        return [hello, goodbye]


SERVICES: list[Callable[[], object]] = [EnglishGreeter]
WORKFLOWS: list[type[Workflow]] = [Visit]


async def scenario(client: Client) -> dict[str, str]:
    """Two visits at once."""
    ada, grace = await asyncio.gather(
        client.new_workflow(Visit).receive("Ada"),
        client.new_workflow(Visit).receive("Grace"),
    )
    return {"Ada": " ".join(ada), "Grace": " ".join(grace)}


async def main() -> None:
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    for service in SERVICES:
        worker.add_service(service)
    for workflow in WORKFLOWS:
        worker.add_workflow(workflow)
    async with worker.running():
        print("Two visitors:")
        outcome = await scenario(worker.client)
    for visitor, words in outcome.items():
        print(f"{visitor} heard: {words}")


if __name__ == "__main__":
    asyncio.run(main())
