"""What reaches for the world outside is refused at its line, and the instance stalls (S17)."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from typing import Any

import pytest

from infinitic import Workflow, WorkflowCodeError
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk
from tests.replay.restart import line_of

OUTSIDE: dict[str, Any] = {}
"""A socket, and futures and locks that belong to the loop of the test."""


@pytest.fixture(scope="module", autouse=True)
def opened() -> Generator[None]:
    with socket.socket() as OUTSIDE["socket"]:
        yield


class Forbidden(Workflow):
    desk = Workflow.new_service(Desk)

    async def thread(self) -> str:
        await self.desk.say("before")
        await asyncio.to_thread(print)  # HERE
        return "done"

    async def executor(self) -> str:
        await asyncio.get_running_loop().run_in_executor(None, print)  # HERE
        return "done"

    async def connection(self) -> str:
        await asyncio.open_connection("localhost", 80)  # HERE
        return "done"

    async def server(self) -> str:
        await asyncio.start_server(lambda reader, writer: None, "localhost", 80)  # HERE
        return "done"

    async def subprocess(self) -> str:
        await asyncio.create_subprocess_exec("true")  # HERE
        return "done"

    async def shell(self) -> str:
        await asyncio.create_subprocess_shell("true")  # HERE
        return "done"

    async def signals(self) -> str:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)  # HERE
        return "done"

    async def name(self) -> str:
        await asyncio.get_running_loop().getaddrinfo("localhost", 80)  # HERE
        return "done"

    async def sockets(self) -> str:
        await asyncio.get_running_loop().sock_connect(OUTSIDE["socket"], ("localhost", 80))  # HERE
        return "done"

    async def stop(self) -> str:
        asyncio.get_running_loop().stop()  # HERE
        return "done"

    async def from_threads(self) -> str:
        asyncio.get_running_loop().call_soon_threadsafe(print)  # HERE
        return "done"

    async def foreign_future(self) -> str:
        await self.desk.say("before")
        await OUTSIDE["future"]  # HERE
        return "done"

    async def foreign_future_in_asyncio(self) -> str:
        await asyncio.wait_for(self._foreign(), 5)
        return "done"

    async def _foreign(self) -> None:
        await asyncio.shield(self._deep())

    async def _deep(self) -> None:
        await OUTSIDE["future"]  # HERE-TOO

    async def foreign_future_in_group(self) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deep())
        return "done"

    async def foreign_future_with_cause(self) -> str:
        try:
            await OUTSIDE["future"]  # HERE
        except RuntimeError as error:
            raise LookupError("wrapped") from error
        return "done"

    async def foreign_lock(self) -> str:
        async with OUTSIDE["lock"]:  # HERE
            return "done"

    async def no_future_at_all(self) -> str:
        await Suspends()
        return "done"

    async def swallowed(self) -> str:
        try:
            await asyncio.to_thread(print)  # HERE
        except Exception:  # noqa: BLE001 (that is the point)
            return "swallowed"
        return "done"

    async def in_a_task(self) -> str:
        task = asyncio.create_task(asyncio.to_thread(print))
        await self.desk.say("x")
        return str(task.done())


class Suspends:
    """An awaitable of another framework."""

    def __await__(self) -> Any:
        yield self  # HERE


CASES: list[tuple[Callable[[Forbidden], Any], str, str]] = [
    (Forbidden.thread, line_of(Forbidden.thread), "loop.run_in_executor"),
    (Forbidden.executor, line_of(Forbidden.executor), "loop.run_in_executor"),
    (Forbidden.connection, line_of(Forbidden.connection), "loop.create_connection"),
    (Forbidden.server, line_of(Forbidden.server), "loop.create_server"),
    (Forbidden.subprocess, line_of(Forbidden.subprocess), "loop.subprocess_exec"),
    (Forbidden.shell, line_of(Forbidden.shell), "loop.subprocess_shell"),
    (Forbidden.signals, line_of(Forbidden.signals), "loop.add_signal_handler"),
    (Forbidden.name, line_of(Forbidden.name), "loop.getaddrinfo"),
    (Forbidden.sockets, line_of(Forbidden.sockets), "loop.sock_connect"),
    (Forbidden.stop, line_of(Forbidden.stop), "loop.stop"),
    (Forbidden.from_threads, line_of(Forbidden.from_threads), "loop.call_soon_threadsafe"),
    (Forbidden.foreign_future, line_of(Forbidden.foreign_future), "not of the workflow"),
    (Forbidden.foreign_future_in_asyncio, line_of(Forbidden, "# HERE-TOO"), "not of the workflow"),
    (Forbidden.foreign_future_in_group, line_of(Forbidden, "# HERE-TOO"), "not of the workflow"),
    (Forbidden.foreign_future_with_cause, line_of(Forbidden.foreign_future_with_cause), "not of the workflow"),
    (Forbidden.foreign_lock, line_of(Forbidden.foreign_lock), "not of the workflow"),
    (Forbidden.no_future_at_all, line_of(Suspends), "not of the workflow"),
    (Forbidden.swallowed, line_of(Forbidden.swallowed), "loop.run_in_executor"),
]


@pytest.mark.parametrize(("method", "line", "what"), CASES, ids=lambda each: getattr(each, "__name__", ""))
async def test_it_is_refused_at_its_line(
    sim: Simulation, method: Callable[[Forbidden], Any], line: str, what: str
) -> None:  # S17
    loop = asyncio.get_running_loop()
    OUTSIDE["future"], OUTSIDE["lock"] = loop.create_future(), asyncio.Lock()
    await OUTSIDE["lock"].acquire()
    waiting = asyncio.ensure_future(OUTSIDE["lock"].acquire())
    await asyncio.sleep(0)
    sim.add_service(Desk)
    sim.add_workflow(Forbidden)
    stub = sim.client.new_workflow(Forbidden)
    handle = await sim.client.dispatch(getattr(stub, method.__name__))
    with pytest.raises(WorkflowCodeError, match=what) as caught:
        await handle.result()
    path, _, number = line.rpartition(":")
    assert line in str(caught.value) or f'"{path}", line {number}' in str(caught.value)
    info = await sim.client.describe(handle)
    assert info.stalled == str(caught.value)
    assert (info.status, info.closed_at) == ("running", None)
    waiting.cancel()


async def test_it_is_found_in_a_task_that_nobody_awaits(sim: Simulation) -> None:  # S17
    sim.add_service(Desk)
    sim.add_workflow(Forbidden)
    with pytest.raises(WorkflowCodeError, match=r"loop\.run_in_executor"):
        await sim.client.new_workflow(Forbidden).in_a_task()


async def test_a_stalled_instance_leaves_the_others_alone(sim: Simulation) -> None:  # S17
    sim.add_service(Desk)
    sim.add_workflow(Forbidden, Fine)
    with pytest.raises(WorkflowCodeError):
        await sim.client.new_workflow(Forbidden).thread()
    assert await sim.client.new_workflow(Fine).run() == "fine"
    assert asyncio.get_running_loop() is not None


class Fine(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> str:
        return await self.desk.say("fine", 1)
