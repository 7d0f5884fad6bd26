"""A workflow whose history is kept in `histories/`. Do not change it: its history would differ."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from infinitic import Channel, ExponentialBackoff, Workflow, task
from infinitic.errors import TaskFailedError, TaskTimedOutError


class Flights:
    @task(retry=ExponentialBackoff(minimum_seconds=10, random_factor=0, maximum_retries=2))
    async def book(self, city: str, *, window: bool = False) -> str:
        raise NotImplementedError

    async def wait(self) -> None:
        raise NotImplementedError


def count_to(number: int) -> int:
    return number


class RecordedTrip(Workflow):
    flights = Workflow.new_service(Flights)
    patient = Workflow.new_service(Flights, total_timeout=60)
    paid = Channel[int]()

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def book(self, city: str) -> list[str]:
        self.notes.append(await self.flights.book(city, window=True))
        self.notes.append(str(self.inline(count_to, 3)))
        with suppress(TaskFailedError):
            await self.flights.book("nowhere")
        with suppress(TaskTimedOutError):
            await self.patient.wait()
        async with asyncio.timeout(3600):
            await self.timer(timedelta(minutes=30))
        first, second = await asyncio.gather(self.paid.receive(), self.flights.book("Rome"))
        self.notes += [str(first), second, str(self.random.randrange(1000)), self.now().isoformat()]
        return self.notes

    async def note(self, text: str) -> int:
        self.notes.append(text)
        return len(self.notes)
