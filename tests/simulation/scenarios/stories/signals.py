"""Stories of channels, tags and shared state."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from infinitic import (
    Channel,
    ChannelClosedError,
    Client,
    Deferred,
    PayloadError,
    TaskFailedError,
    Workflow,
    WorkflowCanceledError,
)
from tests.simulation.scenarios.stories.letters import Letters, Mirror, make_services
from tests.simulation.scenarios.stories.story import Story

LONG = timedelta(days=400)


@dataclass(frozen=True)
class Offer:
    price: int
    seller: str = "me"


class Market(Workflow):
    offers = Channel[Offer | str | int]()
    other = Channel[str]()
    passing = Channel[str](keep=0)

    async def take(self) -> Offer | str | int:
        return await self.offers.receive()

    async def choose(self) -> list[Offer | str | int]:
        """Types and filters. Those that are served in another order than they are awaited."""
        text, number = self.offers.receive(str), self.offers.receive(int)
        cheap = self.offers.receive(Offer, where="?@.price < 10")
        mine = self.offers.receive(Offer, where={"seller": "me"})
        first, second = await (number & text)
        return [first, second, await cheap, await mine]

    async def limited(self) -> list[object]:
        receiver = self.offers.receive(limit=2)
        seen: list[object] = [receiver.is_completed()]
        try:
            for _ in range(3):
                seen.append(await receiver)
        except ChannelClosedError:
            seen.append("closed")
        return seen

    async def all_come(self, number: int) -> list[Offer | str | int]:
        return [await self.offers.receive() for _ in range(number)]

    async def miss(self) -> list[object]:
        """A signal on another channel, and one that nobody awaits, do not count."""
        await self.other.receive()
        waiting = self.offers.receive()
        lost = list[object]()
        for _ in range(3):
            await (waiting | self.timer(0.01))
            lost.append(waiting.is_completed())
        missed = self.passing.receive()
        await (missed | self.timer(0.01))
        return [*lost, missed.is_completed()]


class Diary(Workflow):
    letters = Workflow.new_service(Letters)
    mirror = Workflow.new_service(Mirror)
    ends = Channel[bool]()
    text = ""

    async def branches(self) -> str:
        """A branch that waits adds its letter behind the one of the main method."""
        self.text = "a"
        branch = asyncio.ensure_future(self._append_later("b"))
        self.text += "c"
        await branch
        return self.text + "d"

    async def at_once(self) -> str:
        self.text = "a"
        await self._append("b")
        return self.text + "c"

    async def after_a_failure(self) -> str:
        self.text = "a"
        try:
            await self.letters.refuse("no")
        except TaskFailedError as error:
            self.text += type(error).__name__[0]
        await self._append_later("b")
        return self.text

    async def hundred(self) -> bool:
        notes = list[int]()

        async def note(number: int) -> None:
            await self.mirror.reverse("")
            notes.append(number)

        await asyncio.gather(*(note(number) for number in range(100)))
        return sorted(notes) == list(range(100))

    async def wrong_argument(self) -> str:
        waiting: Deferred[str] = self.dispatch(self.mirror.reverse, "ab")
        try:
            await self.mirror.reverse(waiting)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (the mistake)
        except PayloadError as error:
            return type(error).__name__
        return "taken"

    async def keep(self) -> str:
        await self.ends.receive()
        return self.text

    async def write(self, letter: str) -> str:
        self.text += letter
        return self.text

    async def _append(self, letter: str) -> None:
        self.text += letter

    async def _append_later(self, letter: str) -> None:
        await self.mirror.reverse(letter)
        self.text += letter


async def _play_signals(client: Client) -> object:
    found: list[object] = []
    handle = await client.dispatch(client.new_workflow(Market).take)
    await client.get_workflow_by_id(Market, handle.workflow_id).offers.send("right away")
    found.append(await handle.result())
    tagged = await client.dispatch(client.new_workflow(Market, tags={"market"}).take)
    await client.get_workflow_by_tag(Market, "market").offers.send("by tag")
    found.append(await tagged.result())
    choosing = await client.dispatch(client.new_workflow(Market).choose)
    market = client.get_workflow_by_id(Market, choosing.workflow_id)
    offers: list[Offer | str | int] = ["text", 1, Offer(20, "you"), Offer(5, "you"), Offer(30)]
    for each in offers:
        await market.offers.send(each, confirm=True)
    found.append(await choosing.result())
    limited = await client.dispatch(client.new_workflow(Market).limited)
    for text in ("a", "b"):
        await client.get_workflow_by_id(Market, limited.workflow_id).offers.send(text, confirm=True)
    found.append(await limited.result())
    missing = await client.dispatch(client.new_workflow(Market).miss)
    absent = client.get_workflow_by_id(Market, missing.workflow_id)
    await absent.passing.send("nobody listens", confirm=True)
    await absent.other.send("go on")
    found.append(await missing.result())
    for number in (3, 20):
        many = await client.dispatch(client.new_workflow(Market).all_come, number)
        for offer in range(number):
            await client.get_workflow_by_id(Market, many.workflow_id).offers.send(offer, confirm=True)
        found.append(await many.result())
    return found


async def _play_state(client: Client) -> object:
    new = client.new_workflow(Diary)
    alone = [new.branches(), new.at_once(), new.after_a_failure(), new.hundred(), new.wrong_argument()]
    found: list[object] = list(await asyncio.gather(*alone))
    handle = await client.dispatch(new.keep)
    diary = client.get_workflow_by_id(Diary, handle.workflow_id)
    for letter in "xyz":
        found.append(await diary.write(letter))
    await diary.ends.send(True)
    return [*found, await handle.result()]


async def _play_tags(client: Client) -> object:
    new = client.new_workflow(Diary, tags={"kept"})
    handle = await client.dispatch(new.keep)
    by_tag = client.get_workflow_by_tag(Diary, "kept")
    found: list[object] = [len(await client.get_ids(by_tag))]
    await client.cancel(by_tag)
    try:
        await handle.result()
    except WorkflowCanceledError as error:
        found.append(type(error).__name__)
    # Tags go by messages, at about the time of the result.
    while await client.get_ids(by_tag):  # noqa: ASYNC110 (nobody is told)
        await asyncio.sleep(0.05)
    first, second = [await client.dispatch(client.new_workflow(Diary, custom_id="one").keep) for _ in range(2)]
    found.append(first.workflow_id == second.workflow_id)
    await client.get_workflow_by_custom_id(Diary, "one").ends.send(True)
    return [*found, await first.result(), await second.result()]


SIGNALS = Story(
    (Market,),
    make_services,
    _play_signals,
    [
        "right away",
        "by tag",
        [1, "text", Offer(5, "you"), Offer(30)],
        [False, "a", "b", "closed"],
        [False] * 4,
        list(range(3)),
        list(range(20)),
    ],
)
STATE = Story(
    (Diary,), make_services, _play_state, ["acbd", "abc", "aTb", True, "PayloadError", "x", "xy", "xyz", "xyz"]
)
TAGS = Story((Diary,), make_services, _play_tags, [1, "WorkflowCanceledError", True, "", ""])
