"""State engine and workflow code on different workers: the same outcomes and errors as on one.

`test_power_cuts` cuts the power of these workers, too.
"""

from __future__ import annotations

import asyncio
import gc

import pytest

from infinitic import Channel, Worker, Workflow, WorkflowCanceledError, WorkflowFailedError, workflow
from infinitic.messages import engine
from infinitic.replay.instance import Instance
from infinitic.topics import workflow_engine
from infinitic.transport import Message
from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from tests.simulation.cases import CASES, CROWD, Case
from tests.simulation.constellations import CONSTELLATIONS, REPLACED, play
from tests.simulation.examples import EXAMPLES
from tests.simulation.invariants import read_instances
from tests.simulation.observed import ObservedBroker
from tests.simulation.world import World, stop


@pytest.mark.parametrize("cache_size", [1000, 0], ids=["live", "replayed"])
@pytest.mark.parametrize("case", [*CASES, *EXAMPLES, CROWD], ids=lambda case: case.name)
def test_split_roles_give_the_outcome_of_fused_ones(case: Case, cache_size: int) -> None:
    split = CONSTELLATIONS["split, engine cut"]
    assert run(play(case, split, Fence(), cache_size=cache_size)) == run(play(case, REPLACED, Fence()))


class Echo:
    async def say(self, text: str) -> str:
        return text


@workflow(name="Changed")
class Recorded(Workflow):
    echo = Workflow.new_service(Echo)
    go = Channel[str]()

    async def run(self) -> str:
        first = await self.echo.say("one")
        return first + await self.go.receive()

    async def look(self) -> str:
        return "seen"


@workflow(name="Changed")
class Diverging(Recorded):
    async def run(self) -> str:
        await asyncio.sleep(1.0)  # in history there is a task
        return await super().run()


def host_fused(worker: Worker, cls: type[Workflow]) -> None:
    worker.add_service(Echo)
    worker.add_workflow(cls)


def host_code(worker: Worker, cls: type[Workflow]) -> None:
    worker.add_workflow_executor(cls)


def host_rest(worker: Worker) -> None:
    worker.add_service(Echo)
    worker.add_workflow_state_engine("Changed")


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
def test_code_that_diverges_stalls_the_instance_and_fixed_code_resumes_it(split: bool) -> None:
    """S14, S34: also when the divergence shows while the history is replayed by another worker."""

    async def main() -> None:
        world = World()
        async with world.open():

            def deploy(cls: type[Workflow]) -> asyncio.Task[None]:
                worker = world.worker()
                (host_code if split else host_fused)(worker, cls)
                return world.start(worker)

            if split:
                worker = world.worker()
                host_rest(worker)
                world.start(worker)
            before = deploy(Recorded)
            handle = await world.client.dispatch(world.client.new_workflow(Recorded).run)
            await asyncio.sleep(1.0)
            await stop([before])

            broken = deploy(Diverging)
            stub = world.client.get_workflow_by_id(Recorded, handle.workflow_id)
            await stub.go.send("!")
            await asyncio.sleep(600.0)
            info = await world.client.describe(stub)
            assert info.stalled is not None
            assert "the history holds" in info.stalled
            assert not info.parked
            await stop([broken])

            deploy(Recorded)
            await world.client.retry_workflow_task(stub, confirm=True)
            assert await handle.result() == "one!"

    run(main())


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
def test_a_stalled_instance_keeps_a_cancellation_and_says_so(split: bool, caplog: pytest.LogCaptureFixture) -> None:
    """S35: it takes effect when the instance runs again."""

    async def main() -> None:
        world = World()
        async with world.open():
            if split:
                worker = world.worker()
                host_rest(worker)
                world.start(worker)

            def deploy(cls: type[Workflow]) -> asyncio.Task[None]:
                worker = world.worker()
                (host_code if split else host_fused)(worker, cls)
                return world.start(worker)

            before = deploy(Recorded)
            handle = await world.client.dispatch(world.client.new_workflow(Recorded).run)
            await asyncio.sleep(1.0)
            await stop([before])
            broken = deploy(Diverging)
            stub = world.client.get_workflow_by_id(Recorded, handle.workflow_id)
            await world.client.dispatch(stub.look)  # anything that has the history replayed
            await asyncio.sleep(600.0)

            reason = await world.client.cancel(stub, confirm=True)
            assert reason is not None
            assert "the history holds" in reason
            assert "takes effect when it runs again" in caplog.records[-1].getMessage()
            assert (await world.client.describe(stub)).status == "running"
            await stop([broken])
            deploy(Recorded)
            assert await world.client.retry_workflow_task(stub, confirm=True) is None
            with pytest.raises(WorkflowCanceledError):
                await handle.result()

    run(main())


