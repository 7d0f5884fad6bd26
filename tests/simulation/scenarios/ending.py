"""Workflows and tasks that are ended from outside, at any instant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from infinitic import (
    Channel,
    TaskTimedOutError,
    Workflow,
    WorkflowCanceledError,
    WorkflowHandle,
    WorkflowStatus,
    WorkflowTerminatedError,
    WorkflowUnknownError,
    ids,
)
from infinitic_testing.cluster.cluster import Cluster
from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT, VERY_LONG, Ledger, Office, wait_for

INSTANTS = (0.0, 0.0, 0.001, 0.01, 0.05, 0.2, 1.0, 1.5, 2.0, 2.001, 3.0, 5.0)
"""When something is ended, in seconds after its start."""


class Voyage(Workflow):
    """Has tasks that run, that wait for their retry, and that nobody awaits; then cleans up."""

    office = Workflow.new_service(Office)
    ledger = Workflow.new_service(Ledger)
    calls = Channel[str]()

    async def sail(self, name: str) -> str:
        try:
            self.dispatch(self.office.wait, 1, VERY_LONG)
            self.dispatch(self.office.fail_for_ever, 1)
            await self.ledger.book(f"{name} left")
            await asyncio.gather(
                self.office.wait(1, 2.0), self.office.stumble(2, 3), self.office.add(1, 2), self.timer(1.0)
            )
            await self.ledger.book(f"{name} arrived")
            await self.calls.receive()
        finally:
            # Nobody waits for these, and they go on when the instance has closed.
            self.dispatch(self.office.wait, 2, 30.0)
            self.dispatch(self.ledger.book, f"{name} reported")
            first = await self.office.add(1, 1)
            await self.ledger.book(f"{name} anchored")
            await self.timer(0.5)
            await self.office.multiply_slowly(first, 3)
            await self.ledger.book(f"{name} cleaned")
        return name

    async def turn(self, name: str) -> str:
        try:
            await asyncio.gather(self.office.wait(1, VERY_LONG), self.timer(VERY_LONG))
        finally:
            await self.ledger.book(f"{name} turned back")
        return name

    async def look(self) -> int:
        return await self.office.add(20, 22)


async def simulate_cleanup_when_cancelled(sim: Simulation) -> object:
    """Instances are cancelled at any instant, some twice. Clean-up awaits tasks, to its end."""
    ledger = Ledger()
    sim.add_service(Office)
    sim.add_service(ledger)
    sim.add_workflow(Voyage, retention=KEPT)
    await asyncio.gather(*(_cancel(sim, ledger, f"ship {number}", after) for number, after in enumerate(INSTANTS)))
    return len(INSTANTS)


async def _cancel(sim: Simulation, ledger: Ledger, name: str, after: float) -> None:
    handle = await sim.client.dispatch(sim.client.new_workflow(Voyage).sail, name)
    await sim.sleep(after)
    await _apply(sim, handle, lambda: sim.client.cancel(handle, confirm=True))
    # A cancelled instance begins no more methods. It may have ended, too.
    with suppress(WorkflowCanceledError, WorkflowUnknownError):
        await sim.client.get_workflow_by_id(Voyage, handle.workflow_id).look()
        raise AssertionError(f"{name} is cancelled, and looks around")
    await sim.sleep(after / 2)
    with suppress(WorkflowUnknownError):
        await sim.client.cancel(handle, confirm=True)
    with suppress(WorkflowCanceledError):
        await handle.result()
        raise AssertionError(f"{name} returns, and waits for a signal that nobody sends")
    # If it was cancelled before its code began, there was nothing to clean up.
    assert ledger.count(f"{name} cleaned") == ledger.count(f"{name} anchored"), f"{name} did not end its clean-up"
    if ledger.count(f"{name} left"):
        assert ledger.count(f"{name} cleaned") == 1, f"{name} did not clean up"
        await wait_for(lambda: ledger.count(f"{name} reported") == 1)
    assert max(map(len, ledger.tasks.values()), default=0) <= 1, f"booked by two tasks: {ledger.tasks}"


async def _apply(sim: Simulation, handle: WorkflowHandle[str], command: Callable[[], Awaitable[object]]) -> bool:
    """Send a command until it is applied. False if the instance has closed before that.

    It is unknown as long as its start is on its way.
    """
    while True:
        try:
            await command()
        except WorkflowUnknownError:
            with suppress(WorkflowUnknownError):
                if (await sim.client.describe(handle)).status is not WorkflowStatus.RUNNING:
                    return False
            await sim.sleep(1.0)
        else:
            return True


async def simulate_termination(sim: Simulation) -> object:
    """Instances are terminated at any instant, also while they clean up. Nothing happens then."""
    ledger = Ledger()
    sim.add_service(Office)
    sim.add_service(ledger)
    sim.add_workflow(Voyage, retention=KEPT)
    await asyncio.gather(
        *(
            _terminate(sim, ledger, f"ship {number}", after, clean=number % 3 == 0)
            for number, after in enumerate(INSTANTS)
        )
    )
    return len(INSTANTS)


async def _terminate(sim: Simulation, ledger: Ledger, name: str, after: float, *, clean: bool) -> None:
    handle = await sim.client.dispatch(sim.client.new_workflow(Voyage).sail, name)
    other = await sim.client.dispatch(sim.client.get_workflow_by_id(Voyage, handle.workflow_id).turn, name)
    await sim.sleep(after)
    if clean:
        await sim.client.cancel(handle)
        await sim.sleep(0.3)
    if not await _apply(sim, handle, lambda: sim.client.terminate(handle, reason=f"sink {name}", confirm=True)):
        # A cancelled one may have ended before.
        assert clean, f"{name} waits for a signal that nobody sends, and has ended"
        return
    for each in (handle, other):
        with suppress(WorkflowTerminatedError, WorkflowCanceledError, WorkflowUnknownError):
            await each.result()
            raise AssertionError(f"{name} returns, and was terminated")
    booked = {entry for entry in ledger.tasks if entry.startswith(f"{name} ")}
    info = await sim.client.describe(handle)
    assert info.status is WorkflowStatus.TERMINATED, info
    await sim.sleep(100.0)
    late = {entry for entry in ledger.tasks if entry.startswith(f"{name} ")} - booked
    # An attempt that was on its way may still run: executors are told as well as possible.
    assert len(late) <= 3, f"{name} was terminated, and booked {late}"


async def simulate_cancelled_methods(sim: Simulation) -> object:
    """Methods of one instance are cancelled, and the others go on."""
    ledger = Ledger()
    sim.add_service(Office)
    sim.add_service(ledger)
    sim.add_workflow(Voyage, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Voyage).sail, "flagship")
    stub = sim.client.get_workflow_by_id(Voyage, handle.workflow_id)
    turns = [await sim.client.dispatch(stub.turn, f"boat {number}") for number in range(6)]
    if isinstance(sim.system, Cluster) and sim.system.plan.has("key-disorder"):
        # A cancellation may overtake the call there, and would find no such method.
        called = {turn.method_id for turn in turns}
        while called - {each.method_id for each in (await sim.client.describe(handle)).methods}:
            await sim.sleep(1.0)
    for number, turn in enumerate(turns):
        await sim.sleep(0.01 * number * number)
        await sim.client.cancel(turn, confirm=True)
        # Again, by its id: this changes nothing.
        with suppress(WorkflowUnknownError):
            await sim.client.cancel(stub, method_id=turn.method_id, confirm=True)
    looked = [await stub.look() for _ in range(2)]
    for turn in turns:
        with suppress(WorkflowCanceledError):
            await turn.result()
            raise AssertionError("it returns, and waits for very long")
    await stub.calls.send("home")
    assert await handle.result() == "flagship"
    counts = [ledger.count(f"boat {number} turned back") for number in range(6)]
    assert max(counts) <= 1, counts
    await sim.client.terminate(stub)
    return looked


class Waiting(Workflow):
    """Waits for long timers, within a limit that is longer."""

    office = Workflow.new_service(Office)

    async def run(self, rounds: int) -> list[int]:
        done = list[int]()
        async with asyncio.timeout(100 * VERY_LONG):
            for number in range(rounds):
                await self.timer(VERY_LONG)
                await asyncio.gather(asyncio.sleep(VERY_LONG), self.timer(2 * VERY_LONG))
                done.append(await self.office.add(number, 1))
        return done


async def simulate_completed_timers(sim: Simulation) -> object:
    """Timers are completed again and again, of one method or all, until the workflow has ended."""
    sim.add_service(Office)
    sim.add_workflow(Waiting, retention=KEPT)
    handle = await sim.client.dispatch(sim.client.new_workflow(Waiting).run, 3)
    stub = sim.client.get_workflow_by_id(Waiting, handle.workflow_id)
    others = [await sim.client.dispatch(stub.run, 2) for _ in range(2)]
    handles = [handle, *others]
    results = [asyncio.ensure_future(each.result()) for each in handles]
    turn = 0
    while not all(each.done() for each in results):
        with suppress(WorkflowUnknownError):
            if turn % 4 == 3:
                await sim.client.complete_timers(stub, confirm=True)
            else:
                method_id = handles[turn % 3].method_id
                await sim.client.complete_timers(stub, method_id=method_id, confirm=True)
        await sim.sleep(0.1 * (turn % 5))
        turn += 1
    return [await each for each in results]


class Impatient(Workflow):
    """Gives tasks up in all ways, one after the other."""

    office = Workflow.new_service(Office)

    async def run(self, rounds: int) -> list[str]:
        log = list[str]()
        for _ in range(rounds):
            try:
                await self.office.never_end(1)
            except TaskTimedOutError:
                log.append("timed out")
            given_up = [self.dispatch(self.office.wait, each, VERY_LONG) for each in range(5)]
            await self.timer(0.3)
            for each in given_up:
                each.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.7):
                    await self.office.wait(1, VERY_LONG)
            hanging = asyncio.create_task(self.office.hang(1, 10_000))
            await asyncio.sleep(0.6)
            hanging.cancel()
            log.append(str(await self.office.add(1, 1)))
        return log


async def simulate_abandoned_tasks(sim: Simulation) -> object:
    """Tasks are given up while they wait, run, and back off. Executors are told each time."""
    sim.add_service(Office)
    sim.add_workflow(Impatient)
    return await asyncio.gather(*(sim.client.new_workflow(Impatient).run(3) for _ in range(3)))


class Clan(Workflow):
    """A tree of children that wait for a signal which nobody sends. Each of them cleans up."""

    ledger = Workflow.new_service(Ledger)
    office = Workflow.new_service(Office)
    calls = Channel[str]()

    async def live(self, name: str, depth: int) -> str:
        await self.ledger.book(f"{name} born")
        try:
            child = self.new_workflow(Clan)
            children = [self.dispatch(child.live, f"{name}.{number}", depth - 1) for number in range(2 if depth else 0)]
            task = self.dispatch(self.office.wait, 1, VERY_LONG)
            await asyncio.gather(asyncio.gather(*children), task, self.calls.receive())
        finally:
            await self.office.add(1, 1)
            await self.ledger.book(f"{name} buried")
        return name


async def simulate_families_ended(sim: Simulation) -> object:
    """Trees of children are cancelled or terminated at any instant. All of them end."""
    ledger = Ledger()
    sim.add_service(Office)
    sim.add_service(ledger)
    sim.add_workflow(Clan, retention=KEPT)
    await asyncio.gather(
        *(_end_family(sim, ledger, number, after) for number, after in enumerate((0.0, 0.05, 0.3, 1.0, 1.5, 3.0)))
    )
    return sorted(count for count in {len(tasks) for tasks in ledger.tasks.values()} if count > 1)


async def _end_family(sim: Simulation, ledger: Ledger, number: int, after: float) -> None:
    name = f"clan {number}"
    handle = await sim.client.dispatch(sim.client.new_workflow(Clan).live, name, 2)
    await sim.sleep(after)
    if number % 2:
        await _apply(sim, handle, lambda: sim.client.terminate(handle, confirm=True))
    else:
        await _apply(sim, handle, lambda: sim.client.cancel(handle, confirm=True))
    with suppress(WorkflowCanceledError, WorkflowTerminatedError):
        await handle.result()
        raise AssertionError(f"{name} returns, and waits for a signal that nobody sends")
    for workflow_id in _list_family(handle.workflow_id, 2):
        await _wait_until_ended(sim, workflow_id)
    buried = {entry: ledger.count(entry) for entry in ledger.tasks if entry.startswith(f"{name}.")}
    assert max(buried.values(), default=0) <= 1, f"booked by two tasks: {buried}"


def _list_family(workflow_id: str, depth: int) -> list[str]:
    """List the ids of an instance and of all that it may have started, from positions 1 and 2."""
    if depth == 0:
        return [workflow_id]
    children = [ids.remote_id(workflow_id, 0, position) for position in (1, 2)]
    return [workflow_id, *(each for child in children for each in _list_family(child, depth - 1))]


async def _wait_until_ended(sim: Simulation, workflow_id: str) -> None:
    """Wait until an instance has closed. One that was never started is unknown."""
    stub = sim.client.get_workflow_by_id(Clan, workflow_id)
    async with asyncio.timeout(VERY_LONG / 10):
        while True:
            try:
                if (await sim.client.describe(stub)).status is not WorkflowStatus.RUNNING:
                    return
            except WorkflowUnknownError:
                return
            await sim.sleep(1.0)
