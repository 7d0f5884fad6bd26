"""A simulation with several workers: who hosts what, how it ends, and what its errors say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import pytest

from infinitic import Channel, Workflow
from infinitic.codec.payloads import PayloadCodec
from infinitic.errors import NonDeterminismError, RegistrationError, UsageError, WorkflowCodeError
from infinitic.storage import StateKey
from infinitic_testing.cluster.layouts import LAYOUTS
from infinitic_testing.faults.plan import Phase
from infinitic_testing.loop import DeadlockError
from infinitic_testing.observing import Observer
from infinitic_testing.simulation import Simulation

SEEDS = range(40)


class Counter:
    """Counts in the object itself: each worker that makes its own begins at 0."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.count = 0

    async def add(self, number: int) -> int:
        self.count += 1
        return number + 1


class Chain(Workflow):
    counter = Workflow.new_service(Counter)

    async def run(self, length: int) -> int:
        total = 0
        for _ in range(length):
            total = await self.counter.add(total)
        return total


class Patient(Workflow):
    doors = Channel[str]()

    async def run(self) -> str:
        return await self.doors.receive()


def play(seed: int, profile: str) -> tuple[Simulation, int]:
    """Run one workflow with four tasks, and return the simulation and the result."""

    async def main() -> tuple[Simulation, int]:
        async with Simulation(seed=seed, profile=profile) as sim:
            sim.add_service(Counter)
            sim.add_workflow(Chain)
            return sim, await sim.client.new_workflow(Chain).run(4)

    return Simulation.run(main())


def test_every_layout_is_drawn_and_gives_the_right_result() -> None:
    seen = set[str]()
    for seed in SEEDS:
        sim, result = play(seed, profile="seeded")
        assert result == 4
        seen.add(sim.cluster.layout)
    assert seen == set(LAYOUTS)


@pytest.mark.parametrize("profile", ["seeded", "pulsar"])
def test_without_faults_nothing_fires(profile: str) -> None:
    sim, _ = play(3, profile=profile)
    assert not sim.plan.fired
    assert not sim.plan.rates


def test_the_profile_is_drawn_if_only_faults_are_given() -> None:
    profiles = {Simulation(seed=seed, faults="duplicates").options["profile"] for seed in SEEDS}
    assert profiles == {"seeded", "pulsar"}


def test_plain_choices_give_one_ordinary_worker() -> None:
    """A run of which no choice is kept is the plain one: this is what shrinking ends at."""

    async def main() -> None:
        async with Simulation(seed=11, faults="all", only=()) as sim:
            sim.add_service(Counter)
            sim.add_workflow(Chain)
            assert await sim.client.new_workflow(Chain).run(2) == 2
            assert sim.cluster.layout == "one"
            assert sim.options["profile"] == "seeded"
            assert not sim.plan.fired

    Simulation.run(main())


def test_what_is_added_later_is_hosted_by_all_workers() -> None:
    async def main(seed: int) -> None:
        async with Simulation(seed=seed, profile="seeded") as sim:
            await sim.sleep(5.0)
            handle = await sim.client.dispatch(sim.client.new_workflow(Chain).run, 2)
            await sim.run_until_idle()
            sim.add_workflow(Chain)
            await sim.sleep(5.0)
            sim.add_service(Counter())
            assert await handle.result() == 2

    for seed in range(8):
        Simulation.run(main(seed))


def test_a_service_instance_is_shared_and_a_class_is_not() -> None:
    async def main(*, shared: bool) -> int:
        async with Simulation(seed=find_seed("two"), profile="seeded") as sim:
            before = Counter.made
            sim.add_service(Counter() if shared else Counter)
            sim.add_workflow(Chain)
            await sim.run_until_idle()
            assert await sim.client.new_workflow(Chain).run(1) == 1
            return Counter.made - before

    assert Simulation.run(main(shared=True)) == 1
    # One object for each of two workers, and one to check what it is.
    assert Simulation.run(main(shared=False)) == 3


def find_seed(layout: str) -> int:
    """Find a seed whose run has this layout."""
    for seed in SEEDS:
        if Simulation(seed=seed, profile="seeded").cluster.layout == layout:
            return seed
    raise AssertionError(f"no seed has the layout {layout}")


def test_what_cannot_be_hosted_is_refused_at_once() -> None:
    async def main() -> None:
        async with Simulation(profile="seeded") as sim:
            sim.add_service(Counter)
            with pytest.raises(RegistrationError, match="already hosts a service 'Counter'"):
                sim.add_service(Counter())
            sim.add_workflow(Chain)
            with pytest.raises(RegistrationError, match="both version 0"):
                sim.add_workflow(Chain)

    Simulation.run(main())


