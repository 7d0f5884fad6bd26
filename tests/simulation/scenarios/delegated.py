"""Delegated tasks: somebody outside ends them, early, late, twice, or not at all (S8)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import ClassVar

from infinitic import (
    RequestRefusedError,
    TaskFailedError,
    TaskTimedOutError,
    Workflow,
    WorkflowUnknownError,
    task,
    task_context,
)
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, OFTEN


class Tokens:
    """What people outside were told: the newest token of each request, by its name."""

    given: ClassVar[dict[str, str]] = {}

    @classmethod
    def give(cls, name: str) -> str:
        token = task_context().delegation_token
        assert cls.given.get(name, token) == token, "a token differs between attempts"
        cls.given[name] = token
        return token


class Approvals:
    """Its tasks ask people outside. What the functions return is ignored."""

    @task(delegated=True, retry=OFTEN)
    async def ask(self, name: str) -> int:
        Tokens.give(name)
        return -1

    @task(delegated=True, retry=OFTEN)
    async def ask_slowly(self, name: str) -> int:
        Tokens.give(name)
        await asyncio.sleep(2.0)
        return -1

    @task(delegated=True, retry=OFTEN)
    def ask_third_time(self, name: str) -> int:
        if task_context().retry_index < 2:
            raise LookupError("nobody answers the phone")
        Tokens.give(name)
        return -1

    @task(delegated=True, retry=OFTEN)
    async def answer_itself(self, name: str, value: int) -> int:
        token = Tokens.give(name)
        await task_context().client.complete_delegated_task(token, value, contract=Approvals)
        return -1


class Committee(Workflow):
    """Asks for several answers at once, and adds up what comes."""

    approvals = Workflow.new_service(Approvals)
    hasty = Workflow.new_service(Approvals, total_timeout=60)

    async def decide(self, name: str) -> list[object]:
        asked = [
            self.dispatch(self.approvals.ask, f"{name}/late"),
            self.dispatch(self.approvals.ask_slowly, f"{name}/early"),
            self.dispatch(self.approvals.ask_third_time, f"{name}/third"),
            self.dispatch(self.approvals.answer_itself, f"{name}/itself", 40),
        ]
        found: list[object] = [await each for each in asked]
        try:
            await self.approvals.ask(f"{name}/refused")
        except TaskFailedError as error:
            found.append(str(error.last_failure.exception))
        try:
            await self.hasty.ask(f"{name}/nobody")
        except TaskTimedOutError:
            found.append("timed out")
        return found


async def wait_for_token(name: str) -> str:
    """Wait until a task has told its token."""
    while name not in Tokens.given:  # noqa: ASYNC110 (it is another process, as far as the simulation goes)
        await asyncio.sleep(0.05)
    return Tokens.given[name]


async def is_refused(ending: Awaitable[object]) -> bool:
    """Return whether a request was refused."""
    try:
        await ending
    except (RequestRefusedError, WorkflowUnknownError):
        return True
    return False


async def simulate_delegated(sim: Simulation) -> object:
    """Whoever ends a delegated task first wins; whoever comes later changes nothing."""
    Tokens.given = {}
    sim.add_service(Approvals)
    sim.add_workflow(Committee, retention=KEPT)
    client = sim.client

    async def answer(name: str) -> object:
        handle = await client.dispatch(client.new_workflow(Committee).decide, name)
        late = await wait_for_token(f"{name}/late")
        await asyncio.sleep(1.0)
        # Two at once: they say the same, and one of them comes first.
        completing = [client.complete_delegated_task(late, 10, contract=Approvals, confirm=True) for _ in range(2)]
        refused = [await each for each in asyncio.as_completed(map(is_refused, completing))]
        await client.complete_delegated_task(await wait_for_token(f"{name}/early"), 20)
        await client.complete_delegated_task(await wait_for_token(f"{name}/third"), 30)
        token = await wait_for_token(f"{name}/refused")
        await client.fail_delegated_task(token, ValueError("no budget"), confirm=True)
        # It has ended: nothing of this may win.
        again = await is_refused(client.complete_delegated_task(token, 99, confirm=True))
        found = await handle.result()
        nobody = Tokens.given.get(f"{name}/nobody")
        if nobody is not None:
            await client.complete_delegated_task(nobody, 98)
        over = await is_refused(client.complete_delegated_task(late, 97, confirm=True))
        return [found, sorted(refused), again, over]

    return await asyncio.gather(*(answer(f"w{number}") for number in range(4)))


class Panel(Workflow):
    """Its requests have tags. Beside them are some with another tag."""

    approvals = Workflow.new_service(Approvals, tags={"panel"})
    others = Workflow.new_service(Approvals, tags={"others"})

    async def decide(self, name: str) -> list[object]:
        asked = [self.dispatch(self.approvals.ask, f"{name}/{number}") for number in range(3)]
        found: list[object] = [await each for each in asked]
        try:
            await self.others.ask(f"{name}/other")
        except TaskFailedError as error:
            found.append(str(error.last_failure.exception))
        return found


async def simulate_delegated_by_tag(sim: Simulation) -> object:
    """All that wait are completed by their tag, and lose it. Others are left alone."""
    Tokens.given = {}
    sim.add_service(Approvals)
    sim.add_workflow(Panel, retention=KEPT)
    client = sim.client
    handles = [await client.dispatch(client.new_workflow(Panel).decide, f"p{each}") for each in range(4)]
    results = [asyncio.ensure_future(handle.result()) for handle in handles]
    while not all(result.done() for result in results):
        await client.complete_delegated_tasks(Approvals, "panel", 7, task="ask")
        if all(f"p{each}/other" in Tokens.given for each in range(4)):
            await client.fail_delegated_tasks(Approvals, "others", "too late")
        await asyncio.sleep(5.0)
    return [await result for result in results]
