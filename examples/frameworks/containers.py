"""Services get what they need by their constructors: from plain functions, or from a container.

The container is Dishka. Run it with ``python -m examples.frameworks.containers``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dishka import Container, Provider, Scope, make_container

from infinitic import Client, Worker, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


@dataclass(frozen=True)
class Settings:
    sender: str = "shop@example.com"


class MailServer:
    """A connection that all tasks share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sent: list[str] = []

    async def deliver(self, to: str, text: str) -> None:
        self.sent.append(f"{self.settings.sender} to {to}: {text}")


@dataclass
class Session:
    """A database session: each attempt of a task has its own."""

    log: list[str]

    def save(self, text: str) -> None:
        self.log.append(text)

    def close(self) -> None:
        self.log.append("closed")


class Mailer(Protocol):
    """The contract: what workflows know of the service."""

    async def send(self, to: str, text: str) -> None: ...


class Greeting(Workflow):
    mailer = Workflow.new_service(Mailer)

    async def greet(self, name: str) -> str:
        await self.mailer.send(name, f"Hello {name}")
        return "greeted"


# By plain functions: one function for each service says what it is made of.


class SmtpMailer(Mailer):
    def __init__(self, server: MailServer) -> None:
        self.server = server

    async def send(self, to: str, text: str) -> None:
        await self.server.deliver(to, text)


def make_mailer() -> SmtpMailer:
    """Make the service. A configuration names this function: ``class: shop.wiring.make_mailer``."""
    return SmtpMailer(MailServer(Settings()))


# By a container: it looks at constructors, and makes what they ask for.


class SavingMailer(Mailer):
    def __init__(self, server: MailServer, container: Container) -> None:
        self.server = server
        self.container = container

    async def send(self, to: str, text: str) -> None:
        with self.container() as attempt:  # what is made in here ends with this attempt
            attempt.get(Session).save(to)
            await self.server.deliver(to, text)


def make_shop_container(log: list[str]) -> Container:
    """Say what the container can make, and how long it lives."""

    def open_session() -> Iterator[Session]:
        session = Session(log)
        yield session
        session.close()

    provider = Provider(scope=Scope.APP)
    provider.provide(lambda: Settings(), provides=Settings)
    provider.provide(MailServer)
    provider.provide(SavingMailer)
    provider.provide(open_session, provides=Session, scope=Scope.REQUEST)
    return make_container(provider)


async def scenario(client: Client) -> dict[str, str]:
    return {"Ada": await client.new_workflow(Greeting).greet("Ada")}


async def run(make_service: Callable[[], Mailer]) -> dict[str, str]:
    """Play the scenario with a service that is made by a function."""
    async with InMemoryTransport() as transport, InMemoryStorage() as storage:
        worker = Worker(transport, storage)
        worker.add_service(make_service)
        worker.add_workflow(Greeting)
        async with worker.running():
            return await scenario(worker.client)


async def main() -> None:
    print("by a function:", await run(make_mailer))
    log: list[str] = []
    container = make_shop_container(log)
    print("by a container:", await run(lambda: container.get(SavingMailer)))
    print("sent:", container.get(MailServer).sent)
    print("saved:", log)
    container.close()


if __name__ == "__main__":
    asyncio.run(main())