def test_a_simulation_with_one_worker_has_no_cluster_and_the_other_no_worker() -> None:
    async def main() -> None:
        async with Simulation() as sim:
            assert sim.worker.name == "sim"
            with pytest.raises(UsageError, match="only with faults or a profile"):
                _ = sim.cluster
        async with Simulation(profile="seeded") as sim:
            assert sim.cluster.members
            with pytest.raises(UsageError, match="only without faults and profile"):
                _ = sim.worker

    Simulation.run(main())


def test_unknown_faults_and_profiles_are_named() -> None:
    with pytest.raises(UsageError, match="There is no fault 'typhoon'"):
        Simulation(faults="typhoon")
    with pytest.raises(UsageError, match=r"There is no profile 'kafka'\. The profiles are: fifo, seeded, pulsar"):
        Simulation(profile="kafka")


def test_the_error_of_a_test_is_shown_with_its_seed_and_faults() -> None:
    async def main() -> None:
        async with Simulation(seed=17, faults="duplicates", profile="seeded"):
            raise LookupError("no trip")

    with pytest.raises(LookupError, match="no trip") as raised:
        Simulation.run(main())
    (note,) = raised.value.__notes__
    assert note.startswith("In Simulation(seed=17, faults='duplicates', profile='seeded'). Faults that happened:")


def test_a_test_that_waits_for_ever_is_told_for_what() -> None:
    async def main() -> None:
        async with Simulation(seed=5, faults="all") as sim:
            sim.add_workflow(Patient)
            await sim.client.new_workflow(Patient).run()

    with pytest.raises(DeadlockError, match="run waits for a signal of channel 'doors'"):
        Simulation.run(main())


class Objector(Observer):
    """An observer that objects to the third commit."""

    def __init__(self) -> None:
        self.commits = 0

    def committed(self, who: str, changes: object, outcomes: object) -> None:
        self.commits += 1
        if self.commits == 3:
            raise ArithmeticError("three is too many")


def test_an_observer_that_objects_ends_the_run_at_once() -> None:
    async def main() -> None:
        async with Simulation(seed=2, profile="seeded") as sim:
            objector = Objector()
            sim.cluster.watch.observers.append(objector)
            sim.add_service(Counter)
            sim.add_workflow(Chain)
            try:
                await sim.client.new_workflow(Chain).run(10)
            finally:
                assert objector.commits == 3

    with pytest.raises(ArithmeticError, match="three is too many"):
        Simulation.run(main())


def test_a_worker_that_fails_ends_the_run() -> None:
    async def main() -> None:
        async with Simulation(seed=2, profile="seeded") as sim:
            (member, *_) = sim.cluster.members
            sim.add_workflow(Patient)
            handle = await sim.client.dispatch(sim.client.new_workflow(Patient).run)
            # No adapter in memory fails like this.
            member.worker._supervisor.leave(OSError("the disk is full"))  # pyright: ignore[reportPrivateUsage]  # as above
            await handle.result()

    with pytest.raises(OSError, match="the disk is full"):
        Simulation.run(main())


