"""Workflows that start, call and signal one another (S28, S29, S30)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

import pytest

from infinitic import (
    Channel,
    PayloadTooLargeError,
    RequestRefusedError,
    TaskFailedError,
    UsageError,
    Workflow,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowStatus,
    WorkflowTerminatedError,
    WorkflowTimedOutError,
    WorkflowUnknownError,
    ids,
    workflow,
)
from infinitic.runtime.history import decode_head
from infinitic.storage import StateKey
from infinitic.storage.integrity import ensure_checked
from infinitic_testing.simulation import Simulation
from infinitic_testing.steps import StepCanceled, StepCompleted, StepFailed, StepOpen, StepTimedOut


class Mill:
    async def grind(self, sacks: int) -> int:
        if sacks < 0:
            raise ValueError("no sacks")
        return 2 * sacks


@workflow(name="Bakery")
class Bakery(Workflow):
    mill = Workflow.new_service(Mill)
    orders = Channel[int]()

    def __init__(self) -> None:
        self.sold = 0

    async def bake(self, sacks: int) -> int:
        return await self.mill.grind(sacks)

    async def open(self) -> int:
        return await self.orders.receive()

    async def sell(self, loaves: int) -> int:
        self.sold += loaves
        await asyncio.sleep(1)
        return self.sold

    async def burn(self) -> None:
        raise LookupError("no oven")

    async def roast(self, what: str) -> str:
        return what

    async def tell(self) -> dict[str, str]:
        return {name: value.decode() for name, value in self.context.meta.items()}


class BakeryProtocol(Protocol):
    async def bake(self, sacks: int) -> int: ...


@workflow(name="Bakery")
class BakeryContract(ABC):
    orders = Channel[int]()

    @abstractmethod
    async def open(self) -> int: ...

    @abstractmethod
    async def sell(self, loaves: int) -> int: ...


class Inn(Workflow):
    bakery = Workflow.new_workflow(Bakery)
    told = Workflow.new_workflow(Bakery, meta={"k": b"v"})
    slow = Workflow.new_workflow(Bakery, total_timeout=timedelta(minutes=1))

    async def dine(self, sacks: int) -> int:
        return await self.bakery.bake(sacks)

    async def fail(self, how: str) -> str:
        call = self.bakery.burn() if how == "burn" else self.bakery.bake(-1)
        try:
            await call
        except WorkflowFailedError as error:
            cause = error.cause
            if error.__cause__ is not cause:
                return "another cause"
            task = f", {cause.last_failure.exception.message}" if isinstance(cause, TaskFailedError) else ""
            return f"{error.failure.short_name}{task}"
        return "nothing"

    async def pass_on(self) -> int:
        return await self.bakery.bake(-1)

    async def forget(self) -> str:
        self.dispatch(self.bakery.burn)
        self.dispatch(self.bakery.bake, 3)
        return "done"

    async def order(self) -> list[int]:
        baker = self.dispatch(self.bakery.open)
        assert baker.id == ids.remote_id(self.context.workflow_id, 0, 0)
        bakery = self.get_workflow_by_id(BakeryContract, baker.id)
        sold = [await bakery.sell(1), await bakery.sell(2)]
        await bakery.orders.send(7)
        return [*sold, await baker]

    async def tell(self) -> list[dict[str, str]]:
        baker = self.dispatch(self.told.tell)
        return [await baker, await self.told.tell()]

    async def wait_in_vain(self) -> str:
        waiting = self.dispatch(self.slow.open)
        try:
            await waiting
        except WorkflowTimedOutError:
            return str(waiting.status())
        return "nothing"

    async def call(self, workflow_id: str) -> str:
        try:
            await self.get_workflow_by_id(Bakery, workflow_id).sell(1)
        except (WorkflowUnknownError, RequestRefusedError) as error:
            return type(error).__name__
        return "sold"

    async def keep(self) -> int:
        return await self.bakery.open()

    async def give_up_a_call(self, workflow_id: str) -> str:
        sale = self.dispatch(self.get_workflow_by_id(Bakery, workflow_id).open)
        await asyncio.sleep(1)
        sale.cancel()
        try:
            await sale
        except WorkflowCanceledError as error:
            return error.method_name
        return "nothing"


class Diner(Workflow):
    bakery = Workflow.new_workflow(BakeryProtocol)

    async def dine(self) -> int:
        return await self.new_workflow(BakeryProtocol).bake(2) + await self.bakery.bake(3)


def host(sim: Simulation) -> None:
    sim.add_service(Mill)
    sim.add_workflow(Bakery)
    sim.add_workflow(Inn)


async def read_status(sim: Simulation, key: StateKey) -> WorkflowStatus | None:
    stored = (await ensure_checked(sim.storage).states.load([key])).get(key)
    return None if stored is None else decode_head(key, stored).status


async def test_a_child_returns_and_its_parent_closes_after_it(sim: Simulation) -> None:
    """S28, S29."""
    host(sim)
    assert await sim.client.new_workflow(Inn).dine(4) == 8
    handle = await sim.client.dispatch(sim.client.new_workflow(Inn).forget)
    assert await handle.result() == "done"
    await sim.run_until_idle()
    burnt, baked = sim.steps(handle)
    assert (burnt.kind, burnt.name, burnt.outcome) == ("child", "Bakery.burn", StepFailed("LookupError", "no oven"))
    assert (baked.name, baked.arguments, baked.outcome) == ("Bakery.bake", (3,), StepCompleted(6))
    info = await sim.client.describe(handle)
    assert info.status is WorkflowStatus.COMPLETED, "the failure of fire and forget fails nothing"


async def test_the_failure_of_a_child_comes_with_all_its_causes(sim: Simulation) -> None:
    """S29, S34."""
    host(sim)
    assert await sim.client.new_workflow(Inn).fail("burn") == "LookupError"
    assert await sim.client.new_workflow(Inn).fail("bake") == "TaskFailedError, no sacks"
    with pytest.raises(WorkflowFailedError, match=r"Inn\.pass_on failed .* Bakery\.bake failed .* no sacks") as raised:
        await sim.client.new_workflow(Inn).pass_on()
    child = raised.value.cause
    assert isinstance(child, WorkflowFailedError)
    assert (child.workflow_name, child.method_name) == ("Bakery", "bake")
    assert isinstance(child.cause, TaskFailedError)
    assert child.cause.last_failure.exception.message == "no sacks"


async def test_calls_and_signals_reach_another_instance_in_order(sim: Simulation) -> None:
    """S30."""
    host(sim)
    handle = await sim.client.dispatch(sim.client.new_workflow(Inn).order)
    assert await handle.result() == [1, 3, 7]
    opened, first, second, sent = sim.steps(handle)
    assert [each.kind for each in (opened, first, second, sent)] == ["child", "call", "call", "send"]
    assert (sent.name, sent.arguments) == ("Bakery.orders", (7,))


async def test_meta_of_a_stub_is_in_the_context_of_each_child(sim: Simulation) -> None:
    host(sim)
    assert await sim.client.new_workflow(Inn).tell() == [{"k": "v"}] * 2


async def test_a_stub_is_made_of_a_protocol_without_the_code_of_the_child(sim: Simulation) -> None:
    """S29."""

    @workflow(name="BakeryProtocol")
    class Hidden(Bakery):
        pass

    sim.add_service(Mill)
    sim.add_workflow(Hidden)
    sim.add_workflow(Diner)
    assert await sim.client.new_workflow(Diner).dine() == 10


async def test_an_implementation_has_the_name_of_its_contract(sim: Simulation) -> None:
    class Corner(Workflow, BakeryContract):
        async def open(self) -> int:
            return 1

        async def sell(self, loaves: int) -> int:
            return loaves

    sim.add_workflow(Corner)
    handle = await sim.client.dispatch(sim.client.new_workflow(Corner).open)
    assert handle.workflow_name == "Bakery"
    assert await handle.result() == 1
    assert await sim.client.new_workflow(BakeryContract).sell(3) == 3, "a client takes a contract, too"
    with pytest.raises(UsageError, match="A workflow is a subclass of Workflow"):
        sim.client.new_workflow(Mill)


async def test_a_total_timeout_cancels_the_child(sim: Simulation) -> None:
    """S25, S29."""
    host(sim)
    began = sim.now
    handle = await sim.client.dispatch(sim.client.new_workflow(Inn).wait_in_vain)
    assert await handle.result() == "timed_out"
    assert sim.now - began == timedelta(minutes=1)
    await sim.run_until_idle()
    [waited] = sim.steps(handle)
    assert waited.outcome == StepTimedOut()
    child = StateKey("Bakery", ids.remote_id(handle.workflow_id, 0, 0))
    assert await read_status(sim, child) is WorkflowStatus.CANCELED


async def test_an_unknown_or_closed_instance_is_said_to_be_unknown(sim: Simulation) -> None:
    """S30."""
    host(sim)
    closed = await sim.client.dispatch(sim.client.new_workflow(Bakery).bake, 1)
    await closed.result()
    await sim.run_until_idle()
    for workflow_id in ("nobody", closed.workflow_id):
        assert await sim.client.new_workflow(Inn).call(workflow_id) == "WorkflowUnknownError"


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_whoever_ends_a_parent_ends_its_children(sim: Simulation, how: str) -> None:
    """S29, S35."""
    host(sim)
    handle = await sim.client.dispatch(sim.client.new_workflow(Inn).keep)
    await sim.run_until_idle()
    child = StateKey("Bakery", ids.remote_id(handle.workflow_id, 0, 0))
    assert await read_status(sim, child) is WorkflowStatus.RUNNING
    if how == "cancel":
        await sim.client.cancel(handle)
        with pytest.raises(WorkflowCanceledError):
            await handle.result()
    else:
        await sim.client.terminate(handle)
        with pytest.raises(WorkflowTerminatedError):
            await handle.result()
    await sim.run_until_idle()
    wanted = WorkflowStatus.CANCELED if how == "cancel" else WorkflowStatus.TERMINATED
    assert await read_status(sim, child) is wanted


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_the_end_of_a_child_by_an_operator_reaches_its_parent(sim: Simulation, how: str) -> None:
    """S29."""
    host(sim)
    handle = await sim.client.dispatch(sim.client.new_workflow(Inn).keep)
    await sim.run_until_idle()
    child = sim.client.get_workflow_by_id(Bakery, ids.remote_id(handle.workflow_id, 0, 0))
    await (sim.client.cancel(child) if how == "cancel" else sim.client.terminate(child, reason="too old"))
    with pytest.raises(WorkflowFailedError) as raised:
        await handle.result()
    cause = raised.value.cause
    if how == "cancel":
        assert isinstance(cause, WorkflowCanceledError)
    else:
        assert isinstance(cause, WorkflowTerminatedError)
        assert cause.reason == "too old"
    assert cause.workflow_id == ids.remote_id(handle.workflow_id, 0, 0)


async def test_cancelling_a_call_cancels_the_method_and_not_the_instance(sim: Simulation) -> None:
    """S25."""
    host(sim)
    baker = await sim.client.dispatch(sim.client.new_workflow(Bakery).open)
    handle = await sim.client.dispatch(sim.client.new_workflow(Inn).give_up_a_call, baker.workflow_id)
    assert await handle.result() == "open"
    await sim.run_until_idle()
    assert sim.steps(handle)[0].outcome == StepCanceled()
    info = await sim.client.describe(baker)
    assert [each.status for each in info.methods] == [WorkflowStatus.RUNNING]
    await sim.client.get_workflow_by_id(Bakery, baker.workflow_id).orders.send(5)
    assert await baker.result() == 5


async def test_a_child_that_nobody_hosts_waits_for_a_worker(sim: Simulation) -> None:
    sim.add_workflow(Inn)
    sim.add_service(Mill)
    handle = await sim.client.dispatch(sim.client.new_workflow(Inn).dine, 1)
    await sim.sleep(timedelta(days=3))
    [waiting] = sim.steps(handle)
    assert waiting.outcome == StepOpen()
    sim.add_workflow(Bakery)
    assert await handle.result() == 2


async def test_a_start_that_became_a_dead_letter_is_told_to_the_parent(sim: Simulation) -> None:
    """S13, S38: whoever buries a request tells who waits for it."""
    sim.add_workflow(Inn)
    sim.add_service(Mill)
    handle = await sim.client.dispatch(sim.client.new_workflow(Inn).dine, 1)
    await sim.sleep(timedelta(days=15))
    sim.add_workflow(Bakery)
    with pytest.raises(WorkflowFailedError) as raised:
        await handle.result()
    assert isinstance(raised.value.cause, RequestRefusedError)
    assert "deduplication window" in raised.value.cause.reason
    [failed] = sim.steps(handle)
    assert isinstance(failed.outcome, StepFailed)
    assert failed.outcome.error == "RequestRefusedError"


class Wide(Workflow):
    bakery = Workflow.new_workflow(Bakery, total_timeout=3600)

    async def bake(self, number: int) -> int:
        return sum(await asyncio.gather(*(self.bakery.bake(each) for each in range(number))))


async def test_a_parent_has_a_thousand_children(sim: Simulation) -> None:
    """S19, S29."""
    host(sim)
    sim.add_workflow(Wide)
    handle = await sim.client.dispatch(sim.client.new_workflow(Wide).bake, 1000)
    assert await handle.result() == 999 * 1000


class Greedy(Workflow):
    bakery = Workflow.new_workflow(Bakery)

    async def misuse(self) -> list[str]:
        refused = list[str]()
        other: Any = self.bakery
        calls: list[Callable[[], Any]] = [
            lambda: other.boil,
            lambda: self.dispatch(other.bake, "two"),
            lambda: self.get_workflow_by_id(Bakery, ""),
            lambda: self.get_workflow_by_id(Bakery, "x" * 256),
            lambda: self.new_workflow(Mill),
            lambda: self.new_workflow(Bakery, meta={"k": "text"}),  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
            lambda: self.new_workflow(Bakery, total_timeout=0),
        ]
        for call in calls:
            try:
                call()
            except UsageError as error:
                refused.append(str(error))
        try:
            await self.bakery.orders.send(1)
        except UsageError as error:
            refused.append(str(error))
        try:
            await self.get_workflow_by_id(Bakery, "b").orders.send(1, confirm=True)
        except UsageError as error:
            refused.append(str(error))
        try:
            await self.get_workflow_by_id(Bakery, "b").roast("x" * 6_000_000)
        except PayloadTooLargeError as error:
            refused.append(str(error))
        return refused


async def test_mistakes_are_named_at_the_call(sim: Simulation) -> None:
    sim.add_workflow(Greedy)
    handle = await sim.client.dispatch(sim.client.new_workflow(Greedy).misuse)
    refused = await handle.result()
    for text, found in zip(
        [
            "The workflow Bakery has no public coroutine or channel 'boil'",
            "sacks",
            "A workflow id must be non-empty text",
            "A workflow id has 256 bytes",
            "If it is a service, use Workflow.new_service(Mill)",
            "meta is a mapping of texts to bytes",
            "total_timeout",
            "signals go to a workflow that runs",
            "confirm=True is for clients",
            "above the limit",
        ],
        refused,
        strict=True,
    ):
        assert text in found
    assert [each.kind for each in sim.steps(handle)] == [], "nothing was sent"


def test_a_stub_is_of_no_use_outside_of_a_workflow() -> None:
    with pytest.raises(UsageError, match="for the code of a workflow"):
        _ = Inn.bakery.bake
    with pytest.raises(UsageError, match="Bakery is a workflow"):
        Workflow.new_service(Bakery)
    with pytest.raises(UsageError, match="got an instance of Bakery"):
        Workflow.new_workflow(Bakery())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="for subclasses of Workflow, and for an ABC or Protocol"):
        workflow(name="x")(Mill)


class Endless(Workflow):
    async def go_on(self, left: int) -> int:
        if left:
            self.continue_as_new(self.go_on, left - 1)
        return 7


class Patient(Workflow):
    endless = Workflow.new_workflow(Endless)

    async def wait(self) -> int:
        return await self.endless.go_on(3)

    async def go_on(self, left: int) -> list[str]:
        child = self.dispatch(self.endless.go_on, 0)
        if left:
            await child
            self.continue_as_new(self.go_on, left - 1)
        return [child.id, str(await child)]


async def test_a_child_that_goes_on_as_a_new_run_answers_its_parent(sim: Simulation) -> None:
    """S20, S29."""
    sim.add_workflow(Endless)
    sim.add_workflow(Patient)
    assert await sim.client.new_workflow(Patient).wait() == 7


async def test_each_run_of_a_parent_has_children_of_its_own(sim: Simulation) -> None:
    """S10, S20."""
    sim.add_workflow(Endless)
    sim.add_workflow(Patient)
    handle = await sim.client.dispatch(sim.client.new_workflow(Patient).go_on, 2)
    assert await handle.result() == [ids.remote_id(handle.workflow_id, 2, 0), "7"]
