"""A worker is ready when its consumers are subscribed, not before."""

from __future__ import annotations

import asyncio

import pytest

from infinitic.runtime.supervisor import Supervisor


class Slow:
    """A component whose subscription takes a while."""

    joined = True

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


class Broken(Slow):
    """A component that cannot end well, and one that takes its time."""

    joined = True

    def __init__(self, *, broken: bool) -> None:
        super().__init__()
        self.subscribed.set()
        self.broken = broken
        self.ended: list[str] = []

    async def drain(self) -> None:
        await self._end("drained")

    async def close(self) -> None:
        await self._end("closed")

    async def _end(self, how: str) -> None:
        if self.broken:
            raise OSError(how)
        for _ in range(3):
            await asyncio.sleep(0)
        self.ended.append(how)


@pytest.mark.parametrize(("verb", "ended"), [("drain", ["drained", "closed"]), ("kill", ["closed"])])
def test_one_that_cannot_end_leaves_none_behind(verb: str, ended: list[str]) -> None:
    async def play() -> None:
        supervisor, components = Supervisor(), [Broken(broken=True), Broken(broken=False), Broken(broken=True)]
        await supervisor.start([*components])
        with pytest.raises(OSError, match=r"drained|closed"):
            await (supervisor.drain(5.0) if verb == "drain" else supervisor.kill())
        assert components[1].ended == ended
        assert (supervisor.running, supervisor.ready) == (False, False)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())
