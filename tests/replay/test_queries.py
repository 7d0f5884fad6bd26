"""Queries: what they may read, and what they are refused (S26)."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infinitic import Channel, QueryFailedError, Workflow, WorkflowUnknownError, query, workflow
from tests.replay.harness import Desk, Run, both_ways


@dataclass
class Basket:
    items: list[str] = field(default_factory=list[str])
    notes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


class Shop(Workflow):
    desk = Workflow.new_service(Desk)
    words = Channel[str]()
    log: list[str] = []  # noqa: RUF012 (each object gets a copy)
    count: int = 0

    def __init__(self) -> None:
        self.basket = Basket(["apple"], {"apple": ["red"]})
        self.recent = deque[str](maxlen=3)
        self.woken = asyncio.Event()
        self.tags = {"a", "b"}

    async def run(self, number: int) -> list[str]:
        for _ in range(number):
            word = await self.desk.say(await self.words.receive())
            self.log.append(word)
            self.recent.append(word)
            self.count += 1
        return self.log

    async def wait(self) -> str:
        await self.woken.wait()
        return "woken"

    async def late(self) -> int:
        await self.wait_until(lambda: self.count >= 2)
        return self.count

    @query
    def read(self, prefix: str = "", *, most: int = 10) -> list[str]:
        return [prefix + word for word in self.log][:most]

    @query(name="many")
    def how_many(self) -> tuple[int, int, bool]:
        assert self.now() is not None
        assert self.context.method_name == "many"
        self.logger.info("asked")
        return self.count, len(self.recent), self.woken.is_set()

    @query
    def fail(self) -> None:
        raise LookupError("nothing here")

    @query
    def wrong(self) -> int:
        return "text"  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # this is the mistake

    @query
    def huge(self) -> str:
        return "x" * 6_000_000

    # What follows does more than read.

    @query
    def rebind(self) -> None:
        self.count += 1

    @query
    def set_new(self) -> None:
        self.fresh = 1

    @query
    def delete(self) -> None:
        del self.recent

    @query
    def append(self) -> None:
        self.log.append("more")

    @query
    def replace_item(self) -> None:
        self.basket.items[0] = "pear"

    @query
    def nested(self) -> None:
        self.basket.notes["apple"].append("ripe")

    @query
    def add_to_set(self) -> None:
        self.tags.add("c")

    @query
    def swallow(self) -> str:
        try:
            self.dispatch(self.desk.say, "x")
        except Exception:  # noqa: BLE001 (this is the mistake)
            return "swallowed"
        return "done"

    @query
    def call(self) -> None:
        self.dispatch(self.desk.say, "x")

    @query
    def start_timer(self) -> None:
        self.timer(3)

    @query
    def past_timer(self) -> None:
        self.timer(-3)

    @query
    def draw(self) -> int:
        return self.random.randrange(5)

    @query
    def make_id(self) -> str:
        return str(self.uuid4())

    @query
    def run_inline(self) -> int:
        return self.inline(lambda: 1)

    @query
    def create_task(self) -> None:
        asyncio.get_running_loop().create_task(asyncio.sleep(1))

    @query
    def call_soon(self) -> None:
        asyncio.get_running_loop().call_soon(print, "x")

    @query
    def call_later(self) -> None:
        asyncio.get_running_loop().call_later(1, print, "x")

    @query
    def wake(self) -> None:
        self.woken.set()

    @query
    def receive(self) -> None:
        self.words.receive()

    @query
    def open_file(self) -> str:
        return Path(__file__).read_text()

    @query
    def stop(self) -> None:
        raise SystemExit(3)


BAD = {
    "rebind": "it changed self.count",
    "set_new": "it set self.fresh",
    "delete": "it deleted self.recent",
    "append": "it changed self.log",
    "replace_item": "it changed self.basket",
    "nested": "it changed self.basket",
    "add_to_set": "it changed self.tags",
    "swallow": "must not use stubs",
    "call": "must not use stubs",
    "start_timer": "must not use stubs, timers",
    "past_timer": "must not use stubs, timers",
    "draw": "random numbers",
    "make_id": "random numbers",
    "run_inline": "must only read",
    "create_task": "must only read",
    "call_soon": "must only read",
    "call_later": "must only read",
    "wake": "it woke what waits",
    "receive": "channels",
    "open_file": "opening a file",
    "stop": "SystemExit",
}


@both_ways(Shop)
async def test_an_answer_knows_all_that_was_taken_before(run: Run) -> Any:  # S26
    handle = await run.start(run.new(Shop).run, 3)
    shop = run.on(Shop, handle.workflow_id)
    assert await run.client.query(shop.read) == []
    for number, word in enumerate(("one", "two", "three"), 1):
        await shop.words.send(word, confirm=True)
        await run.idle()
        assert await run.client.query(shop.how_many) == (number, number, False)
    assert await run.client.query(shop.read, "a ", most=2) == ["a one", "a two"]
    result = await handle.result()
    assert await run.client.query(shop.read) == result, "also of a closed instance"
    return result


@both_ways(Shop)
async def test_a_query_that_fails_fails_alone(run: Run) -> Any:
    handle = await run.start(run.new(Shop).run, 1)
    shop = run.on(Shop, handle.workflow_id)
    with pytest.raises(QueryFailedError, match=r"Shop.fail .*LookupError: nothing here") as failed:
        await run.client.query(shop.fail)
    assert failed.value.failure.name == "builtins.LookupError"
    assert "nothing here" in failed.value.failure.traceback
    with pytest.raises(QueryFailedError, match="result"):
        await run.client.query(shop.wrong)
    with pytest.raises(QueryFailedError, match="does not fit into a message"):
        await run.client.query(shop.huge)
    await shop.words.send("one")
    return await handle.result()


@both_ways(Shop)
async def test_a_query_that_does_more_than_read_is_refused_and_changes_nothing(run: Run) -> Any:  # S26
    handle = await run.start(run.new(Shop).run, 2)
    shop = run.on(Shop, handle.workflow_id)
    waits = await run.client.dispatch(shop.wait)
    late = await run.client.dispatch(shop.late)
    await shop.words.send("one", confirm=True)
    await run.idle()
    before = await run.history(handle)
    for name, reason in BAD.items():
        with pytest.raises(QueryFailedError, match=reason):
            await run.client.query(getattr(shop, name))
        assert await run.client.query(shop.how_many) == (1, 1, False), name
        assert await run.client.query(shop.read) == ["one"], name
    assert await run.history(handle) == before, "queries leave no history"
    await shop.words.send("two")
    assert await late.result() == 2
    assert await handle.result() == ["one", "two"]
    await run.client.cancel(handle)
    with pytest.raises(Exception, match="cancelled"):
        await waits.result()
    return None


@both_ways(Shop)
async def test_a_query_that_the_code_does_not_have_is_named(run: Run) -> Any:
    @workflow(name="Shop", version=1)
    class NewShop(Shop):
        """What clients have, and this workflow has not yet."""

        @query
        def new(self) -> int:
            return 1

    handle = await run.start(run.new(Shop).run, 0)
    with pytest.raises(QueryFailedError, match=r"Shop, version 0, has no query 'new': it has add_to_set, append, "):
        await run.client.query(run.on(NewShop, handle.workflow_id).new)
    with pytest.raises(WorkflowUnknownError):
        await run.client.query(run.on(Shop, "nobody").read)
    return await handle.result()
