"""S8: somebody outside ends a delegated task, at any time, from anywhere."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import pytest
from pydantic import BaseModel

from infinitic import (
    Client,
    ClientCall,
    ExponentialBackoff,
    Middleware,
    PayloadError,
    RequestRefusedError,
    TaskFailedError,
    TaskTimedOutError,
    UsageError,
    Workflow,
    WorkflowFailedError,
    WorkflowUnknownError,
    task,
    task_context,
)
from infinitic_testing.loop import DeadlockError
from infinitic_testing.simulation import Simulation


class Approval(BaseModel):
    by: str
    euros: int


class Approvals(Protocol):
    async def ask(self, order: str) -> Approval: ...


class Mails(Approvals):
    """Keeps the tokens that it was to mail."""

    def __init__(self) -> None:
        self.sent = list[str]()
        self.attempts = 0
        self.crashes = 0

    @task(delegated=True, retry=ExponentialBackoff(minimum_seconds=1))
    async def ask(self, order: str) -> Approval:
        self.attempts += 1
        self.sent.append(task_context().delegation_token)
        if self.attempts <= self.crashes:
            raise ConnectionError("no mail today")
        return Approval(by="nobody", euros=0)


class Order(Workflow):
    approvals = Workflow.new_service(Approvals)

    async def buy(self, order: str) -> str:
        approval = await self.approvals.ask(order)
        return f"{approval.by}: {approval.euros}"

    async def buy_soon(self, order: str) -> str:
        try:
            async with asyncio.timeout(5):
                return (await self.approvals.ask(order)).by
        except TimeoutError:
            return "nobody answered"


class Both(Workflow):
    approvals = Workflow.new_service(Approvals, total_timeout=5)

    async def buy(self, order: str, *, again: bool = True) -> str:
        try:
            return (await self.approvals.ask(order)).by
        except TaskTimedOutError:
            if not again:
                return "nobody"
            self.continue_as_new(self.buy, order, again=False)


ADA = Approval(by="Ada", euros=7)


async def start(sim: Simulation, mails: Mails, method: Any = Order.buy) -> Any:
    sim.add_service(mails)
    sim.add_workflow(Order, Both)
    handle = await sim.client.dispatch(getattr(sim.client.new_workflow(Order), method.__name__), "desk")
    await sim.sleep(1)
    return handle


async def test_S8_a_task_is_completed_long_after_its_method_has_returned(sim: Simulation) -> None:
    mails = Mails()
    handle = await start(sim, mails)
    assert (await sim.client.describe(handle)).delegated_tasks == 1
    await sim.sleep(30 * 86_400)
    [token] = mails.sent
    assert await sim.client.complete_delegated_task(token, ADA, contract=Approvals, confirm=True) is None
    assert await handle.result() == "Ada: 7"
    assert mails.attempts == 1
    run = await sim.client.read_run(handle)
    [attempt] = run.steps[0].attempts
    assert (attempt.is_delegated, attempt.worker != "", attempt.ended_at) == (True, True, None)


async def test_S8_a_raise_follows_the_retry_policy_and_the_token_stays_the_same(sim: Simulation) -> None:
    mails = Mails()
    mails.crashes = 3
    handle = await start(sim, mails)
    await sim.sleep(100)
    assert len(mails.sent) == 4
    assert len(set(mails.sent)) == 1
    await sim.client.complete_delegated_task(mails.sent[0], {"by": "Bob", "euros": 1})
    assert await handle.result() == "Bob: 1"


async def test_S8_a_task_fails_for_good_whatever_its_policy(sim: Simulation) -> None:
    mails = Mails()
    handle = await start(sim, mails)
    await sim.client.fail_delegated_task(mails.sent[0], ValueError("no budget"))
    with pytest.raises(WorkflowFailedError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, TaskFailedError)
    failure = caught.value.cause.last_failure
    assert (failure.exception.name, failure.exception.message) == ("builtins.ValueError", "no budget")
    assert failure.worker_name == sim.client.name
    assert mails.attempts == 1


async def test_S8_after_retry_tasks_only_the_new_token_can_fail_the_task(sim: Simulation) -> None:
    mails = Mails()
    handle = await start(sim, mails)
    await sim.client.fail_delegated_task(mails.sent[0], "no budget")
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    await sim.client.retry_tasks(handle)
    await sim.sleep(1)
    old, new = mails.sent
    assert old != new
    with pytest.raises(RequestRefusedError, match="asked for the task again since: the next attempt has another token"):
        await sim.client.fail_delegated_task(old, "no", confirm=True)
    assert (await sim.client.describe(handle)).delegated_tasks == 1
    # A result counts, whichever token brings it (S10).
    await sim.client.complete_delegated_task(old, ADA, contract=Approvals, confirm=True)
    assert await handle.result() == "Ada: 7"


async def test_S8_too_late_is_no_harm_and_confirm_says_so(sim: Simulation) -> None:
    mails = Mails()
    handle = await start(sim, mails, Order.buy_soon)
    assert await handle.result() == "nobody answered"
    [token] = mails.sent
    await sim.client.complete_delegated_task(token, ADA, contract=Approvals)
    for ending in (
        sim.client.complete_delegated_task(token, ADA, contract=Approvals, confirm=True),
        sim.client.fail_delegated_task(token, "no", confirm=True),
    ):
        with pytest.raises(WorkflowUnknownError):
            await ending


async def test_S8_a_token_of_a_run_that_is_over_ends_nothing_in_the_next_one(sim: Simulation) -> None:
    mails = Mails()
    sim.add_service(mails)
    sim.add_workflow(Both)
    handle = await sim.client.dispatch(sim.client.new_workflow(Both).buy, "desk")
    await sim.sleep(7)
    old, new = mails.sent
    with pytest.raises(RequestRefusedError, match="belongs to a run that is over"):
        await sim.client.complete_delegated_task(old, ADA, contract=Approvals, confirm=True)
    await sim.client.complete_delegated_task(new, ADA, contract=Approvals)
    assert await handle.result() == "Ada"


async def test_S8_the_wrong_value_is_named_at_the_call(sim: Simulation) -> None:
    mails = Mails()
    handle = await start(sim, mails)
    client, [token] = sim.client, mails.sent
    with pytest.raises(UsageError, match="Approval"):
        await client.complete_delegated_task(token, "yes", contract=Approvals)
    with pytest.raises(PayloadError, match="Approval"):
        await client.complete_delegated_task(token, ADA)
    with pytest.raises(PayloadError, match="above the limit"):
        await client.complete_delegated_task(token, "x" * 6_000_000)
    with pytest.raises(UsageError, match="or with text that says what is wrong, got 7"):
        await client.fail_delegated_task(token, 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the mistake
    await client.complete_delegated_task(token, ADA, contract=Mails)
    await handle.result()


async def test_S8_the_token_of_another_task_is_named_at_the_call(sim: Simulation) -> None:
    class Payments(Protocol):
        async def pay(self) -> None: ...

    class Approvals(Protocol):
        async def asked(self) -> None: ...

    mails = Mails()
    handle = await start(sim, mails)
    for contract, message in (
        (Payments, "for a task of service Approvals, and Payments is Payments"),
        (Approvals, "for task ask, and Approvals has only asked"),
    ):
        with pytest.raises(UsageError, match=message):
            await sim.client.complete_delegated_task(mails.sent[0], None, contract=contract)
    await sim.client.terminate(handle)


async def test_S8_only_a_delegated_task_has_a_token(sim: Simulation) -> None:
    class Plain:
        async def ask(self, order: str) -> Approval:
            with pytest.raises(UsageError, match=r"decorate Approvals.ask with @task\(delegated=True\)"):
                _ = task_context().delegation_token
            return ADA

    sim.add_service(type("Approvals", (Plain,), {})())
    sim.add_workflow(Order)
    assert await sim.client.new_workflow(Order).buy("desk") == "Ada: 7"


def test_S8_a_test_that_waits_for_nobody_is_told_what_the_task_waits_for() -> None:
    async def main() -> None:
        async with Simulation() as sim:
            handle = await start(sim, Mails())
            await handle.result()

    with pytest.raises(DeadlockError, match=r"-0 is delegated: it waits for client\.complete_delegated_task"):
        Simulation.run(main())


@pytest.mark.parametrize("given", ["yes", 1])
def test_S8_delegated_is_true_or_false(given: Any) -> None:
    with pytest.raises(UsageError, match="delegated in @task must be True or False"):
        task(delegated=given)


async def test_what_is_done_by_tag_is_checked_at_the_call(sim: Simulation) -> None:
    class Several(Protocol):
        async def ask(self) -> int: ...

        async def tell(self) -> str: ...

    client = sim.client
    for asking, message in (
        (client.complete_delegated_tasks(Several, "t", 1), r"Several has several tasks \(ask, tell\): say which one"),
        (client.complete_delegated_tasks(Several, "t", 1, task="say"), "Several has no task 'say'; it has ask, tell"),
        (client.complete_delegated_tasks(Several, "t", "x", task="ask"), "int"),
        (client.complete_delegated_tasks(Approvals, "", ADA), "A tag must be non-empty text"),
        (client.complete_delegated_tasks(Order, "t", 1), "is a workflow"),
        (client.fail_delegated_tasks("", "t", "no"), "The name of a service must be non-empty text"),
        (client.fail_delegated_tasks(Approvals, "t", 7), "with text that says what is wrong, got 7"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the mistake
    ):
        with pytest.raises(UsageError, match=message):
            await asking


async def test_middlewares_of_a_client_see_what_ends_delegated_tasks(sim: Simulation) -> None:
    seen: list[tuple[str, tuple[Any, ...]]] = []

    class Noting(Middleware):
        async def client_call(self, call: ClientCall, call_next: Any) -> Any:
            seen.append((call.verb, call.args))
            return await call_next()

    mails = Mails()
    handle = await start(sim, mails)
    async with Client(sim.transport, clock=sim.client.clock, middleware=[Noting()]) as client:
        await client.complete_delegated_task(mails.sent[0], ADA, contract=Approvals)
        await client.fail_delegated_tasks(Approvals, "nobody", "no")
    assert await handle.result() == "Ada: 7"
    assert seen == [
        ("complete_delegated_task", (mails.sent[0], ADA)),
        ("fail_delegated_tasks", (Approvals, "nobody", "no")),
    ]
