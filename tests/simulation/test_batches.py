"""S7: tasks of a batch run in one call, and each has its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from infinitic import (
    ExponentialBackoff,
    TaskFailedError,
    TaskTimedOutError,
    UsageError,
    Workflow,
    WorkflowCanceledError,
    all_of,
    batch,
    service,
    task,
    task_context,
)
from infinitic_testing.simulation import Simulation
from tests.simulation.desk import always

Calls = list[tuple[float, list[Any]]]


@service(name="Payments")
class Payments:
    """The contract."""

    async def charge(self, euros: int) -> str:
        raise NotImplementedError

    async def move(self, euros: int, to: str = "bank") -> str:
        return f"{euros} to {to}"

    async def refund(self, euros: int) -> str:
        return f"{euros} back"


class Shop(Workflow):
    payments = Workflow.new_service(Payments)
    eu = Workflow.new_service(Payments, meta={"batch_key": b"eu"})
    us = Workflow.new_service(Payments, meta={"batch_key": b"us"})
    hurried = Workflow.new_service(Payments, total_timeout=3.0)

    async def sell(self, prices: list[int]) -> list[str]:
        return await all_of(*(self.dispatch(self.payments.charge, price) for price in prices))

    async def sell_abroad(self, prices: list[int]) -> list[str]:
        stubs = (self.eu, self.us, self.payments)
        calls = [self.dispatch(stubs[number % 3].charge, price) for number, price in enumerate(prices)]
        return await all_of(*calls)

    async def try_to_sell(self, prices: list[int]) -> list[str]:
        calls = [self.dispatch(self.payments.charge, price) for price in prices]
        return [await _read_outcome(call) for call in calls]

    async def sell_in_time(self, prices: list[int]) -> list[str]:
        calls = [self.dispatch(self.hurried.charge, price) for price in prices[:-1]]
        calls.append(self.dispatch(self.payments.charge, prices[-1]))
        return [await _read_outcome(call) for call in calls]

    async def move_all(self, prices: list[int]) -> list[str]:
        here = [self.dispatch(self.payments.move, price) for price in prices]
        return await all_of(
            *here, self.dispatch(self.payments.move, 7, to="me"), self.dispatch(self.payments.refund, 8)
        )


async def _read_outcome(call: Awaitable[str]) -> str:
    try:
        return await call
    except TaskFailedError as error:
        return f"{error.last_failure.exception.name.rpartition('.')[2]}: {error.last_failure.exception.message}"
    except TaskTimedOutError:
        return "timed out"


def make_payments(
    charge_all: Callable[..., Any], *, max_messages: int = 1000, max_seconds: float = 1.0, **options: Any
) -> object:
    """Make the service of a function that charges the tasks of a batch."""

    class Stripe(Payments):
        @task(**options)
        @batch("charge", max_messages=max_messages, max_seconds=max_seconds)
        async def charge_all(self, orders: dict[str, int]) -> Any:
            return await charge_all(orders)

    return Stripe()


class Bank:
    """Answers as told, and notes each call: after how many seconds, and what was in it."""

    def __init__(self, sim: Simulation, answer: Callable[[int], Any] = str, **options: Any) -> None:
        self.sim = sim
        self.began = sim.now
        self.calls: Calls = []
        self.answer = answer
        sim.add_service(make_payments(self.charge, **options))
        sim.add_workflow(Shop)

    async def charge(self, orders: Mapping[str, int]) -> Mapping[str, Any]:
        self.note(list(orders.values()))
        return {task_id: self.answer(euros) for task_id, euros in orders.items()}

    def note(self, what: list[Any]) -> None:
        self.calls.append(((self.sim.now - self.began).total_seconds(), what))


async def test_a_batch_is_closed_when_it_is_full_or_old(sim: Simulation) -> None:
    """S7: both limits close it, and nothing waits for longer than the second one."""
    bank = Bank(sim, max_messages=4, max_seconds=2.5)
    assert await sim.client.new_workflow(Shop).sell(list(range(10))) == [str(price) for price in range(10)]
    assert bank.calls == [(0.0, [0, 1, 2, 3]), (0.0, [4, 5, 6, 7]), (2.5, [8, 9])]


async def test_the_first_task_of_a_batch_says_when_it_closes(sim: Simulation) -> None:
    bank = Bank(sim, max_seconds=1.0)
    first = await sim.client.dispatch(sim.client.new_workflow(Shop).sell, [1])
    await sim.sleep(0.7)
    second = await sim.client.dispatch(sim.client.new_workflow(Shop).sell, [2])
    assert [await first.result(), await second.result()] == [["1"], ["2"]]
    assert bank.calls == [(1.0, [1, 2])]


async def test_without_waiting_a_batch_has_what_is_there(sim: Simulation) -> None:
    bank = Bank(sim, max_seconds=0)
    assert await sim.client.new_workflow(Shop).sell(list(range(50))) == [str(price) for price in range(50)]
    assert len(bank.calls) < 5
    assert {at for at, _ in bank.calls} == {0.0}


async def test_a_batch_is_closed_by_its_bytes(sim: Simulation) -> None:
    """S7: at 4 MiB, whatever the other limits say."""
    sizes: list[int] = []

    class Store:
        async def keep(self, data: str) -> int:
            raise NotImplementedError

        @batch("keep", max_seconds=60)
        async def keep_all(self, all_data: dict[str, str]) -> dict[str, int]:
            sizes.append(len(all_data))
            return {task_id: len(data) for task_id, data in all_data.items()}

    class Archive(Workflow):
        store = Workflow.new_service(Store)

        async def run(self, count: int) -> list[int]:
            return await all_of(*(self.dispatch(self.store.keep, "x" * 1_000_000) for _ in range(count)))

    sim.add_service(Store())
    sim.add_workflow(Archive)
    assert await sim.client.new_workflow(Archive).run(11) == [1_000_000] * 11
    assert sizes == [4, 4, 3]


async def test_tasks_with_a_batch_key_are_only_with_the_same_one(sim: Simulation) -> None:
    bank = Bank(sim)
    assert await sim.client.new_workflow(Shop).sell_abroad(list(range(9))) == [str(price) for price in range(9)]
    assert sorted(bank.calls) == [(1.0, [0, 3, 6]), (1.0, [1, 4, 7]), (1.0, [2, 5, 8])]


async def test_several_arguments_are_a_tuple_with_defaults(sim: Simulation) -> None:
    calls: list[list[tuple[int, str]]] = []

    class Stripe(Payments):
        @batch("move")
        def _move_all(self, moves: dict[str, tuple[int, str]]) -> dict[str, str]:
            """A `def` batch method, which runs in a thread outside of simulations."""
            calls.append(list(moves.values()))
            return {task_id: f"{euros} to {to}" for task_id, (euros, to) in moves.items()}

    sim.add_service(Stripe())
    sim.add_workflow(Shop)
    assert await sim.client.new_workflow(Shop).move_all([1, 2]) == ["1 to bank", "2 to bank", "7 to me", "8 back"]
    assert calls == [[(1, "bank"), (2, "bank"), (7, "me")]]


async def test_each_task_has_its_own_outcome(sim: Simulation) -> None:
    """S7: a value, an exception, a missing key and a wrong value, each for one task alone."""

    class Stripe(Bank):
        async def charge(self, orders: Mapping[str, int]) -> Mapping[str, Any]:
            outcomes: dict[str, Any] = dict(await super().charge(orders))
            return {task_id: outcome for task_id, outcome in outcomes.items() if outcome is not SimpleNamespace}

    answers = {1: "one", 2: LookupError("no 2"), 3: SimpleNamespace, 4: 4.5, 5: "five"}
    bank = Stripe(sim, answers.__getitem__)
    assert await sim.client.new_workflow(Shop).try_to_sell(list(answers)) == [
        "one",
        "LookupError: no 2",
        f"MissingResult: {STRIPE} returned no result for this task: its id is not in the dict",
        "PayloadError: Payments.charge() result: expected str, got float 4.5",
        "five",
    ]
    assert bank.calls == [(1.0, [1, 2, 3, 4, 5])]


STRIPE = "make_payments.<locals>.Stripe.charge_all"


@pytest.mark.parametrize("returned", [None, [], "text", 3])
async def test_what_is_no_dict_fails_all_tasks_for_good(sim: Simulation, returned: Any) -> None:
    class Stripe(Bank):
        async def charge(self, orders: Mapping[str, int]) -> Any:
            self.note(list(orders.values()))
            return returned

    bank = Stripe(sim, retry=always(1.0))
    kind = type(returned).__name__
    problem = f"MissingResult: {STRIPE} returned no dict of results by the ids of the tasks, but a {kind}"
    assert await sim.client.new_workflow(Shop).try_to_sell([1, 2]) == [problem, problem]
    assert bank.calls == [(1.0, [1, 2])]


async def test_results_of_other_tasks_are_dropped_with_a_warning(
    sim: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    class Stripe(Bank):
        async def charge(self, orders: Mapping[str, int]) -> Mapping[str, Any]:
            return {**await super().charge(orders), "of nobody": "7"}

    Stripe(sim)
    assert await sim.client.new_workflow(Shop).sell([1, 2]) == ["1", "2"]
    assert "returned 1 results whose keys are no ids of its tasks, such as 'of nobody'" in caplog.text
    caplog.clear()


async def test_what_the_batch_raises_follows_the_policy_of_each_task(sim: Simulation) -> None:
    """S7, S2: all are tried again, and come together again if their policy gives the same delay."""
    contexts: list[tuple[int, bytes | None]] = []

    class Stripe(Bank):
        async def charge(self, orders: Mapping[str, int]) -> Mapping[str, Any]:
            for task_id in orders:
                context = task_context(task_id)
                assert context.task_id == task_id
                contexts.append((context.retry_index, context.meta.get("tried")))
                context.meta["tried"] = str(context.retry_index).encode()
            await super().charge(orders)
            if len(self.calls) < 3:
                raise ConnectionError("away")
            return await super().charge(orders)

    bank = Stripe(sim, retry=ExponentialBackoff(minimum_seconds=10, random_factor=0))
    assert await sim.client.new_workflow(Shop).sell([1, 2]) == ["1", "2"]
    assert [at for at, _ in bank.calls] == [1.0, 12.0, 33.0, 33.0]
    assert contexts == [(0, None), (0, None), (1, b"0"), (1, b"0"), (2, b"1"), (2, b"1")]


async def test_an_exception_for_one_task_follows_its_policy_alone(sim: Simulation) -> None:
    """S7, S2: the others are done, and are not in the batch that tries it again."""
    failures = iter([ConnectionError("away"), ConnectionError("still away")])

    def answer(euros: int) -> Any:
        return next(failures, "two") if euros == 2 else str(euros)

    bank = Bank(sim, answer, retry=always(10.0))
    assert await sim.client.new_workflow(Shop).sell([1, 2, 3]) == ["1", "two", "3"]
    assert bank.calls == [(1.0, [1, 2, 3]), (12.0, [2]), (23.0, [2])]


async def test_the_attempt_timeout_is_that_of_the_call(sim: Simulation) -> None:
    """S4, S7: it begins with the call, cancels it, and is a failure of each task."""
    told: list[int] = []

    class Stripe(Bank):
        async def charge(self, orders: Mapping[str, int]) -> Mapping[str, Any]:
            await super().charge(orders)
            if len(self.calls) == 1:
                for task_id, euros in orders.items():
                    task_context(task_id).on_cancel(partial(told.append, euros))
                await asyncio.sleep(100.0)
            return dict.fromkeys(orders, "done")

    bank = Stripe(sim, attempt_timeout=5.0, max_seconds=30.0, retry=always(0.0))
    assert await sim.client.new_workflow(Shop).sell([1, 2]) == ["done", "done"]
    assert bank.calls == [(30.0, [1, 2]), (65.0, [1, 2])]
    assert told == [1, 2]


async def test_a_cancelled_task_leaves_the_batch_that_waits(sim: Simulation) -> None:
    """S6, S7: one whose time is over, and then the whole of another workflow."""
    bank = Bank(sim, max_seconds=10.0)
    shop = sim.client.new_workflow(Shop)
    kept = await sim.client.dispatch(shop.sell_in_time, [1, 2, 3])
    given_up = await sim.client.dispatch(sim.client.new_workflow(Shop).sell, [4, 5])
    await sim.sleep(5.0)
    await sim.client.cancel(given_up)
    with pytest.raises(WorkflowCanceledError):
        await given_up.result()
    assert await kept.result() == ["timed out", "timed out", "3"]
    assert bank.calls == [(10.0, [3])]


async def test_a_batch_that_all_have_left_never_runs(sim: Simulation) -> None:
    bank = Bank(sim, max_seconds=10.0)
    handle = await sim.client.dispatch(sim.client.new_workflow(Shop).sell, [4, 5])
    await sim.sleep(5.0)
    await sim.client.cancel(handle)
    await sim.sleep(100.0)
    assert bank.calls == []
    assert await sim.client.new_workflow(Shop).sell([6]) == ["6"]
    assert bank.calls == [(115.0, [6])]


class Slow(Bank):
    """Takes ten seconds for a call, and notes what it is told meanwhile."""

    def __init__(self, sim: Simulation, **options: Any) -> None:
        super().__init__(sim, **options)
        self.told: list[tuple[float, int]] = []
        self.cancelled: list[float] = []

    async def charge(self, orders: Mapping[str, int]) -> Mapping[str, Any]:
        def watch(task_id: str) -> None:
            task_context(task_id).on_cancel(lambda: self.told.append((self.seconds, orders[task_id])))

        for task_id in orders:
            watch(task_id)
        results = await super().charge(orders)
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            self.cancelled.append(self.seconds)
            raise
        return results

    @property
    def seconds(self) -> float:
        return (self.sim.now - self.began).total_seconds()


async def test_a_cancelled_task_is_told_while_its_batch_goes_on(sim: Simulation) -> None:
    """S6, S7: its result is dropped, and the others get theirs."""
    bank = Slow(sim)
    assert await sim.client.new_workflow(Shop).sell_in_time([1, 2, 3]) == ["timed out", "timed out", "3"]
    assert (bank.told, bank.cancelled) == ([(3.0, 1), (3.0, 2)], [])
    assert bank.calls == [(1.0, [1, 2, 3])]


async def test_the_call_is_cancelled_when_nobody_waits_for_any_of_its_tasks(sim: Simulation) -> None:
    """S6, S7."""
    bank = Slow(sim, retry=always(1.0))
    handle = await sim.client.dispatch(sim.client.new_workflow(Shop).sell, [1, 2])
    await sim.sleep(5.0)
    await sim.client.cancel(handle)
    with pytest.raises(WorkflowCanceledError):
        await handle.result()
    await sim.sleep(100.0)
    assert (bank.told, bank.cancelled) == ([(5.0, 1), (5.0, 2)], [5.0])
    assert bank.calls == [(1.0, [1, 2])], "it is not tried again"


async def test_what_a_batch_may_ask_of_its_contexts(sim: Simulation) -> None:
    texts: list[str] = []

    class Stripe(Bank):
        async def charge(self, orders: Mapping[str, int]) -> Mapping[str, Any]:
            for wanted in (None, "of nobody"):
                with pytest.raises(UsageError) as caught:
                    task_context(wanted)
                texts.append(str(caught.value))
            first, second = (task_context(task_id) for task_id in orders)
            assert first.workflow_id == second.workflow_id
            assert (first.service_name, first.task_name, first.batch_key) == ("Payments", "charge", None)
            assert task_context(first.task_id) is first is not second
            return await super().charge(orders)

    bank = Stripe(sim)
    assert await sim.client.new_workflow(Shop).sell([1, 2]) == ["1", "2"]
    assert len(bank.calls) == 1
    assert texts == [
        f"{STRIPE} runs 2 tasks in one call: task_context(task_id) is the context of one of them",
        f"{STRIPE} does not run a task with the id 'of nobody'",
    ]


async def test_a_double_of_a_service_with_batches_answers_each_task(sim: Simulation) -> None:
    payments = sim.mock(type(make_payments(str)))
    payments.charge.returns("first").returns("next")
    sim.add_workflow(Shop)
    assert await sim.client.new_workflow(Shop).sell([1, 2]) == ["first", "next"]
    assert len(payments.charge.calls) == 2


async def test_concurrency_counts_batches(sim: Simulation) -> None:
    """S7: a batch is one of the things that run at once, from its first task on."""
    at_once: list[int] = []
    running: set[int] = set()

    class Stripe(Bank):
        async def charge(self, orders: Mapping[str, int]) -> Mapping[str, Any]:
            results = await super().charge(orders)
            running.add(len(self.calls))
            at_once.append(len(running))
            number = len(self.calls)
            await asyncio.sleep(10.0)
            running.discard(number)
            return results

    bank = Stripe.__new__(Stripe)
    bank.sim, bank.began, bank.calls, bank.answer = sim, sim.now, [], str
    sim.worker.add_service(make_payments(bank.charge, max_messages=5), concurrency=2)
    sim.add_workflow(Shop)
    prices = list(range(23))
    assert await sim.client.new_workflow(Shop).sell(prices) == [str(price) for price in prices]
    assert max(at_once) == 2
    assert sorted(price for _, call in bank.calls for price in call) == prices
    assert [len(call) for _, call in bank.calls] == [5, 5, 5, 5, 3]
    assert await sim.client.new_workflow(Shop).sell([1]) == ["1"]


@pytest.mark.parametrize("profile", ["fifo", "seeded"])
def test_a_simulation_may_set_the_limits(profile: str) -> None:
    sizes: list[int] = []

    async def charge(orders: dict[str, int]) -> dict[str, str]:
        sizes.append(len(orders))
        return {task_id: str(euros) for task_id, euros in orders.items()}

    async def main() -> list[str]:
        async with Simulation(profile=profile) as sim:
            sim.add_service(make_payments(charge), batch_max_messages=3, batch_max_seconds=timedelta(seconds=2))
            sim.add_workflow(Shop)
            return await sim.client.new_workflow(Shop).sell(list(range(7)))

    assert Simulation.run(main()) == [str(price) for price in range(7)]
    assert max(sizes) == 3


async def test_ten_thousand_tasks(sim: Simulation) -> None:
    bank = Bank(sim)
    prices = list(range(10_000))
    assert await sim.client.new_workflow(Shop).sell(prices) == [str(price) for price in prices]
    assert sorted(price for _, call in bank.calls for price in call) == prices
    assert len(bank.calls) < 40
    assert sim.now - bank.began < timedelta(seconds=30)
