"""Work outside of workers, and a long task that goes on where it stopped.

A laboratory develops films: the task only sends the order, and the laboratory ends it later, by a
token. Then all frames are scanned, and the scanner breaks down in between.

Run it with ``python examples/film_lab.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, Protocol

from infinitic import Client, ExponentialBackoff, TaskFailedError, Worker, Workflow, task, task_context
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


class Laboratory(Protocol):
    """What the workflow knows of the laboratory."""

    async def develop(self, film: str) -> int: ...


class LaboratoryByMail(Laboratory):
    """Sends orders. The answer comes from somebody else, perhaps days later."""

    mails: ClassVar[dict[str, str]] = {}
    """The token of each film. In a real program it is part of a link in the mail."""

    @task(delegated=True)
    async def develop(self, film: str) -> int:
        self.mails[film] = task_context().delegation_token
        return 0  # ignored


class Scanner:
    """Scans frame after frame, and says after each how far it is."""

    scanned: ClassVar[list[int]] = []

    @task(heartbeat_timeout=10, retry=ExponentialBackoff(minimum_seconds=0.1, maximum_retries=100))
    async def scan(self, frames: int) -> int:
        context = task_context()
        done: int = context.last_heartbeat or 0
        while done < frames:
            await asyncio.sleep(0.01)
            done += 1
            self.scanned.append(done)
            context.heartbeat(done)
            if done == frames // 2 and context.retry_index == 0:
                raise ConnectionError("the scanner is jammed")
        return done


class Film(Workflow):
    # Only this bounds how long the laboratory may take.
    laboratory = Workflow.new_service(Laboratory, total_timeout=30 * 86_400)
    scanner = Workflow.new_service(Scanner)

    async def make_prints(self, film: str) -> str:
        try:
            frames = await self.laboratory.develop(film)
        except TaskFailedError as error:
            return f"no prints: {error.last_failure.exception.message}"
        return f"{await self.scanner.scan(frames)} prints"


SERVICES: list[Callable[[], object]] = [LaboratoryByMail, Scanner]
WORKFLOWS: list[type[Workflow]] = [Film]


async def answer(client: Client, film: str, frames: int) -> None:
    """What a web server does when the laboratory follows the link in its mail."""
    while film not in LaboratoryByMail.mails:  # noqa: ASYNC110 (the mail comes from elsewhere)
        await asyncio.sleep(0.01)
    token = LaboratoryByMail.mails[film]
    if frames:
        await client.complete_delegated_task(token, frames, contract=Laboratory)
    else:
        await client.fail_delegated_task(token, "the film was exposed to light")


async def scenario(client: Client) -> dict[str, str]:
    LaboratoryByMail.mails.clear()
    Scanner.scanned.clear()
    new = client.new_workflow(Film)
    holidays, wedding = [await client.dispatch(new.make_prints, film) for film in ("holidays", "wedding")]
    await answer(client, "holidays", 36)
    await answer(client, "wedding", 0)
    outcome = {"holidays": await holidays.result(), "wedding": await wedding.result()}
    # Nothing was scanned twice: the second attempt began where the first one had stopped.
    return {**outcome, "frames": str(len(set(Scanner.scanned)))}


async def main() -> None:
    async with InMemoryTransport() as transport, InMemoryStorage() as storage:
        worker = Worker(transport, storage)
        for service in SERVICES:
            worker.add_service(service())
        worker.add_workflow(Film)
        async with worker.running():
            for name, outcome in (await scenario(worker.client)).items():
                print(f"{name}: {outcome}")


if __name__ == "__main__":
    asyncio.run(main())
