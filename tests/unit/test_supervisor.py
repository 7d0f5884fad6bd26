"""A worker is ready when its consumers are subscribed, not before."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping

import pytest

from infinitic import Worker
from infinitic.runtime.lifecycle.supervisor import Supervisor
from infinitic.topics import Topic
from infinitic.transport import Consumer, UnsupportedCapability
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.desk import make_desk


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

    def count_held(self) -> Mapping[str, int]:
        return {}


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
def test_one_that_cannot_end_leaves_none_behind(verb: str, ended: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        supervisor, components = Supervisor(), [Broken(broken=True), Broken(broken=False), Broken(broken=True)]
        await supervisor.start([*components])
        with pytest.raises(OSError, match=r"drained|closed"):
            await (supervisor.drain(5.0) if verb == "drain" else supervisor.kill())
        assert components[1].ended == ended
        assert (supervisor.running, supervisor.ready) == (False, False)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())
    gc.collect()  # it tells of exceptions that nobody has asked for
    assert [record.name for record in caplog.records if record.exc_info] == ["infinitic.worker"] * len(ended)


class Failing(Broken):
    """It fails while it drains."""

    def __init__(self) -> None:
        super().__init__(broken=False)
        self.draining = asyncio.Event()

    async def run(self) -> None:
        await self.draining.wait()
        raise OSError("while it drained")

    async def drain(self) -> None:
        self.draining.set()
        await super().drain()


def test_what_fails_while_it_drains_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        supervisor = Supervisor()
        await supervisor.start([Failing()])
        await supervisor.drain(5.0)

    asyncio.run(play())
    assert "while it drained" in caplog.text


class Refused(InMemoryTransport):
    """A broker that lets nobody consume tasks."""

    async def subscribe(self, topic: Topic, subscription: str, prefetch: int, *, durable: bool = True) -> Consumer:
        if topic.name.startswith("service-executor"):
            raise UnsupportedCapability("no")
        return await super().subscribe(topic, subscription, prefetch, durable=durable)


def test_what_is_added_and_cannot_start_ends_the_worker() -> None:
    """It said nothing, was ready, and ran no task."""

    async def work(self: object, text: str) -> str:
        return text

    async def play() -> None:
        worker = Worker(Refused())
        async with asyncio.timeout(10.0):
            async with worker.running(allow_empty=True):
                worker.add_service(make_desk(work))
                await asyncio.Event().wait()

    with pytest.raises(UnsupportedCapability):
        asyncio.run(play())


class Short(Slow):
    """A component that ends by itself."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.subscribed.set()
        self.reason = reason

    async def run(self) -> None:
        await asyncio.sleep(0)
        raise OSError(self.reason)


def test_the_first_that_fails_is_raised_and_the_others_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        supervisor = Supervisor()
        await supervisor.start([Short("one"), Short("two")])
        with pytest.raises(OSError, match="one"):
            await supervisor.wait(asyncio.get_running_loop().create_future())
        for _ in range(3):
            await asyncio.sleep(0)
        await supervisor.kill()

    asyncio.run(play())
    gc.collect()  # it tells of exceptions that nobody has asked for
    assert [(record.name, record.getMessage()) for record in caplog.records if record.levelname == "ERROR"] == [
        ("infinitic.worker", "infinitic Short failed while the worker ended")
    ]
