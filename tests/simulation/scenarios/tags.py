"""Tags: signals, calls and cancellations by tag, while instances start and close."""

from __future__ import annotations

import asyncio

from infinitic import Channel, Workflow, WorkflowCanceledError
from infinitic_testing.cluster.cluster import Cluster
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, Office


class Member(Workflow):
    office = Workflow.new_service(Office)
    letters = Channel[str]()
    total = 0

    async def hear(self, number: int) -> list[object]:
        """Return the lengths of so many letters, and the tags."""
        heard = [len(await self.letters.receive()) for _ in range(number)]
        return [*heard, *self.context.tags]

    async def collect(self, number: int) -> int:
        """Return once all calls of `add` have added so much."""
        await self.wait_until(lambda: self.total >= number)
        return self.total

    async def rest(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return await self.office.add(1, 1)

    async def add(self, number: int) -> None:
        added = await self.office.add(number, 0)
        self.total += added


async def wait_for_tags(sim: Simulation, tag: str, count: int) -> None:
    """Wait until so many have the tag, if the broker may lose the order of a key.

    Then a message by tag may overtake the tags of instances that were started before, and miss
    them. Elsewhere nothing has to be waited for (S31).
    """
    if isinstance(sim.system, Cluster) and sim.system.plan.has("key-disorder"):
        by_tag = sim.client.get_workflow_by_tag(Member, tag)
        while len(await sim.client.get_ids(by_tag)) < count:
            await sim.sleep(1.0)


async def simulate_signal_by_tag(sim: Simulation) -> object:
    """A signal by tag that is sent right after the starts reaches all instances (S31)."""
    sim.add_workflow(Member, retention=KEPT)
    client = sim.client
    starts = [client.new_workflow(Member, tags={"all", f"group-{number % 2}"}) for number in range(8)]
    handles = await asyncio.gather(*(client.dispatch(start.hear, 2) for start in starts))
    for tag, count in (("all", 8), ("group-0", 4), ("group-1", 4)):
        await wait_for_tags(sim, tag, count)
    await client.get_workflow_by_tag(Member, "group-0").letters.send("to some")
    await client.get_workflow_by_tag(Member, "group-1").letters.send("to others")
    await client.get_workflow_by_tag(Member, "all").letters.send("to all")
    results = [sorted(map(str, await handle.result())) for handle in handles]
    # To nobody: all have closed.
    await client.get_workflow_by_tag(Member, "all").letters.send("too late")
    return results


async def simulate_broadcast(sim: Simulation) -> object:
    """Calls by tag reach every instance once, however often messages come."""
    sim.add_service(Office)
    sim.add_workflow(Member, retention=KEPT)
    client = sim.client
    handles = [await client.dispatch(client.new_workflow(Member, tags={"all"}).collect, 6) for _ in range(6)]
    await wait_for_tags(sim, "all", 6)
    everybody = client.get_workflow_by_tag(Member, "all")
    for number in (1, 2, 3):
        await client.broadcast(everybody.add, number)
    return [await handle.result() for handle in handles]


async def simulate_large_broadcast(sim: Simulation) -> object:
    """The messages are so large that a fan-out takes several pages (S33)."""
    sim.add_workflow(Member, retention=KEPT)
    client = sim.client
    handles = [await client.dispatch(client.new_workflow(Member, tags={"all"}).hear, 1) for _ in range(12)]
    await wait_for_tags(sim, "all", 12)
    await client.get_workflow_by_tag(Member, "all").letters.send("x" * 900_000)
    return [await handle.result() for handle in handles]


async def simulate_broadcast_while_they_close(sim: Simulation) -> object:
    """Instances close by themselves, one after the other, while messages by tag come."""
    sim.add_service(Office)
    sim.add_workflow(Member, retention=KEPT)
    client = sim.client
    handles = [
        await client.dispatch(client.new_workflow(Member, tags={"all", "x"}).rest, 0.1 * number) for number in range(12)
    ]
    everybody = client.get_workflow_by_tag(Member, "all")
    for number in range(6):
        await client.broadcast(everybody.add, number)
        await everybody.letters.send("hello")
        await sim.sleep(0.3)
    return [await handle.result() for handle in handles]


async def simulate_cancel_by_tag(sim: Simulation) -> object:
    """Everybody who has the tag is cancelled, and nobody else."""
    sim.add_workflow(Member, retention=KEPT)
    client = sim.client
    handles = [
        await client.dispatch(client.new_workflow(Member, tags={f"group-{number % 2}"}).hear, 1) for number in range(6)
    ]
    for tag in ("group-0", "group-1"):
        await wait_for_tags(sim, tag, 3)
    await client.cancel(client.get_workflow_by_tag(Member, "group-1"))
    await client.get_workflow_by_tag(Member, "group-0").letters.send("go on")
    outcomes: list[object] = []
    for handle in handles:
        try:
            outcomes.append(await handle.result())
        except WorkflowCanceledError:
            outcomes.append("canceled")
    return outcomes
