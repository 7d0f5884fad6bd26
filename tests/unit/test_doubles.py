"""Doubles of services: the answers of a method by its name and by itself."""

from __future__ import annotations

from typing import Any, cast

import pytest

from infinitic import ExponentialBackoff, Workflow, task
from infinitic.errors import UsageError, WorkflowFailedError
from infinitic_testing.doubles import ServiceDouble
from infinitic_testing.simulation import Simulation


class Desk:
    async def say(self, text: str) -> str:
        return text

    async def on(self, text: str) -> str:
        return text

    async def implementation(self) -> str:
        return ""

    @staticmethod
    def fixed() -> int:
        return 1

    @classmethod
    def of_class(cls) -> int:
        return 2


class FrontDesk(Desk):
    async def say(self, text: str) -> str:
        return text.upper()


class Asks(Workflow):
    desk = Workflow.new_service(Desk)

    async def all(self) -> list[Any]:
        said = await self.desk.say("a"), await self.desk.on("b"), await self.desk.implementation()
        return [*said, await self.dispatch(self.desk.fixed), await self.dispatch(self.desk.of_class)]


def test_both_forms_are_one_double() -> None:
    desk = ServiceDouble(Desk)
    assert desk.on(Desk.say) is desk.say
    assert desk.on(Desk.fixed) is desk.fixed
    assert desk.on(Desk.of_class) is desk.of_class
    assert desk.on(Desk.on) is not desk.say


async def test_answers_are_given_whatever_a_task_is_called(sim: Simulation) -> None:
    desk = sim.mock(Desk)
    desk.on(Desk.say).raises(ValueError).returns("said")
    desk.on(Desk.on).runs(lambda text: f"on {text}")
    desk.on(Desk.implementation).returns("x")
    desk.on(Desk.fixed).returns(3)
    desk.on(Desk.of_class).returns(4)
    sim.add_workflow(Asks)
    with pytest.raises(WorkflowFailedError, match="ValueError"):
        await sim.client.new_workflow(Asks).all()
    assert await sim.client.new_workflow(Asks).all() == ["said", "on b", "x", 3, 4]
    assert [call.args for call in desk.on(Desk.on).calls] == [("b",)]


@pytest.mark.parametrize("method", [FrontDesk.say, print, "say", Desk().say])
def test_what_is_no_method_of_the_contract_is_refused(method: Any) -> None:
    with pytest.raises(UsageError, match=r"one of Desk\.say, Desk\.on, "):
        cast(Any, ServiceDouble(Desk)).on(method)


async def test_an_answer_of_a_wrong_type_fails_the_task_with_the_reason(sim: Simulation) -> None:
    cast(Any, sim.mock(Desk)).say.returns(3)
    sim.add_workflow(Asks)
    with pytest.raises(WorkflowFailedError, match="expected str, got int 3"):
        await sim.client.new_workflow(Asks).all()


class Impatient:
    @task(retry=lambda index, error: 1.0)
    async def wait(self, name: str, *, seconds: float = 1.0) -> str:
        raise NotImplementedError


class Patient(Impatient):
    @task(retry=ExponentialBackoff(maximum_retries=10**9))
    async def wait(self, name: str, *, seconds: float = 1.0) -> str:
        raise NotImplementedError


class Waits(Workflow):
    one = Workflow.new_service(Impatient)
    two = Workflow.new_service(Patient)

    async def first(self) -> str:
        return await self.one.wait("Ada", seconds=2)

    async def second(self) -> str:
        return await self.two.wait("x" * 500)


async def test_a_call_without_an_answer_is_named_and_not_tried_again(sim: Simulation) -> None:
    one, two = sim.mock(Impatient), sim.mock(Patient)
    sim.add_workflow(Waits)
    with pytest.raises(WorkflowFailedError) as caught:
        await sim.client.new_workflow(Waits).first()
    assert str(caught.value).endswith(
        "UnexpectedCall: Impatient.wait('Ada', seconds=2.0) was called, but it has no answer: add one to the double "
        "that sim.mock(Impatient) returns, by .wait.returns(…), .wait.raises(…) or .wait.runs(…)"
    )
    with pytest.raises(WorkflowFailedError, match=r"Patient.wait\('x{290,300}… was called"):
        await sim.client.new_workflow(Waits).second()
    assert [len(one.wait.calls), len(two.wait.calls)] == [1, 1]


async def test_other_errors_of_a_double_are_tried_again(sim: Simulation) -> None:
    one = sim.mock(Impatient)
    one.wait.raises(ConnectionError).raises(ConnectionError).returns("done")
    sim.add_workflow(Waits)
    assert await sim.client.new_workflow(Waits).first() == "done"
    assert len(one.wait.calls) == 3
