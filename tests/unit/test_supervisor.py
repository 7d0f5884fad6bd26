"""A worker is ready when its consumers are subscribed, not before."""

from __future__ import annotations

import asyncio

from infinitic.runtime.supervisor import Supervisor


class Slow:
    """A component whose subscription takes a while."""

    def __init__(self) -> None:
        self.subscribed = asyncio.Event()

    async def start(self) -> None:
        await self.subscribed.wait()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def drain(self) -> None:
        pass

    async def close(self) -> None:
        pass


def test_it_is_ready_once_all_are_subscribed_and_until_the_end() -> None:
    async def play() -> list[bool]:
        supervisor, component = Supervisor(), Slow()
        starting = asyncio.create_task(supervisor.start([component]))
        await asyncio.sleep(0)
        seen = [supervisor.ready, supervisor.running]
        component.subscribed.set()
        await starting
        seen.append(supervisor.ready)
        await supervisor.kill()
        return [*seen, supervisor.ready]

    assert asyncio.run(play()) == [False, True, True, False]
