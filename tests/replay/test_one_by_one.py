"""What code sees does not depend on which inputs travelled together (S19)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw

from infinitic import Channel, Workflow
from infinitic.definitions.workflow_spec import spec_of
from infinitic.messages.commands import Command
from infinitic.messages.events import (
    Activated,
    CancelRequested,
    Event,
    MethodStarted,
    SignalReceived,
    Stimulus,
    TaskResult,
    TimerFired,
)
from infinitic.replay.history import Replay
from infinitic.replay.instance import Instance
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Case, Desk, Run, both_ways, run_case

DAY = timedelta(days=1)


class Account(Workflow):
    """An actor: it takes one signal after the other, and methods look at what it has taken."""

    adds = Channel[int]()

    def __init__(self) -> None:
        self.taken = list[int]()
        self.seen = list[int]()

    async def open(self, until: int) -> list[int]:
        while len(self.taken) < until:
            amount = await (self.adds.receive() | self.timer(DAY))
            assert isinstance(amount, int)
            self.taken.append(amount)
        return self.taken

    async def count(self) -> int:
        self.seen.append(len(self.taken))
        return len(self.taken)


class Teller(Workflow):
    """Results, calls and signals come together.

    Which of them has the code seen when the next one is there?
    """

    desk = Workflow.new_service(Desk)
    words = Channel[str]()

    def __init__(self) -> None:
        self.log = list[str]()
        self.done = False

    async def work(self, number: int) -> list[str]:
        for index in range(number):
            asyncio.get_running_loop().create_task(self._say(f"task {index}"))
        await self.wait_until(lambda: self.done)
        return self.log

    async def _say(self, word: str) -> None:
        self.log.append(f"{await self.desk.say(word, 10)} after {len(self.log)}")

    async def note(self, word: str) -> int:
        self.log.append(f"note {word} after {len(self.log)}")
        await asyncio.sleep(0)
        return len(self.log)

    async def finish(self) -> int:
        self.done = True
        return len(self.log)


@both_ways(Account)
async def test_ten_signals_and_then_a_call(run: Run) -> None:  # S19
    await _signals_then_calls(run, 10)


@both_ways(Account)
async def test_a_hundred_signals_and_then_a_call(run: Run) -> None:  # S19: more than one batch of inputs
    await _signals_then_calls(run, 100)


async def _signals_then_calls(run: Run, number: int) -> None:
    handle = await run.start(run.new(Account).open, number + 1)
    await run.sim.sleep(1)
    stub = run.on(Account)
    for amount in range(number):
        await stub.adds.send(amount)
    count = await run.client.dispatch(stub.count)
    await stub.adds.send(number)
    assert await count.result() == number
    assert await handle.result() == list(range(number + 1))


@both_ways(Teller)
async def test_results_and_calls_that_come_together(run: Run) -> None:  # S19
    handle = await run.start(run.new(Teller).work, 20)
    await run.sim.sleep(5)
    for word in "abc":
        await run.client.dispatch(run.on(Teller).note, word)
    await run.sim.sleep(10)
    assert await run.on(Teller).finish() == 23
    assert [line.rpartition(" after ")[2] for line in await handle.result()] == [str(index) for index in range(23)]


def _handed(stimuli: Sequence[Stimulus], together: int) -> tuple[list[Command], list[Event]]:
    """What an instance asks for if so many stimuli come together, and the history of that."""
    instance = Instance(spec_of(Mixed), "w1", {})
    asked, history = list[Command](), list[Event]()
    for start in range(0, len(stimuli), together):
        fold = stimuli[start : start + together]
        commands = instance.activate(1e9, fold)
        asked += commands
        history += [*fold, Activated(len(history) + 1, 1e9, each=len(fold) > 1), *commands]
    instance.close()
    return asked, history


class Mixed(Workflow):
    """Asks for something after each thing that happens, and cancels what others wait for."""

    desk = Workflow.new_service(Desk)
    left = Channel[int]()

    def __init__(self) -> None:
        self.log = list[Any]()

    async def run(self) -> list[Any]:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(self._race())
        finally:
            self.log.append(await self.desk.say(f"cleaned up after {len(self.log)}"))
        return self.log

    async def _race(self) -> None:
        while True:
            waited = self.dispatch(self.desk.say, f"asked after {len(self.log)}")
            value = await (waited | self.left.receive() | self.timer(60))
            if not waited.is_completed():
                waited.cancel()
            self.log.append(str(value))

    async def look(self) -> str:
        return await self.desk.say(f"looked after {len(self.log)}")


STIMULI: list[Stimulus] = [
    MethodStarted("w1", "run", Raw(b"[]")),
    SignalReceived("left", Raw(b"1")),
    SignalReceived("left", Raw(b"2")),
    MethodStarted("m1", "look", Raw(b"[]")),
    TaskResult(4, Raw(b'"four"')),
    TaskResult(0, Raw(b'"cancelled meanwhile"')),
    TimerFired(5),
    SignalReceived("left", Raw(b"3")),
    MethodStarted("m2", "look", Raw(b"[]")),
    CancelRequested(),
    TaskResult(7, Raw(b'"late"')),
    SignalReceived("left", Raw(b"4")),
    MethodStarted("m3", "look", Raw(b"[]")),
]


@pytest.mark.parametrize("together", [2, 3, 64])
def test_the_same_is_asked_for_however_many_come_together(together: int) -> None:  # S19
    alone, history_alone = _handed(STIMULI, 1)
    asked, history = _handed(STIMULI, together)
    assert asked == alone
    assert len(asked) > len(STIMULI), "this says something only if there is an answer to each"
    for events in (history_alone, history):
        replayed = Instance(spec_of(Mixed), "w1", {})
        replay = Replay(replayed)
        # Both raise if the code asks for something else.
        replay.feed(events)
        replay.finish(unanswered=False)
        assert replayed.activations == sum(isinstance(event, Activated) for event in events)
        replayed.close()


def test_what_release_0_1_handed_over_at_once_is_replayed_at_once() -> None:  # S41
    """Its histories have no mark, and the code came to rest only after all stimuli."""

    def asked(*, each: bool) -> list[Command]:
        instance = Instance(spec_of(Account), "w1", {})
        stimuli: list[Stimulus] = [
            MethodStarted("w1", "open", Raw(b"[9]")),
            SignalReceived("adds", Raw(b"1")),
            SignalReceived("adds", Raw(b"2")),
            MethodStarted("m1", "count", Raw(b"[]")),
        ]
        commands = instance.activate(1e9, stimuli, each=each)
        instance.close()
        recorded = deque(commands)
        again = Instance(spec_of(Account), "w1", {})
        replay = Replay(again)
        replay.feed([*stimuli, Activated(1, 1e9, each=each), *recorded])
        replay.finish(unanswered=False)
        again.close()
        return commands

    assert asked(each=False) != asked(each=True), "else this test says nothing"


def _sizes(together: int) -> Callable[[Run], Any]:
    async def scenario(run: Run) -> list[int]:
        handle = await run.start(run.new(Account).open, 130)
        await run.sim.sleep(1)
        stub, counts = run.on(Account), list[Any]()
        for amount in range(130):
            await stub.adds.send(amount)
            if amount % 10 == 9:
                counts.append(await run.client.dispatch(stub.count))
            if amount % together == together - 1:
                await run.idle()
        await handle.result()
        return [await count.result() for count in counts]

    return scenario


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("cache_size", [0, 1000], ids=["replayed", "live"])
@pytest.mark.parametrize("together", [1, 2, 64, 130])
def test_a_worker_comes_to_the_same_however_many_come_together(together: int, cache_size: int, *, split: bool) -> None:
    case = Case((Account,), (), _sizes(together))
    assert run_case(case, cache_size=cache_size, split=split).result == list(range(10, 131, 10))


def test_one_stimulus_leaves_no_mark() -> None:
    """What is usual costs nothing in history."""

    async def main() -> None:
        async with Simulation() as sim:
            sim.add_workflow(Account)
            run = Run(sim, split=False)
            handle = await run.start(run.new(Account).open, 2)
            await run.sim.sleep(1)
            await run.on(Account).adds.send(1)
            await run.sim.sleep(1)
            for amount in (2, 3):
                await run.on(Account).adds.send(amount)
            await handle.result()
            marks = [event.each for event in await run.history(handle) if isinstance(event, Activated)]
            assert marks == [False, False, True]

    Simulation.run(main())
