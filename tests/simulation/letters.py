"""A workflow with a service, played with middlewares around it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from infinitic import (
    CallNext,
    Channel,
    ClientCall,
    ExponentialBackoff,
    Middleware,
    TaskContext,
    Workflow,
    query,
    task,
    task_context,
)
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


class Desk:
    async def say(self, word: str) -> str:
        return f"{word} for {tenant.get()}"

    def shout(self, word: str) -> str:
        return f"{word.upper()} for {tenant.get()}"

    @task(retry=ExponentialBackoff(maximum_retries=1), attempt_timeout=5)
    async def sleep(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return f"attempt {task_context().retry_index}"

    async def fail(self) -> str:
        raise ConnectionError("no line")


class Letter(Workflow):
    desk = Workflow.new_service(Desk)
    words = Channel[str]()
    lines: int = 0

    async def say(self, word: str) -> str:
        return await self.desk.say(word)

    async def shout(self, word: str) -> str:
        return await self.dispatch(self.desk.shout, word)

    async def sleep(self, seconds: float) -> str:
        return await self.desk.sleep(seconds)

    async def fail(self) -> str:
        return await self.desk.fail()

    async def listen(self) -> str:
        word = await self.words.receive()
        self.lines += 1
        return word + await self.words.receive()

    async def add(self, more: int) -> int:
        self.lines += more
        return self.lines

    @query
    def count(self) -> int:
        return self.lines


def play(main: Callable[[Simulation], Awaitable[Any]], *middleware: Middleware, **options: Any) -> Any:
    """Run a test inside a simulation with these middlewares."""

    async def inside() -> Any:
        async with Simulation(middleware=middleware, **options) as sim:
            sim.add_service(Desk())
            sim.add_workflow(Letter)
            return await main(sim)

    return run(inside())


async def say(sim: Simulation) -> str:
    return await sim.client.new_workflow(Letter).say("hello")


class Tenant(Middleware):
    """Carries the tenant of the caller to the tasks of the workflows that it starts."""

    carried_meta = ("tenant",)

    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        call.meta["tenant"] = tenant.get().encode()
        return await call_next()

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        name = context.meta.get("tenant", b"").decode()
        if not name:
            raise PermissionError("no tenant")
        token = tenant.set(name)
        try:
            return await call_next()
        finally:
            tenant.reset(token)
