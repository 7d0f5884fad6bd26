"""A rate limit for services, as a middleware: the workers of a process share it.

Run it with ``python examples/rate_limit.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from infinitic import CallNext, Client, Middleware, TaskContext, Worker, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport


class RateLimit(Middleware):
    """Begins at most so many attempts a second of each service.

    All workers that are given the same object share the limits. It does not reach over processes:
    divide the limit by their number. An attempt that waits here holds one of the `concurrency` of
    its service. So set `concurrency` above what is waiting at most.

    Args:
        per_second: how many attempts of each service begin in a second, by its name.
        burst: how many may begin at once after a pause.
    """

    def __init__(self, per_second: Mapping[str, float], burst: int = 1) -> None:
        self._seconds = {name: 1.0 / count for name, count in per_second.items()}
        self._burst = burst
        # When the next attempt of each service may begin, if there were no burst.
        self._next: dict[str, float] = {}

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        delay = self._take(context.service_name)
        if delay > 0:
            # Not a part of the attempt: its timeout has not begun.
            await asyncio.sleep(delay)
        return await call_next()

    def _take(self, service: str) -> float:
        """Take the next place in the queue, and return how many seconds there are until then."""
        seconds = self._seconds.get(service)
        if seconds is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        place = max(self._next.get(service, 0.0), now - (self._burst - 1) * seconds)
        self._next[service] = place + seconds
        return place - now


class Maps:
    """A service of somebody else, who allows two requests a second."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def find(self, address: str) -> float:
        self.times.append(asyncio.get_running_loop().time())
        return self.times[-1]


class Tour(Workflow):
    maps = Workflow.new_service(Maps)

    async def plan(self, addresses: list[str]) -> list[float]:
        return await asyncio.gather(*(self.maps.find(address) for address in addresses))


SERVICES: list[Callable[[], object]] = [Maps]
WORKFLOWS: list[type[Workflow]] = [Tour]
MIDDLEWARE: list[Callable[[], Middleware]] = [lambda: RateLimit({"Maps": 2}, burst=2)]


async def scenario(client: Client) -> dict[str, str]:
    times = sorted(await client.new_workflow(Tour).plan(["Lisbon", "Porto", "Faro", "Braga", "Evora"]))
    # Two begin at once, and then one every half second.
    early = [number for number, time in enumerate(times) if time - times[0] < 0.5 * (number - 1) - 0.01]
    return {"requests": str(len(times)), "too early": str(len(early))}


async def main() -> None:
    async with InMemoryTransport() as transport, InMemoryStorage() as storage:
        worker = Worker(transport, storage, middleware=[make() for make in MIDDLEWARE])
        worker.add_service(Maps())
        worker.add_workflow(Tour)
        async with worker.running():
            for name, outcome in (await scenario(worker.client)).items():
                print(f"{name}: {outcome}")


if __name__ == "__main__":
    asyncio.run(main())
