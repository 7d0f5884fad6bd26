"""Stories of tasks one after the other and at once, of timers, and of what comes first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from infinitic import Client, DeferredStatus, Workflow, WorkflowHandle, all_of, any_of
from tests.simulation.scenarios.stories.letters import Letters, Mirror, make_services
from tests.simulation.scenarios.stories.story import Story

LONG = timedelta(days=400)


@dataclass(frozen=True)
class Cat:
    lives: int
    kind: Literal["cat"] = "cat"


@dataclass(frozen=True)
class Dog:
    tricks: list[str]
    kind: Literal["dog"] = "dog"


class Sequences(Workflow):
    letters = Workflow.new_service(Letters)
    mirror = Workflow.new_service(Mirror)

    async def one_by_one(self) -> str:
        text = await self.letters.concat("1", "2")
        return await self.letters.concat(text, "3")

    async def later(self) -> str:
        """A task that is asked for early, and awaited late. It is declared by a contract."""
        reversed_text = self.dispatch(self.mirror.reverse, "ab")
        text = await self.letters.concat("2", "3")
        return text + await reversed_text

    async def in_reverse_order(self) -> str:
        first, second = self.dispatch(self.letters.wait, "a", 0.1), self.dispatch(self.letters.wait, "b", 0.0)
        text = await second
        text += await first
        return await self.letters.concat(text, "c")

    async def nothing(self) -> None:
        return

    async def pet(self, wanted: str) -> Cat | Dog:
        return Cat(7) if wanted == "cat" else Dog(["sit"])


class Combinations(Workflow):
    letters = Workflow.new_service(Letters)

    async def first_of_three(self) -> str:
        quick = self.dispatch(self.letters.concat, "a", "b")
        found = await (quick | self.timer(LONG) | self.timer(LONG))
        return str(found)

    async def both_or_another(self) -> list[str]:
        """(a and b) or c."""
        both = self.dispatch(self.letters.concat, "a", "") & self.dispatch(self.letters.concat, "b", "")
        found = await (both | self.timer(LONG))
        assert isinstance(found, tuple | list)
        return [str(each) for each in found]

    async def twenty(self) -> tuple[int, str]:
        tasks = [self.dispatch(self.letters.concat, str(number), "") for number in range(20)]
        every = await all_of(*tasks)
        first = await any_of(*tasks)
        return len(every), first

    async def statuses(self) -> list[str]:
        quick = self.dispatch(self.letters.concat, "a", "b")
        seen = [str(quick.status())]
        await (quick | self.timer(LONG))
        seen += [str(quick.status()), str(quick.is_completed()), await quick]
        late = self.timer(LONG)
        await (late | self.timer(0.0))
        return [*seen, str(late.status() is DeferredStatus.ONGOING)]

    async def many_awaits(self) -> str:
        quick = self.dispatch(self.letters.concat, "a", "")
        return "".join([await quick for _ in range(20)])


class Times(Workflow):
    letters = Workflow.new_service(Letters)

    async def short(self) -> bool:
        before = self.now()
        due = await self.timer(0.05)
        at = await self.timer(before + timedelta(seconds=0.1))
        # Instants are rounded to microseconds.
        return due - before > timedelta(seconds=0.049) and at - before > timedelta(seconds=0.099)

    async def past(self) -> bool:
        before = self.now()
        return await self.timer(before - timedelta(hours=1)) < before

    async def rest(self) -> str:
        await self.timer(LONG)
        return "rested"


async def _play_sequences(client: Client) -> object:
    new = client.new_workflow(Sequences)
    pets = [await new.pet("cat"), await new.pet("dog")]
    await new.nothing()
    return [await new.one_by_one(), await new.later(), await new.in_reverse_order(), pets]


async def _play_combinations(client: Client) -> object:
    new = client.new_workflow(Combinations)
    outcomes = [new.first_of_three(), new.both_or_another(), new.twenty(), new.statuses(), new.many_awaits()]
    return list(await asyncio.gather(*outcomes))


async def _wait_for_timer(client: Client, handle: WorkflowHandle[str]) -> None:
    while not (await client.describe(handle)).open_timers:  # noqa: ASYNC110 (nobody is told)
        await asyncio.sleep(0.05)


async def _play_times(client: Client) -> object:
    new = client.new_workflow(Times)
    outcomes: list[object] = [await new.short(), await new.past()]
    by_id: WorkflowHandle[str] = await client.dispatch(new.rest)
    await _wait_for_timer(client, by_id)
    await client.complete_timers(by_id, method_id="another")
    await client.complete_timers(by_id, method_id=by_id.workflow_id)
    by_tag = await client.dispatch(client.new_workflow(Times, tags={"resting"}).rest)
    await _wait_for_timer(client, by_tag)
    await client.complete_timers(client.get_workflow_by_tag(Times, "resting"))
    return [*outcomes, await by_id.result(), await by_tag.result()]


SEQUENCES = Story((Sequences,), make_services, _play_sequences, ["123", "23ba", "bac", [Cat(7), Dog(["sit"])]])
COMBINATIONS = Story(
    (Combinations,),
    make_services,
    _play_combinations,
    ["ab", ["a", "b"], (20, "0"), ["ongoing", "completed", "True", "ab", "True"], "a" * 20],
)
TIMES = Story((Times,), make_services, _play_times, [True, True, "rested", "rested"])
