"""A receiver that lost its race or whose wait was cancelled takes nothing (S23)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from infinitic import Channel, Workflow, any_of
from tests.replay.harness import Desk, Run, both_ways


class Races(Workflow):
    desk = Workflow.new_service(Desk)
    left = Channel[str]()
    right = Channel[str]()

    async def lost_to_task(self) -> list[str]:
        receiver = self.left.receive()
        won = await (receiver | self.dispatch(self.desk.say, "task", 1))
        await self.desk.say("busy", 10)
        return [won, str(receiver.status()), await self.left.receive()]

    async def armed_first(self) -> list[str]:
        """Both channels get a signal in one activation: only the first one counts."""
        one, two = self.left.receive(), self.right.receive()
        won = await (one | two)
        log = [won, f"{one.status()} {two.status()}"]
        return [*log, await (self.left.receive() | self.right.receive())]

    async def nested(self) -> list[str]:
        one, two = self.left.receive(), self.right.receive()
        won = await ((one | self.timer(100)) | (two | self.timer(200)))
        log = [won if isinstance(won, str) else "a timer", f"{one.status()} {two.status()}"]
        return [*log, await any_of(self.left.receive(), self.right.receive())]

    async def nested_all(self) -> list[str]:
        """A half of an `&` that lost keeps nothing either."""
        both = self.left.receive() & self.right.receive()
        won = await (both | self.dispatch(self.desk.say, "task", 5))
        return [str(won), await self.left.receive(), await self.right.receive()]

    async def shared(self) -> list[str]:
        """The same combination stands in another one, whose race is over.

        Whoever awaits it alone still gets its signal.
        """
        inner = self.left.receive() | self.timer(100)
        alone = asyncio.create_task(_text(inner))
        await asyncio.sleep(1)
        won = await (inner | self.timer(2))
        await asyncio.sleep(1)
        return [type(won).__name__, await alone]

    async def once_more(self) -> list[str]:
        """A combination that is awaited again arms its receivers again."""
        either = self.left.receive() | self.timer(20)
        done, _ = await asyncio.wait([either], timeout=5)
        log = [f"{len(done)} done"]
        await asyncio.sleep(5)
        return [*log, str(await either)]

    async def cancelled(self) -> list[str]:
        task = asyncio.create_task(_text(self.left.receive()))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return [f"cancelled: {task.cancelled()}", await self.left.receive()]

    async def timeout(self) -> list[str]:
        receiver, log = self.left.receive(), list[str]()
        try:
            async with asyncio.timeout(5):
                await receiver
        except TimeoutError:
            log.append(f"timeout {receiver.status()}")
        await self.desk.say("busy", 10)
        return [*log, await self.left.receive()]

    async def assigned_then_cancelled(self) -> list[str]:
        receiver = self.left.receive()
        task = asyncio.create_task(_text(receiver))
        await self.right.receive()
        task.cancel()
        await asyncio.wait([task])
        return [f"cancelled: {task.cancelled()} {receiver.status()}", await self.left.receive()]

    async def assigned_in_race_then_cancelled(self) -> list[str]:
        receiver, other = self.left.receive(), self.dispatch(self.desk.say, "other", 100)
        task = asyncio.create_task(_text(receiver | other))
        await self.right.receive()
        task.cancel()
        await asyncio.wait([task])
        return [f"cancelled: {task.cancelled()} {receiver.status()}", await self.left.receive()]

    async def in_order(self) -> list[str]:
        """Receivers of one channel get its signals in the order in which they are awaited."""
        receivers = [self.left.receive() for _ in range(4)]
        order = [receivers[index] for index in (2, 0, 3, 1)]
        return list(await asyncio.gather(*map(_text, order)))

    async def gave_up(self) -> list[str]:
        """What one gave back goes to the next that waits, before later signals."""
        log = list[str]()

        async def take(name: str) -> None:
            log.append(f"{name} {await self.left.receive()}")

        first, second = asyncio.create_task(take("first")), asyncio.create_task(take("second"))
        await self.right.receive()
        first.cancel()
        await asyncio.wait([first, second])
        return [*log, await self.left.receive()]

    async def both(self) -> list[str]:
        one, two = self.left.receive(), self.right.receive()
        return [str(await (one & two)), str(await (one & self.dispatch(self.desk.say, "x")))]


async def _text(waited: Any) -> str:
    return str(await waited)


async def _together(run: Run, *signals: tuple[str, str], to: str = "w1") -> None:
    """Send signals that arrive in one activation."""
    races = run.on(Races, to)
    for channel, word in signals:
        await (races.left if channel == "left" else races.right).send(word)


@both_ways(Races)
async def test_a_receiver_that_lost_to_a_task(run: Run) -> None:  # S23
    handle = await run.start(run.new(Races).lost_to_task)
    await run.sim.sleep(5)
    await _together(run, ("left", "later"))
    assert await handle.result() == ["task", "ongoing", "later"]


@both_ways(Races)
async def test_two_receivers_and_two_signals_at_once(run: Run) -> None:  # S23
    handle = await run.start(run.new(Races).armed_first)
    await run.sim.sleep(1)
    await _together(run, ("right", "b"), ("left", "a"))
    assert await handle.result() == ["b", "ongoing completed", "a"]


@both_ways(Races)
async def test_receivers_in_nested_combinations(run: Run) -> None:  # S23
    handle = await run.start(run.new(Races).nested)
    await run.sim.sleep(1)
    await _together(run, ("right", "b"), ("left", "a"))
    assert await handle.result() == ["b", "ongoing completed", "a"]


@both_ways(Races)
async def test_a_half_of_a_lost_pair(run: Run) -> None:  # S23
    handle = await run.start(run.new(Races).nested_all)
    await run.sim.sleep(1)
    await _together(run, ("left", "a"))
    await run.sim.sleep(10)
    await _together(run, ("right", "b"))
    assert await handle.result() == ["task", "a", "b"]


@both_ways(Races)
async def test_a_combination_that_is_awaited_alone_and_in_another_one(run: Run) -> None:  # S22, S23
    handle = await run.start(run.new(Races).shared)
    await run.sim.sleep(10)
    await _together(run, ("left", "a"))
    assert await handle.result() == ["datetime", "a"]


@both_ways(Races)
async def test_a_combination_that_is_awaited_again(run: Run) -> None:  # S22, S23
    handle = await run.start(run.new(Races).once_more)
    await run.sim.sleep(7)
    await _together(run, ("left", "meanwhile"))
    assert await handle.result() == ["0 done", "meanwhile"]


@both_ways(Races)
async def test_a_wait_that_is_cancelled(run: Run) -> None:  # S23
    handle = await run.start(run.new(Races).cancelled)
    await run.sim.sleep(5)
    await _together(run, ("left", "later"))
    assert await handle.result() == ["cancelled: True", "later"]


@both_ways(Races)
async def test_a_wait_that_times_out(run: Run) -> None:  # S23
    handle = await run.start(run.new(Races).timeout)
    await run.sim.sleep(10)
    await _together(run, ("left", "later"))
    assert await handle.result() == ["timeout ongoing", "later"]


CANCEL, SIGNAL = ("right", "cancel"), ("left", "kept")


async def _at_once(run: Run, method: Callable[[], Coroutine[Any, Any, list[str]]]) -> None:
    """The signal and what cancels the wait for it come in one activation.

    Whoever comes first is served first.
    """
    for workflow_id, signals, expected in (
        ("w1", (CANCEL, SIGNAL), ["cancelled: True ongoing", "kept"]),
        ("w2", (SIGNAL, CANCEL), ["cancelled: False completed", "later"]),
    ):
        handle = await run.start(method)
        await run.sim.sleep(1)
        await _together(run, *signals, to=workflow_id)
        await run.sim.sleep(1)
        await _together(run, ("left", "later"), to=workflow_id)
        assert await handle.result() == expected


@both_ways(Races)
async def test_a_signal_that_came_in_the_activation_that_cancels_its_wait(run: Run) -> None:  # S23
    await _at_once(run, run.new(Races).assigned_then_cancelled)


@both_ways(Races)
async def test_a_signal_that_won_a_race_in_the_activation_that_cancels_its_wait(run: Run) -> None:  # S23
    await _at_once(run, run.new(Races).assigned_in_race_then_cancelled)


@both_ways(Races)
async def test_several_receivers_in_the_order_of_awaiting(run: Run) -> None:  # S23
    handle = await run.start(run.new(Races).in_order)
    await run.sim.sleep(1)
    await _together(run, *(("left", word) for word in "abcd"))
    assert await handle.result() == ["a", "b", "c", "d"]


@both_ways(Races)
async def test_a_signal_that_was_given_back_goes_to_the_next_that_waits(run: Run) -> None:  # S23
    handle = await run.start(run.new(Races).gave_up)
    await run.sim.sleep(1)
    await _together(run, ("right", "cancel"), ("left", "a"))
    await run.sim.sleep(1)
    await _together(run, ("left", "b"))
    assert await handle.result() == ["second a", "b"]


@both_ways(Races)
async def test_all_of_receivers(run: Run) -> None:  # S21, S23
    handle = await run.start(run.new(Races).both)
    await _together(run, ("right", "b"), ("left", "a"), ("left", "c"))
    assert await handle.result() == ["['a', 'b']", "['c', 'x']"]