async def test_a_cancellation_that_is_applied_says_nothing(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    sim.add_service(Echo)
    sim.add_workflow(Recorded)
    handle = await sim.client.dispatch(sim.client.new_workflow(Recorded).run)
    assert await sim.client.cancel(handle, confirm=True) is None
    assert not caplog.records


def test_a_stall_that_comes_again_does_not_stall_what_goes_on() -> None:
    """S13, S34: the stalling decision is delivered again while the retried activation runs."""

    async def main() -> None:
        world = World()
        async with world.open():
            worker = world.worker()
            host_rest(worker)
            world.start(worker)
            handle = await world.client.dispatch(world.client.new_workflow(Recorded).run)
            await world.run_until_idle()
            stalling = engine.Decision(made_at=world.clock.now(), activation=1, stalled="a bug", epoch=0)
            message = (workflow_engine("Changed"), Message("x", handle.workflow_id, engine.encode(stalling)))
            await world.deliver_again([message])
            await world.run_until_idle()
            stub = world.client.get_workflow_by_id(Recorded, handle.workflow_id)
            assert (await world.client.describe(stub)).stalled == "a bug"
            await world.client.retry_workflow_task(stub, confirm=True)
            await world.deliver_again([message])
            await world.run_until_idle()
            assert (await world.client.describe(stub)).stalled is None
            executor = world.worker()
            host_code(executor, Recorded)
            world.start(executor)
            await world.run_until_idle()
            await world.deliver_again([message])
            await stub.go.send("!")
            assert await handle.result() == "one!"

    run(main())


def test_an_activation_of_an_instance_that_is_gone_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """S13: the broker delivers all activations again after the end and after the purge."""

    async def main() -> None:
        world = World()
        async with world.open():
            executor, others = world.worker(), world.worker()
            host_code(executor, Recorded)
            host_rest(others)
            world.start(executor)
            world.start(others)
            handle = await world.client.dispatch(world.client.new_workflow(Recorded).run)
            await world.client.get_workflow_by_id(Recorded, handle.workflow_id).go.send("!")
            assert await handle.result() == "one!"
            activations = [each for each in world.published if each[0].name == "workflow-executor:Changed"]
            assert len(activations) >= 2
            decided = [each for each in world.published if b'"t":"decision"' in each[1].body[:20]]
            await world.deliver_again(reversed(activations))
            await world.run_until_idle()
            await asyncio.sleep(2 * 86_400.0)
            await world.storage.states.purge(world.clock.now())
            assert not read_instances(world.database)
            await world.deliver_again([*activations, *decided])
            await world.run_until_idle()
            assert not read_instances(world.database)
            assert not world.backlog()

    run(main())
    assert not caplog.records, caplog.text


def test_an_instance_that_has_ended_leaves_the_memory_of_its_executor() -> None:
    async def main() -> None:
        world = World()
        async with world.open():
            executor, others = world.worker(), world.worker()
            host_code(executor, Recorded)
            host_rest(others)
            world.start(executor)
            world.start(others)
            for _ in range(20):
                handle = await world.client.dispatch(world.client.new_workflow(Recorded).run)
                await world.client.get_workflow_by_id(Recorded, handle.workflow_id).go.send("!")
                assert await handle.result() == "one!"
            waiting = await world.client.dispatch(world.client.new_workflow(Recorded).run)
            await world.run_until_idle()
            gc.collect()
            live = {each.id for each in gc.get_objects() if type(each) is Instance and not each.loop.dead}
            assert live == {waiting.workflow_id}

    run(main())


class Large(Workflow):
    echo = Workflow.new_service(Echo)

    async def run(self, size: int) -> int:
        texts = await asyncio.gather(*(self.echo.say("x" * size) for _ in range(4)))
        return sum(map(len, texts))


def test_the_call_that_takes_a_decision_above_the_limit_is_refused_and_stops_no_worker() -> None:
    """S42: four tasks of 30 KB do not fit into one decision of 100 KB. The call raises."""

    async def main() -> None:
        world = World(ObservedBroker(max_payload=100_000))
        async with world.open():
            executor, others = world.worker(cache_size=0), world.worker()
            executor.add_workflow_executor(Large)
            others.add_workflow_state_engine("Large")
            others.add_service(Echo)
            world.start(executor)
            world.start(others)
            began = world.clock.now()
            with pytest.raises(WorkflowFailedError, match=r"Echo.say: .* above the limit") as caught:
                await world.client.new_workflow(Large).run(30_000)
            assert "in run" in caught.value.failure.traceback
            assert world.clock.now() - began < 1.0, "at once, not after it was tried for a minute"
            assert await world.client.new_workflow(Large).run(10_000) == 40_000, "others go on"

    run(main())
