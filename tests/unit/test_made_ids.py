"""Ids come from `make_id`: those of clients, workers, workflows, methods, signals and requests."""

from __future__ import annotations

from itertools import count

from infinitic import Channel, Client, Worker, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.loop import VirtualClock, run
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport


class Waiting(Workflow):
    heard = Channel[int]()

    async def wait(self) -> int:
        return await self.heard.receive()

    async def add(self, number: int) -> int:
        return number + await self.heard.receive()


def test_every_id_of_a_client_is_made_by_its_function() -> None:
    async def main() -> None:
        numbers = count(1)

        def make_id() -> str:
            made.append(f"id-{next(numbers)}")
            return made[-1]

        made = list[str]()
        clock = VirtualClock()
        async with InMemoryTransport(clock=clock) as transport, InMemoryStorage() as storage:
            worker = Worker(transport, storage, clock=clock, make_id=make_id)
            assert (worker.name, Client(transport, make_id=make_id).name) == ("worker-id-1", "client-id-2")
            worker.add_workflow(Waiting)
            async with worker.running():
                client = worker.client
                handle = await client.dispatch(client.new_workflow(Waiting).wait)
                assert handle.workflow_id == "id-3"
                stub = client.get_workflow_by_id(Waiting, handle.workflow_id)
                beside = await client.dispatch(stub.add, 1)
                await stub.heard.send(2)
                await stub.heard.send(3)
                assert sorted((await handle.result(), await beside.result())) == [2, 4]
                await client.retry_workflow_task(handle)
        # Two workflows' names, the instance, one more method, two signals, one request.
        assert made == [f"id-{number}" for number in range(1, 8)]

    run(main())


def test_ids_of_a_simulation_depend_on_its_seed() -> None:
    async def start(seed: int, faults: str) -> str:
        async with Simulation(seed=seed, faults=faults) as sim:
            sim.add_workflow(Waiting)
            handle = await sim.client.dispatch(sim.client.new_workflow(Waiting).wait)
            await sim.client.get_workflow_by_id(Waiting, handle.workflow_id).heard.send(1)
            await handle.result()
            return handle.workflow_id

    ids = [run(start(seed, faults)) for faults in ("none", "all") for seed in (1, 1, 2)]
    assert ids[:3] == ids[3:], "the client of the test makes the same ids with and without faults"
    assert ids[0] == ids[1] != ids[2]
