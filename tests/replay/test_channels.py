"""Channels: what is kept, in which order, and which signals a receiver takes (S23)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from infinitic import Channel, ChannelClosedError, Receiver, UsageError, Workflow
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk, Run, both_ways


class Inbox(Workflow):
    desk = Workflow.new_service(Desk)
    words = Channel[str]()
    fleeting = Channel[str](keep=0)
    small = Channel[str](keep=2)

    async def kept(self, count: int) -> list[str]:
        await self.desk.say("busy", 10)
        receiver = self.words.receive()
        return [await receiver for _ in range(count)]

    async def fresh_receivers(self, count: int) -> list[str]:
        return [await self.words.receive() for _ in range(count)]

    async def dropped(self) -> list[str]:
        await self.desk.say("busy", 10)
        receiver = self.fleeting.receive()
        log = [await receiver]
        await self.desk.say("busy", 10)
        return [*log, await receiver]

    async def bounded(self) -> list[str]:
        await self.desk.say("busy", 10)
        receiver = self.small.receive()
        return [await receiver for _ in range(3)]

    async def limited(self) -> list[str]:
        receiver = self.words.receive(limit=2)
        log = [await receiver, await receiver, str(receiver.status())]
        for _ in range(2):
            try:
                await receiver
            except ChannelClosedError as error:
                log.append(f"{error.channel_name} {error.limit} {receiver.status()}")
        return [*log, await self.words.receive()]

    async def statuses(self) -> list[str]:
        """That of the latest await, however the ones before it ended."""
        receiver = self.words.receive(limit=2)
        log = [receiver.status()]
        await receiver
        log.append(receiver.status())
        await (receiver | self.timer(1))
        log.append(receiver.status())
        try:
            async with asyncio.timeout(1):
                await receiver
        except TimeoutError:
            log.append(receiver.status())
        waiting = asyncio.create_task(_text(receiver))
        await asyncio.sleep(1)
        log.append(receiver.status())
        await waiting
        log.append(receiver.status())
        try:
            await receiver
        except ChannelClosedError:
            log.append(receiver.status())
        return list(map(str, log))

    async def limited_and_shared(self) -> list[str]:
        """Two await one receiver that gives one signal: the other learns that there is no more."""
        receiver = self.words.receive(limit=1)
        got = await asyncio.gather(_text(receiver), _text(receiver), return_exceptions=True)
        return [*(each if isinstance(each, str) else type(each).__name__ for each in got), await self.words.receive()]

    async def all_words(self) -> list[str]:
        log = list[str]()
        async for word in self.words.receive():
            if word == "stop":
                break
            log.append(await self.desk.say(word, 1))
        return log

    async def three_words(self) -> list[str]:
        receiver = self.words.receive(limit=3)
        return [word async for word in receiver] + [word async for word in receiver] + [str(receiver.status())]

    async def bad(self) -> list[str]:
        log = list[str]()
        for arguments in ({"limit": 0}, {"limit": -1}, {"where": "no query"}, {"where": "?@.a >"}):
            try:
                cast(Any, self.words).receive(**arguments)
            except UsageError as error:
                log.append(str(error).partition("(")[0])
        return log


async def _text(receiver: Receiver[str]) -> str:
    return await receiver


async def _send(run: Run, *words: str) -> None:
    for word in words:
        await run.on(Inbox).words.send(word)


@both_ways(Inbox)
async def test_signals_that_nobody_awaits_are_kept_in_order(run: Run) -> None:  # S23
    handle = await run.start(run.new(Inbox).kept, 4)
    await _send(run, "a", "b")
    await run.sim.sleep(3)
    await _send(run, "c")
    await run.sim.sleep(20)
    await _send(run, "d")
    assert await handle.result() == ["a", "b", "c", "d"]


@both_ways(Inbox)
async def test_each_receiver_takes_the_next_signal(run: Run) -> None:  # S23
    handle = await run.start(run.new(Inbox).fresh_receivers, 3)
    await _send(run, "a", "b", "c")
    assert await handle.result() == ["a", "b", "c"]


@both_ways(Inbox)
async def test_a_channel_that_keeps_nothing(run: Run) -> None:  # S23
    handle = await run.start(run.new(Inbox).dropped)
    for seconds, word in ((1, "early"), (10, "taken"), (1, "lost"), (10, "late")):
        await run.sim.sleep(seconds)
        await run.on(Inbox).fleeting.send(word)
    assert await handle.result() == ["taken", "late"]


@both_ways(Inbox)
async def test_a_channel_keeps_its_bound_and_drops_what_comes_then(run: Run) -> None:  # S23
    handle = await run.start(run.new(Inbox).bounded)
    for word in "abcd":
        await run.on(Inbox).small.send(word)
    await run.sim.sleep(20)
    await run.on(Inbox).small.send("e")
    assert await handle.result() == ["a", "b", "e"]


async def test_a_signal_that_is_dropped_is_logged_once(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    sim.add_service(Desk)
    sim.add_workflow(Inbox)
    handle = await sim.client.dispatch(sim.client.new_workflow(Inbox).bounded)
    inbox = sim.client.get_workflow_by_id(Inbox, handle.workflow_id)
    with caplog.at_level(logging.WARNING):
        for word in "abc":
            await inbox.small.send(word)
        await sim.sleep(20)
        await inbox.small.send("d")
        assert await handle.result() == ["a", "b", "d"]
    assert caplog.text.count("'small' keeps 2") == 1


@both_ways(Inbox)
async def test_a_limit_closes_the_receiver_not_the_channel(run: Run) -> None:  # S23
    handle = await run.start(run.new(Inbox).limited)
    await _send(run, "a", "b", "c")
    assert await handle.result() == ["a", "b", "completed", "words 2 failed", "words 2 failed", "c"]


@both_ways(Inbox)
async def test_the_status_is_that_of_the_latest_await(run: Run) -> None:  # S22, S23
    handle = await run.start(run.new(Inbox).statuses)
    await _send(run, "a")
    await run.sim.sleep(10)
    await _send(run, "b")
    assert await handle.result() == ["ongoing", "completed", *["ongoing"] * 3, "completed", "failed"]


@both_ways(Inbox)
async def test_a_limit_counts_what_is_given_not_what_is_awaited(run: Run) -> None:  # S23
    handle = await run.start(run.new(Inbox).limited_and_shared)
    await run.sim.sleep(1)
    await _send(run, "a", "b")
    assert await handle.result() == ["a", "ChannelClosedError", "b"]


@both_ways(Inbox)
async def test_async_for_gives_all_that_come(run: Run) -> None:  # S23
    handle = await run.start(run.new(Inbox).all_words)
    await _send(run, "a", "b")
    await run.sim.sleep(10)
    await _send(run, "c", "stop", "d")
    assert await handle.result() == ["a", "b", "c"]


@both_ways(Inbox)
async def test_async_for_ends_at_the_limit(run: Run) -> None:  # S23
    handle = await run.start(run.new(Inbox).three_words)
    await _send(run, "a", "b", "c", "d")
    assert await handle.result() == ["a", "b", "c", "completed"]


@both_ways(Inbox)
async def test_receive_refuses_what_makes_no_sense(run: Run) -> None:  # S23
    assert await run.result(run.new(Inbox).bad) == ["receive"] * 4
