"""Code whose commands depend on the order of things, on random numbers, or on an operator.

What it returns does not depend on them. But a replay in another order asks for something else.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from msgspec import Raw

from infinitic import Channel, RequestRefusedError, Workflow, WorkflowUnknownError, any_of, topics, workflow
from infinitic.messages import engine
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Ledger, Office, begin_draws, draw


@workflow(replay_check="strict")
class Winner(Workflow):
    office = Workflow.new_service(Office)
    bids = Channel[int]()

    async def run(self, rounds: int) -> int:
        total = 0
        for turn in range(rounds):
            seconds = [0.0, 0.01, 0.02, 0.05]
            runners = [self.dispatch(self.office.wait, each, pause) for each, pause in enumerate(seconds)]
            first = await any_of(*runners, self.bids.receive())
            # Each winner has a task of its own.
            if first % 2:
                total += await self.office.add(turn, first) - first
            else:
                total += len(await self.office.echo("x" * (turn + first))) - first
            if runners[0].is_completed() and runners[3].is_completed():
                await asyncio.sleep(0.01)
        return total


async def simulate_winner_decides(sim: Simulation) -> object:
    """Who wins a race decides which task is next. Signals take part in the races, too."""
    sim.add_service(Office)
    sim.add_workflow(Winner, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Winner).run, 8) for _ in range(3)]
    for bid in range(4):
        for handle in handles:
            await sim.client.get_workflow_by_id(Winner, handle.workflow_id).bids.send(bid)
        await sim.sleep(0.02)
    return [await handle.result() for handle in handles]


class Dice(Workflow):
    office = Workflow.new_service(Office)

    async def run(self, throws: int) -> int:
        total = 0
        for _ in range(throws):
            eyes = self.random.randint(1, 6)
            total += await self._spend(eyes)
            if self.uuid4().int % 2:
                await self.timer(timedelta(milliseconds=eyes))
        return total

    async def _spend(self, eyes: int) -> int:
        if eyes < 3:
            return await self.office.add(0, 1)
        if eyes < 5:
            return len(await self.office.echo("x"))
        return sum(await asyncio.gather(self.office.add(0, 1), self.office.wait(0, 0.01)))


async def simulate_dice(sim: Simulation) -> object:
    """Random numbers of the workflow decide which task is next."""
    sim.add_service(Office)
    sim.add_workflow(Dice)
    return await asyncio.gather(*(sim.client.new_workflow(Dice).run(10) for _ in range(4)))


class Supervised(Workflow):
    office = Workflow.new_service(Office)

    async def run(self, steps: int) -> int:
        done = 0
        for step in range(steps):
            drawn = self.inline(draw)
            done += 1 + await self.office.wait(drawn, 0.05 * (step % 3)) - drawn
            await asyncio.sleep(0.05)
        return done


async def simulate_impatient_operator(sim: Simulation) -> object:
    """An operator has the code run again and again, although nothing stalls."""
    begin_draws()
    sim.add_service(Office)
    sim.add_workflow(Supervised, retention=KEPT)
    handles = [await sim.client.dispatch(sim.client.new_workflow(Supervised).run, 10) for _ in range(3)]
    for turn in range(12):
        for handle in handles:
            # It may have ended by then, and has not failed.
            with suppress(WorkflowUnknownError, RequestRefusedError):
                await sim.client.retry_workflow_task(handle, confirm=turn % 4 == 0)
        await sim.sleep(0.1)
    return [await handle.result() for handle in handles]


class Lighthouse(Workflow):
    ledger = Workflow.new_service(Ledger)
    ships = Channel[str]()

    async def watch(self, ships: int) -> list[str]:
        seen = list[str]()
        for _ in range(ships):
            seen.append(await self.ledger.book(await self.ships.receive()))
        return seen

    async def report(self, name: str) -> str:
        return await self.ledger.book(name)


async def simulate_long_life(sim: Simulation) -> object:
    """An instance lives for hours. Its old signals and calls come again, hours after they came."""
    ledger = Ledger()
    sim.add_service(ledger)
    sim.add_workflow(Lighthouse, retention=KEPT)
    topic = topics.workflow_engine("Lighthouse")
    handle = await sim.client.dispatch(sim.client.new_workflow(Lighthouse).watch, 5)
    sent = list[Message]()
    for number in range(5):
        now = sim.clock.now()
        ship = Raw(b'"ship %d"' % number)
        signal = engine.Signal(made_at=now, signal_id=f"ship-{number}", channel="ships", value=ship)
        call = engine.CallMethod(
            made_at=now,
            method_id=f"report-{number}",
            method="report",
            arguments=Raw(b'["report %d"]' % number),
        )
        sent += [Message(handle.workflow_id, handle.workflow_id, engine.encode(each)) for each in (signal, call)]
        if number == 4:
            # A new signal could end the instance before the old ones have come.
            await sim.transport.publish(topic, sent[:-2])
            await sim.sleep(60.0)
        await sim.transport.publish(topic, sent[-2:][::-1])
        await sim.sleep(2500.0)
        await sim.transport.publish(topic, sent[: 2 * number])
    seen = await handle.result()
    names = [f"report {number}" for number in range(5)]
    return [sorted(seen), [ledger.count(name) for name in (*names, *sorted(seen))]]
