"""Bad input is one clear error at the call, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from infinitic import (
    Channel,
    PayloadError,
    RegistrationError,
    UsageError,
    Workflow,
    WorkflowFailedError,
    all_of,
    any_of,
    batch,
    method,
)
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk, Run, both_ways


@dataclass
class Amount:
    cents: int


class Bank:
    async def pay(self, amount: Amount, to: str = "me") -> str:
        return f"{amount.cents} to {to}"

    @batch("pay")
    async def pay_all(self, payments: dict[str, tuple[Amount, str]]) -> dict[str, str]:
        return {task_id: f"{amount.cents} to {to}" for task_id, (amount, to) in payments.items()}

    def check(self, amount: Amount) -> bool:
        return amount.cents > 0


def _both(one: Any, two: Any) -> Any:
    return cast(Any, all_of)(one, two)


def _joined(one: Any, two: Any) -> Any:
    return one | two


class Caller(Workflow):
    """Each method makes one mistake, and then goes on."""

    desk = Workflow.new_service(Desk)
    bank = Workflow.new_service(Bank)
    numbers = Channel[int]()

    async def calls(self) -> list[str]:
        timer: Any = self.timer(1)
        pay, any_pay, any_bank = self.bank.pay, cast(Any, self.bank.pay), cast(Any, self.bank)
        listed: list[Any] = [[timer]]
        mistakes: list[tuple[Any, ...]] = [
            (lambda: any_pay(), "misses argument 'amount'"),
            (lambda: any_pay(Amount(1), "a", "b"), "takes 2 positional arguments, got 3"),
            (lambda: any_pay(Amount(1), whom="a"), "no argument 'whom'"),
            (lambda: any_pay(Amount(1), amount=Amount(2)), "two values for argument 'amount'"),
            (lambda: any_pay(100), "argument 'amount'"),
            (lambda: any_pay(Amount(1), 5), "argument 'to'"),
            (lambda: any_pay(object()), "argument 'amount'"),
            (lambda: pay(cast(Any, Amount(cast(Any, "1")))), "argument 'amount'"),
            (lambda: self.dispatch(any_pay, 100), "argument 'amount'"),
            (lambda: self.dispatch(any_pay), "misses argument 'amount'"),
            (lambda: self.dispatch(cast(Any, self.calls)), "dispatch takes a method of a stub"),
            (lambda: self.dispatch(cast(Any, print), "x"), "dispatch takes a method of a stub"),
            (lambda: any_bank.refund(1), "has no task 'refund'; it has check, pay"),
            (
                lambda: any_bank.pay_all({}),
                "Bank.pay_all is the batch method of the task 'pay', and workers call it: "
                "call self.bank.pay(…) for each task",
            ),
            (lambda: any_bank.check(Amount(1)), "is a plain method"),
            (lambda: any_of(*listed), "any_of"),
            (lambda: _both(timer, "x"), "all_of"),
            (lambda: _joined(timer, None), "|"),
        ]
        wrong = list[str]()
        for mistake, expected in mistakes:
            try:
                made = mistake()
            except (UsageError, TypeError) as error:
                if expected not in str(error):
                    wrong.append(f"{expected}: {error}")
            else:
                wrong.append(f"{expected}: {made!r}")
        return [*wrong, await self.desk.say("on"), await self.bank.pay(Amount(1)), str(await self._plain())]

    async def _plain(self) -> bool:
        return await self.dispatch(self.bank.check, Amount(1))

    async def bad_result(self) -> int:
        await self.desk.say("x")
        return cast(int, "seven")

    async def unserializable_result(self) -> Any:
        return object()

    async def receives(self) -> int:
        return await self.numbers.receive()


@both_ways(Caller, services=(Desk, Bank))
async def test_calls_of_stubs_are_checked_at_the_call(run: Run) -> None:
    assert await run.result(run.new(Caller).calls) == ["on", "1 to me", "True"]


@both_ways(Caller, services=(Desk, Bank))
async def test_a_result_that_does_not_fit_fails_the_method_and_says_so(run: Run) -> None:
    for bad in (run.new(Caller).bad_result, run.new(Caller).unserializable_result):
        with pytest.raises(WorkflowFailedError, match=r"PayloadError: .*\(\) result"):
            await run.result(cast(Any, bad))


async def test_calls_of_a_client_are_checked_at_the_call(sim: Simulation) -> None:
    sim.add_workflow(Caller)
    stub = cast(Any, sim.client.new_workflow(Caller))
    with pytest.raises(UsageError, match="positional argument"):
        await stub.receives(1)
    with pytest.raises(UsageError, match="positional argument"):
        await sim.client.dispatch(stub.receives, 1)
    with pytest.raises(UsageError, match="has no public coroutine, query or channel 'recieves'"):
        await stub.recieves()
    assert not (await sim.client.list_workflows()).found


async def test_a_signal_that_does_not_fit_is_refused_at_the_call(sim: Simulation) -> None:
    sim.add_workflow(Caller)
    handle = await sim.client.dispatch(sim.client.new_workflow(Caller).receives)
    channel = cast(Any, sim.client.get_workflow_by_id(Caller, handle.workflow_id).numbers)
    for value in ("seven", object(), None, 1.5):
        with pytest.raises(PayloadError, match=r"Caller\.numbers\.send\(\)"):
            await channel.send(value)
    await channel.send(7)
    assert await handle.result() == 7


class NoCoroutine(Workflow):
    """Nothing that could be started."""

    def plain(self) -> int:
        return 1

    async def _private(self) -> int:
        return 1


class BadHint(Workflow):
    async def run(self, what: Desk) -> None: ...


class BadChannel(Workflow):
    channel = Channel[Desk]()

    async def run(self) -> None: ...


class Generating(Workflow):
    async def run(self) -> Any:
        yield 1


class NeedsArguments(Workflow):
    def __init__(self, needed: str) -> None:
        self.needed = needed

    async def run(self) -> None: ...


class NamedTwice(Workflow):
    @method(name="same")
    async def one(self) -> None: ...

    @method(name="same")
    async def two(self) -> None: ...


@pytest.mark.parametrize("cls", [NoCoroutine, BadHint, BadChannel, Generating, NeedsArguments, NamedTwice])
async def test_a_class_that_cannot_run_is_refused_at_registration(sim: Simulation, cls: type[Workflow]) -> None:
    with pytest.raises(RegistrationError, match=cls.__name__):
        sim.add_workflow(cls)


async def test_two_classes_of_one_name_and_version_are_refused(sim: Simulation) -> None:
    class Caller(Workflow):
        async def run(self) -> None: ...

    sim.add_workflow(Caller)
    with pytest.raises(RegistrationError, match="both version 0 of the workflow 'Caller'"):
        sim.add_workflow(globals()["Caller"])


@pytest.mark.parametrize("what", [Workflow, Desk, "Caller", None])
async def test_what_is_no_workflow_is_refused(sim: Simulation, what: Any) -> None:
    with pytest.raises(UsageError):
        sim.add_workflow(what)
    with pytest.raises(UsageError):
        sim.client.new_workflow(what)


def test_stubs_and_tools_outside_of_a_workflow_are_refused() -> None:
    outside = Caller()
    with pytest.raises(UsageError, match="for a running workflow"):
        cast(Any, outside.bank).pay(Amount(1))
    with pytest.raises(UsageError, match="in a method"):
        cast(Any, Caller.bank).pay(Amount(1))
    with pytest.raises(UsageError, match="does not run"):
        outside.timer(1)
    with pytest.raises(UsageError, match="does not run"):
        outside.dispatch(cast(Any, print))
    with pytest.raises(UsageError, match="while it runs"):
        outside.numbers.receive()
    with pytest.raises(UsageError, match="code of a workflow"):
        all_of()


@pytest.mark.parametrize("what", ["Bank", Bank(), 5])
def test_a_stub_of_what_is_no_class_is_refused(what: Any) -> None:
    with pytest.raises(UsageError, match="takes the class of a service"):
        Workflow.new_service(what)
