"""Runs a scenario in ways that must come to the same.

On live instances, replayed at every step, and on two workers.

`both_ways` makes a test of a scenario and remembers its workflows:
`test_every_workflow_is_run_both_ways.py` proves that none of this folder was forgotten. Ids are
fixed, so that histories can be compared byte for byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

from msgspec import Raw

from infinitic import Worker, Workflow, WorkflowHandle, topics
from infinitic.client.client import Client
from infinitic.client.stubs import MethodStub, Target
from infinitic.definitions.workflow_spec import spec_of
from infinitic.messages import engine, events
from infinitic.storage import StateKey
from infinitic.transport import Message
from infinitic_testing.simulation import Simulation
from tests.replay.histories import keys_of, read_history, read_segments, run_again, stimuli_of

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W", bound=Workflow)


class Refused(Exception):
    """What `Desk.fail` raises."""


class Desk:
    """A service that answers when it is told to."""

    async def say(self, word: str, after: float = 0.0) -> str:
        await asyncio.sleep(after)
        return word

    async def fail(self, word: str, after: float = 0.0) -> str:
        await asyncio.sleep(after)
        raise Refused(word)


class Run:
    """What a scenario works with: a simulation, and starts with ids that are the same in every run.

    `split` says that the code runs on another worker than the state engine.
    """

    def __init__(self, sim: Simulation, *, split: bool) -> None:
        self.sim = sim
        self.split = split
        self._started = 0

    @property
    def client(self) -> Client:
        """The client of the simulation."""
        return self.sim.client

    def new(self, cls: type[W]) -> W:
        """A stub of a new instance, for `start` and `result`."""
        return self.client.new_workflow(cls)

    def on(self, cls: type[W], workflow_id: str = "w1") -> W:
        """A stub of a running instance."""
        return self.client.get_workflow_by_id(cls, workflow_id)

    async def start(
        self, method: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]:
        """Start an instance: the first one is "w1", and so on."""
        stub = cast(MethodStub, method)
        assert stub.workflow.workflow_id is None, "start() is for stubs of new()"
        self._started += 1
        workflow_id, spec = f"w{self._started}", stub.workflow.spec
        body = engine.encode(
            engine.Start(
                made_at=self.sim.clock.now(),
                method=stub.spec.name,
                arguments=Raw(stub.spec.signature.encode_arguments(args, kwargs)),
            )
        )
        message = Message(workflow_id, workflow_id, body)
        topic = topics.workflow_engine(spec.name)
        await self.sim.transport.declare([topic])
        await self.sim.transport.publish(topic, [message])
        known = Target(self.client, spec, workflow_id, {})
        return WorkflowHandle(self.client, known, stub.spec, workflow_id, workflow_id)

    async def result(self, method: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start an instance, and wait for what its method returns."""
        handle = await self.start(method, *args, **kwargs)
        return await handle.result()

    async def history(self, handle: WorkflowHandle[Any]) -> list[events.Event]:
        """The history of an instance."""
        key = StateKey(handle.workflow_name, handle.workflow_id)
        segments = await read_segments(self.sim, key)
        return [event for segment in segments for event in events.decode(segment.events)]

    def topic(self, handle: WorkflowHandle[Any]) -> topics.Topic:
        """Where the messages of an instance go."""
        return topics.workflow_engine(handle.workflow_name)

    async def idle(self) -> None:
        """Wait until nothing runs at this instant."""
        await self.sim.run_until_idle()


Scenario = Callable[[Run], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """A scenario and the classes that it needs hosted."""

    workflows: tuple[type[Workflow], ...]
    services: tuple[type[Any], ...]
    scenario: Scenario


CASES: dict[str, Case] = {}


def both_ways(*workflows: type[Workflow], services: tuple[type[Any], ...] = (Desk,)) -> Callable[[Scenario], Any]:
    """Make a test of a scenario.

    It passes if every way of running it passes, with the same result and history.
    """

    def decorate(scenario: Scenario) -> Callable[[], None]:
        case = Case(workflows, services, scenario)
        name = cast(Any, scenario).__name__
        CASES[f"{scenario.__module__.rpartition('.')[2]}.{name}"] = case

        def test() -> None:
            run_both_ways(case)

        test.__name__, test.__qualname__, test.__module__ = name, name, scenario.__module__
        test.__doc__ = scenario.__doc__
        return test

    return decorate


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    That is the result of the scenario, and the history of each instance, segment by segment.
    """

    result: object
    histories: dict[str, list[bytes]]


def run_both_ways(case: Case, *, same_elsewhere: bool = True) -> None:
    """Run a case on live instances, replayed at every step, and with its code on another worker.

    `same_elsewhere`: the result is the same there. That cannot be asked of a case that depends on
    the order of what happens at one instant.
    """
    live, replayed = run_case(case, cache_size=1000), run_case(case, cache_size=0)
    assert replayed.result == live.result, "replay at every step gives another result"
    assert replayed.histories.keys() == live.histories.keys()
    for name, history in live.histories.items():
        other = replayed.histories[name]
        if stimuli_of(history) == stimuli_of(
            other
        ):  # else the same things came in other folds, and there is no comparing
            assert other == history, f"replay at every step writes another history of {name}"
    split = run_case(case, cache_size=0, split=True)
    if same_elsewhere:
        assert split.result == live.result, "the code on another worker gives another result"


def run_case(case: Case, *, cache_size: int, split: bool = False) -> Outcome:
    """Run a case one way.

    Code that runs beside its state engine is also run a second time, on what history holds.
    """

    async def main() -> Outcome:
        async with AsyncExitStack() as stack:
            sim = await stack.enter_async_context(Simulation(cache_size=cache_size))
            for service in case.services:
                sim.add_service(service)
            if split:
                await stack.enter_async_context(_executors(sim, case).running())
            else:
                for cls in case.workflows:
                    sim.add_workflow(cls)
            result = await case.scenario(Run(sim, split=split))
            await sim.run_until_idle()
            keys = await keys_of(sim)
            histories = {f"{key.name} {key.id}": await read_history(sim, key) for key in keys}
            if not split:
                for key in keys:
                    await run_again(sim, key)
            return Outcome(result, histories)

    return Simulation.run(main())


def _executors(sim: Simulation, case: Case) -> Worker:
    """A worker that runs the code, while that of the simulation has the state."""
    worker = Worker(sim.transport, sim.storage, name="executor", clock=sim.clock, cache_size=0)
    for cls in case.workflows:
        worker.add_workflow_executor(cls)
        sim.worker.add_workflow_state_engine(spec_of(cls).name)
    return worker