class Sleeper:
    async def doze(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


class Dozing(Workflow):
    sleeper = Workflow.new_service(Sleeper)

    async def run(self) -> list[float]:
        return await asyncio.gather(*(self.sleeper.doze(10.0) for _ in range(5)))


def test_the_connections_of_a_stopped_worker_end_with_its_process() -> None:
    """It could hand nothing back, since the broker took nothing. Still others get its messages."""

    async def main() -> None:
        async with Simulation(seed=find_seed("two"), profile="seeded") as sim:
            sim.add_service(Sleeper)
            sim.add_workflow(Dozing)
            handle = await sim.client.dispatch(sim.client.new_workflow(Dozing).run)
            await sim.sleep(5.0)
            first = sim.cluster.living()
            sim.cluster.network.block_publishing(200.0)
            for member in first:
                member.stop()
            await sim.cluster.wait_until(lambda: not sim.cluster.living())
            assert not any(member.process.is_alive for member in first)
            unacked = [stats.unacked for subs in sim.cluster.broker.overview().values() for stats in subs.values()]
            assert sum(unacked) == 0
            sim.cluster.fill_seats()
            assert await handle.result() == [10.0] * 5

    Simulation.run(main())


class Quitter:
    async def leave(self) -> None:
        raise SystemExit(3)


class Quitting(Workflow):
    quitter = Workflow.new_service(Quitter)

    async def run(self) -> None:
        await self.quitter.leave()


@pytest.mark.parametrize("profile", ["fifo", "seeded"])
def test_a_task_that_ends_its_process_ends_the_run(profile: str) -> None:
    async def main() -> None:
        async with Simulation(seed=2, profile=profile) as sim:
            sim.add_service(Quitter)
            sim.add_workflow(Quitting)
            await sim.client.new_workflow(Quitting).run()

    with pytest.raises(SystemExit):
        Simulation.run(main())


class Backwards(PayloadCodec):
    """Turns payloads round."""

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        headers["backwards"] = "yes"
        return data[::-1]

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return data[::-1] if "backwards" in headers else data


@pytest.mark.parametrize("layout", LAYOUTS)
def test_payloads_are_encoded_in_every_layout(layout: str) -> None:
    async def main() -> None:
        async with Simulation(seed=find_seed(layout), profile="seeded", codec=Backwards()) as sim:
            sim.add_service(Counter)
            sim.add_workflow(Chain)
            handle = await sim.client.dispatch(sim.client.new_workflow(Chain).run, 3)
            assert await handle.result() == 3
            stored = sim.cluster.database.history(StateKey("Chain", handle.workflow_id), limit=1)
            assert b"backwards" in stored[0].events

    Simulation.run(main())


def test_a_wait_with_a_timeout_times_out_in_virtual_time() -> None:
    async def main() -> None:
        async with Simulation(seed=4, faults="all") as sim:
            sim.add_workflow(Patient)
            handle = await sim.client.dispatch(sim.client.new_workflow(Patient).run)
            with pytest.raises(TimeoutError):
                await handle.result(timeout=3600)

    Simulation.run(main())


class Effects(Observer):
    """Counts what takes effect in each phase."""

    def __init__(self, sim: Simulation) -> None:
        self.plan = sim.plan
        self.phases: list[Phase] = []

    def committed(self, who: str, changes: object, outcomes: object) -> None:
        if not self.phases or self.phases[-1] is not self.plan.phase:
            self.phases.append(self.plan.phase)


def test_a_run_is_quiet_then_faulty_then_healed() -> None:
    async def main(seed: int) -> list[Phase]:
        async with Simulation(seed=seed, faults="slow-storage") as sim:
            effects = Effects(sim)
            sim.cluster.watch.observers.append(effects)
            sim.add_service(Counter)
            sim.add_workflow(Chain)
            assert await sim.client.new_workflow(Chain).run(200) == 200
            return effects.phases

    runs = [Simulation.run(main(seed)) for seed in range(6)]
    assert [Phase.QUIET, Phase.FAULTY, Phase.HEALED] in runs
    assert all(phases == sorted(phases, key=list(Phase).index) for phases in runs)


def test_the_timeline_tells_what_led_to_an_instance() -> None:
    async def main() -> None:
        async with Simulation(seed=1, profile="seeded") as sim:
            sim.add_service(Counter)
            sim.add_workflow(Chain)
            handle = await sim.client.dispatch(sim.client.new_workflow(Chain).run, 2)
            assert await handle.result() == 2
            ancestors = sim.cluster.log.find_ancestors([handle.workflow_id])
            assert 0 < len(ancestors) <= 20
            assert [each.at for each in ancestors] == sorted(each.at for each in ancestors)
            assert {each.what for each in ancestors} >= {"published", "delivered", "committed"}
            assert any(str(each).endswith("Chain, written") for each in ancestors)
            first = sim.cluster.log.entries()[0]
            assert first.what == "started"

    Simulation.run(main())


def test_all_workers_end_with_the_simulation() -> None:
    async def main() -> None:
        sim = Simulation(seed=find_seed("split"), profile="seeded")
        async with sim:
            assert len(sim.cluster.living()) >= 3
        assert not sim.cluster.living()

    Simulation.run(main())


class Hasty(Workflow):
    async def run(self) -> float:
        return time.time()


@pytest.mark.parametrize(("seed", "is_watched"), [(0, True), (1, False), (8, True)])
def test_one_seed_in_eight_looks_for_forbidden_calls(seed: int, is_watched: bool) -> None:
    async def main() -> float:
        async with Simulation(seed=seed, profile="seeded") as sim:
            sim.add_workflow(Hasty)
            return await sim.client.new_workflow(Hasty).run()

    # The replay at the end finds it in any case, if the value makes a difference.
    with pytest.raises(WorkflowCodeError if is_watched else NonDeterminismError, match=r"Hasty"):
        Simulation.run(main())
