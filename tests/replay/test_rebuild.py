"""What is rebuilt with each instance (S26).

Defaults of the class, the constructor, base classes and mixins.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

from infinitic import Channel, Workflow, workflow
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk, Run, both_ways


@dataclass
class Basket:
    items: list[str] = field(default_factory=list[str])


class Defaults(Workflow):
    desk = Workflow.new_service(Desk)
    words: ClassVar[list[str]] = ["first"]
    counts: ClassVar[dict[str, list[int]]] = {"a": [0]}
    seen: ClassVar[set[str]] = set()
    raw = bytearray(b"x")
    _private: ClassVar[list[str]] = []
    recent: ClassVar = deque[str](maxlen=2)
    basket = Basket()
    limit = 3

    async def add(self, word: str) -> str:
        for each in (self.words, self._private, self.recent, self.basket.items):
            each.append(word)
        self.counts["a"].append(len(word))
        self.seen.add(word)
        self.raw += word.encode()
        self.limit += 1
        await self.desk.say(word)
        sizes = [len(each) for each in (self.words, self._private, self.recent, self.basket.items)]
        return f"{sizes} {self.counts['a']} {len(self.seen)} {bytes(self.raw).decode()} {self.limit}"


EXPECTED = "[2, 1, 1, 1] [0, 3] 1 xabc 4"


@both_ways(Defaults)
async def test_mutable_defaults_of_the_class_are_copied_for_each_instance(run: Run) -> None:  # S26
    assert [await run.result(run.new(Defaults).add, "abc") for _ in range(3)] == [EXPECTED] * 3
    assert (Defaults.words, Defaults.counts, Defaults.seen) == (["first"], {"a": [0]}, set())
    assert (bytes(Defaults.raw), len(Defaults.recent), Defaults.basket) == (b"x", 0, Basket())


async def test_mutable_defaults_are_copied_where_a_factory_makes_the_object(sim: Simulation) -> None:  # S26
    sim.add_service(Desk)
    sim.add_workflow(lambda: Defaults())
    assert [await sim.client.new_workflow(Defaults).add("abc") for _ in range(3)] == [EXPECTED] * 3


class Constructed(Workflow):
    desk = Workflow.new_service(Desk)
    words = Channel[str]()

    def __init__(self, greeting: str = "hello") -> None:
        BUILT.append(greeting)
        self.greeting = greeting
        self.jobs = asyncio.Queue[str]()
        self.began = self.now()
        self.number = self.random.randint(1, 10**9)
        self.first = self.dispatch(self.desk.say, "from the constructor")
        self.background = asyncio.get_running_loop().create_task(self._work())
        self.log = list[str]()
        self.inbox = self.words.receive()

    async def _work(self) -> None:
        while True:
            self.log.append(await self.desk.say(await self.jobs.get(), 1))

    async def run(self) -> list[str]:
        for word in "ab":
            await self.jobs.put(word)
        await asyncio.sleep(5)
        assert self.began < self.now()
        await (self.inbox | self.timer(1))
        return [self.greeting, await self.first, *self.log, str(self.number)]


BUILT: list[str] = []


@both_ways(Constructed)
async def test_a_constructor_may_do_what_methods_may(run: Run) -> list[str]:  # S26
    BUILT.clear()
    result = await run.result(run.new(Constructed).run)
    assert result[:4] == ["hello", "from the constructor", "a", "b"]
    return result


def test_the_constructor_runs_at_each_rebuild() -> None:  # S26
    async def main(cache_size: int) -> int:
        BUILT.clear()
        async with Simulation(cache_size=cache_size) as sim:
            sim.add_service(Desk)
            sim.add_workflow(Constructed)
            await sim.client.new_workflow(Constructed).run()
            return len(BUILT)

    assert Simulation.run(main(1000)) == 1
    assert Simulation.run(main(0)) > 3


async def test_a_factory_gives_the_constructor_its_arguments(sim: Simulation) -> None:  # S26
    sim.add_service(Desk)
    sim.add_workflow(lambda: Injected("good day"))
    assert await sim.client.new_workflow(Injected).run() == "good day!"


class Injected(Workflow):
    desk = Workflow.new_service(Desk)

    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    async def run(self) -> str:
        return self.greeting + await self.desk.say("!")


class Approvals:
    """A mixin that is no workflow: a channel and a method."""

    approvals = Channel[bool]()
    asked: ClassVar[list[str]] = []

    async def approved(self, what: str) -> str:
        self.asked.append(what)
        answer = await self.approvals.receive()
        return f"{what} {answer} {self.asked}"


class Base(Workflow, ABC):
    desk = Workflow.new_service(Desk)

    @abstractmethod
    async def greet(self, name: str) -> str: ...

    async def both(self) -> list[str]:
        return list(await asyncio.gather(self.greet("x"), self.desk.say(await self._suffix())))

    async def _suffix(self) -> str:
        return "base"


class Child(Approvals, Base):
    async def greet(self, name: str) -> str:
        return await self.desk.say(f"hello {name}", 1)

    async def _suffix(self) -> str:
        return await super()._suffix() + " and child"


@workflow(name="GrandChild")
class GrandChild(Child):
    async def greet(self, name: str) -> str:
        return (await super().greet(name)).upper()


@both_ways(Child, GrandChild)
async def test_base_classes_and_overridden_methods(run: Run) -> None:  # S26
    assert await run.result(run.new(Child).both) == ["hello x", "base and child"]
    assert await run.result(run.new(GrandChild).both) == ["HELLO X", "base and child"]


@both_ways(Child)
async def test_mixins_bring_channels_and_methods(run: Run) -> None:  # S26
    for workflow_id in ("w1", "w2"):
        handle = await run.start(run.new(Child).approved, "this")
        await run.on(Child, workflow_id).approvals.send(True)
        assert await handle.result() == "this True ['this']"


class HiddenParts(Workflow):
    """Parts whose names begin with an underscore work as all others do."""

    _desk = Workflow.new_service(Desk)
    _inbox = Channel[str]()

    async def run(self) -> str:
        either = self._inbox.receive() | self.timer(5)
        return await self._desk.say(type(await either).__name__)


@both_ways(HiddenParts)
async def test_private_stubs_and_channels(run: Run) -> None:  # S26
    assert await run.result(run.new(HiddenParts).run) == "datetime"
