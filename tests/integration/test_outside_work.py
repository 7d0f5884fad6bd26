"""S8 and heartbeats on real servers: other processes end tasks, and take over from dead ones."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from infinitic import Workflow, task, task_context
from tests.integration.executors import Executors, note
from tests.integration.stack import need

PATIENCE = 150.0
TIMEOUT = 6.0
STEPS = 120
EXECUTOR = {"concurrency": 5, "max_per_second": 50}


class Outdoor:
    """A task that takes steps, and one that somebody outside ends. Both note what they do."""

    @task(heartbeat_timeout=TIMEOUT)
    def walk(self, steps: int, notes: str) -> int:
        done: int = task_context().last_heartbeat or 0
        note(notes, f"{os.getpid()} {done}")
        while done < steps and not task_context().is_cancelled:
            time.sleep(0.25)  # noqa: TID251 (a task of users, in a thread of its own)
            done += 1
            task_context().heartbeat(done)
        return done

    @task(delegated=True)
    async def ask(self, notes: str) -> int:
        note(notes, task_context().delegation_token)
        return -1


class Trip(Workflow):
    outdoor = Workflow.new_service(Outdoor, tags={"trip"})

    async def walk(self, steps: int, notes: str) -> int:
        return await self.dispatch(self.outdoor.walk, steps, notes)

    async def ask(self, notes: str) -> int:
        return await self.outdoor.ask(notes)


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP])
def test_a_long_task_goes_on_in_another_process(harm: signal.Signals, tmp_path: Path) -> None:
    """One that was killed, or that stands still for longer than its timeout, and then goes on.

    The broker may give the newest guards to the one that stands still, and an older one to the
    other. So the harm comes when each one that the broker has says how far the task was.
    """
    need()
    setting = Executors(tmp_path, Outdoor, Trip, EXECUTOR, roles={"tag_engine": {}})

    async def play() -> tuple[int, list[str], float]:
        executors: list[asyncio.subprocess.Process] = []
        async with asyncio.timeout(PATIENCE), setting.engine() as client:
            try:
                executors.append(await setting.run("worker"))
                handle = await client.dispatch(client.new_workflow(Trip).walk, STEPS, str(setting.notes))
                await setting.until_noted(1)
                executors.append(await setting.run("worker"))
                await setting.until_broker_has(
                    lambda kept: {bytes(each.last_heartbeat) > b"" for each in kept} == {True}
                )
                began = time.monotonic()
                executors[0].send_signal(harm)
                lines = await setting.until_noted(2)
                took = time.monotonic() - began
                if harm is signal.SIGSTOP:
                    executors[0].send_signal(signal.SIGCONT)
                return await handle.result(), lines, took
            finally:
                for each in executors:
                    if each.returncode is None:
                        each.kill()
                    await each.wait()

    done, lines, took = asyncio.run(play())
    assert done == STEPS
    (first, said), (second, found) = (line.split() for line in lines)
    assert first != second
    assert (int(said), int(found) > 0) == (0, True)
    # What was said last may be older than the harm; asking the others takes two seconds. One that
    # stands still keeps its connection for a minute, and with it a guard that the broker gave it.
    assert took < TIMEOUT + (5.0 if harm == signal.SIGKILL else 75.0)


def test_a_task_is_ended_from_other_processes(tmp_path: Path) -> None:
    """S8: by the command line, by two clients at once, by its tag, and while no executor runs."""
    need()
    setting = Executors(tmp_path, Outdoor, Trip, EXECUTOR, roles={"tag_engine": {}})

    async def play() -> list[int]:
        async with asyncio.timeout(PATIENCE), setting.engine() as client:
            executor = await setting.run("worker")
            new = client.new_workflow(Trip)
            handles = [await client.dispatch(new.ask, str(setting.notes)) for _ in range(3)]
            tokens = await setting.until_noted(3)
            while sum([(await client.describe(each)).delegated_tasks for each in handles]) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            executor.terminate()
            await executor.wait()
            command = await setting.run("complete-task", tokens[0], "--value", "1", "--confirm")
            assert await command.wait() == 0
            await asyncio.gather(*(client.complete_delegated_task(tokens[1], 1, contract=Outdoor) for _ in range(2)))
            executor = await setting.run("worker")
            try:
                # Its tag engine is there again.
                await client.complete_delegated_tasks(Outdoor, "trip", 1, task="ask")
                found = [await each.result() for each in handles]
                again = await setting.run("complete-task", tokens[0], "--value", "2", "--confirm")
                assert await again.wait() != 0
                return found
            finally:
                executor.terminate()
                await executor.wait()

    assert asyncio.run(play()) == [1, 1, 1]
