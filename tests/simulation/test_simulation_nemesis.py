"""Each fault of the nemesis happens, and the run ends with the right result all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from infinitic import Channel, ExponentialBackoff, Workflow, task, workflow
from infinitic.storage import Query
from infinitic_testing.cluster.actions import ACTIONS
from infinitic_testing.cluster.actions.messages import SENDER
from infinitic_testing.faults.plan import Phase
from infinitic_testing.loop import VirtualLoop
from infinitic_testing.simulation import Simulation

MOST_SEEDS = 30
"""Within so many seeds, a fault that is the only one of a run has happened."""

OTHERS = ("cuts-before-publish", "cuts-before-ack", "cuts-after-task", "slow-tasks", "old-code")
"""Faults of the nemesis that are not actions."""


class Desk:
    """Tasks that take a moment, or fail once."""

    async def stamp(self, number: int) -> int:
        await asyncio.sleep(0.01)
        return number + 1

    @task(retry=ExponentialBackoff(minimum_seconds=0.1, maximum_retries=10))
    async def sign(self, number: int) -> int:
        await asyncio.sleep(0.01)
        return number + 10


@workflow(name="Office", version=0)
class OldOffice(Workflow):
    desk = Workflow.new_service(Desk)
    letters = Channel[int]()

    async def run(self) -> int:
        total = await self.desk.stamp(0)
        total += await self.letters.receive()
        both = await asyncio.gather(self.desk.stamp(total), self.desk.sign(total))
        await asyncio.sleep(5.0)
        for _ in range(8):
            total = await self.desk.stamp(total)
        return total + sum(both)


@workflow(name="Office", version=1)
class Office(OldOffice):
    """The same steps: the result does not tell which version ran."""


def play(seed: int, faults: str, profile: str | None = None) -> Simulation:
    """Run three workflows under faults, check their results, and return the simulation."""

    async def main() -> Simulation:
        async with Simulation(seed=seed, faults=faults, profile=profile) as sim:
            sim.add_service(Desk)
            sim.add_workflow(OldOffice, Office)
            handles = [await sim.client.dispatch(sim.client.new_workflow(Office).run) for _ in range(3)]
            for number, handle in enumerate(handles):
                await sim.client.get_workflow_by_id(Office, handle.workflow_id).letters.send(number)
            results = [await handle.result() for handle in handles]
            assert results == [22, 25, 28]
        assert sim.plan.phase is Phase.HEALED
        assert not sim.cluster.living()
        return sim

    return Simulation.run(main())


def play_until(faults: str, happened: Callable[[Simulation], bool]) -> Simulation:
    """Run seed after seed until something has happened."""
    for seed in range(MOST_SEEDS):
        sim = play(seed, faults, "pulsar" if faults == "given-back" else None)
        if happened(sim):
            return sim
    raise AssertionError(f"{faults}: not within {MOST_SEEDS} seeds")


@pytest.mark.parametrize("fault", [*(action.fault for action in ACTIONS), *OTHERS])
def test_a_fault_happens_and_the_result_is_right(fault: str) -> None:
    sim = play_until(fault, lambda sim: sim.plan.fired[fault] > 0)
    assert set(sim.plan.fired) == {fault}, "and only this one"


@pytest.mark.parametrize("seed", range(4))
def test_the_same_seed_makes_the_same_run(seed: int) -> None:
    async def main() -> tuple[str, list[str]]:
        async with Simulation(seed=seed, faults="all") as sim:
            sim.add_service(Desk)
            sim.add_workflow(OldOffice, Office)
            handle = await sim.client.dispatch(sim.client.new_workflow(Office).run)
            await sim.client.get_workflow_by_id(Office, handle.workflow_id).letters.send(1)
            assert await handle.result() == 25
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        return loop.trace_digest(), [str(entry) for entry in sim.cluster.log.entries()]

    assert Simulation.run(main()) == Simulation.run(main())


def test_a_killed_worker_is_replaced_by_one_on_the_same_seat() -> None:
    sim = play_until("power-cuts", lambda sim: sim.plan.fired["power-cuts"] > 0)
    cluster = sim.cluster
    killed = [entry.who for entry in cluster.log.entries() if entry.what == "killed"]
    assert killed
    for name in killed:
        (dead,) = [member for member in cluster.members if member.name == name]
        later = cluster.members[cluster.members.index(dead) + 1 :]
        alive = [member for member in cluster.members if member.seat is dead.seat and member.name not in killed]
        assert alive or any(member.seat is dead.seat for member in later)


def test_a_zombie_goes_on_after_the_broker_took_it_for_dead() -> None:
    def happened(sim: Simulation) -> bool:
        what = [(entry.who, entry.what) for entry in sim.cluster.log.entries()]
        paused = {who for who, kind in what if kind == "paused"}
        return any((who, "resumed") in what for who in paused)

    play_until("pauses", happened)


def test_a_worker_may_be_killed_while_it_drains() -> None:
    def happened(sim: Simulation) -> bool:
        stopping = {member.name for member in sim.cluster.members if member.is_stopping}
        killed = {entry.who for entry in sim.cluster.log.entries() if entry.what == "killed"}
        return bool(stopping & killed)

    play_until("stops,rolling-restarts", happened)


@pytest.mark.parametrize("seed", range(12))
def test_all_faults_together(seed: int) -> None:
    play(seed, "all")


def test_clocks_are_right_again_after_the_healing() -> None:
    sim = play_until("clock-skew", lambda sim: sim.plan.fired["clock-skew"] > 0)
    assert all(member.clock.offset == 0.0 for member in sim.cluster.members if member.process.is_alive)


def test_bad_messages_become_dead_letters_and_nothing_else() -> None:
    sim = play_until("bad-messages", lambda sim: bool(sim.cluster.nemesis.injected))
    overview = sim.cluster.broker.overview()
    letters = sum(
        stats.backlog for topic, subs in overview.items() if topic.startswith("dlq:") for stats in subs.values()
    )
    assert letters <= len(sim.cluster.nemesis.injected)


def test_old_messages_come_again_after_everything_was_purged() -> None:
    """S13. Nothing comes to life: the rules of the run would say so."""

    def happened(sim: Simulation) -> bool:
        entries = sim.cluster.log.entries()
        purged = [number for number, entry in enumerate(entries) if entry.what == "purged"]
        return bool(purged) and any(entry.who == SENDER for entry in entries[purged[-1] :])

    sim = play_until("late-messages", happened)
    assert not sim.cluster.database.find(Query()).found
