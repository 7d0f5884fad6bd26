"""What a worker says of a step if the reply to its commit was lost: the same, and once."""

from __future__ import annotations

import asyncio
import logging

import pytest

from infinitic import Workflow, task
from infinitic.errors import InfiniticError
from infinitic.storage import StateKey
from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from tests.simulation.cases import Case
from tests.simulation.damages import DamagedInstance
from tests.simulation.faulty import Hiccup
from tests.simulation.world import Hosting, World, host_all, host_engines, host_executors


class Bureau:
    @task
    async def stamp(self, number: int) -> int:
        return number


class Careless(Workflow):
    bureau = Workflow.new_service(Bureau)

    async def open_file(self) -> None:
        await self.bureau.stamp(1)
        open(__file__).close()  # noqa: ASYNC230 (workflow code must not do this)

    async def open_at_once(self) -> None:
        open(__file__).close()  # noqa: ASYNC230 (workflow code must not do this)

    async def fail(self) -> None:
        await self.bureau.stamp(1)
        raise ValueError("no stamps are left")

    async def wait(self) -> None:
        await self.timer(5.0)
        await self.bureau.stamp(2)


CASE = Case("careless", (Careless,), lambda client: asyncio.sleep(0), (Bureau,))
ROLES = pytest.mark.parametrize("roles", [(host_all,), (host_engines, host_executors)], ids=["fused", "split"])


def read_log(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if words in each.getMessage()]


def play(method: str, fence: Fence, roles: tuple[Hosting, ...]) -> list[str]:
    """Start one instance, and list the stalls that its worker tells of."""
    told: list[str] = []

    def note(_: str, fault: InfiniticError) -> None:
        told.append(str(fault))

    async def main() -> None:
        world = World()
        async with world.open():
            world.host(CASE, *roles, fence=fence, on_stall=note)
            await world.run_until_idle()
            await world.client.dispatch(getattr(world.client.new_workflow(Careless), method))
            await world.settle()

    run(main())
    return told


def list_commits(fence: Fence) -> list[int]:
    return [at for at, operation in enumerate(fence.operations, 1) if operation == "commit"]


@ROLES
@pytest.mark.parametrize("after", [False, True], ids=["not written", "written"])
@pytest.mark.parametrize("method", ["open_file", "open_at_once"])
def test_a_stall_is_told_once(
    method: str, after: bool, roles: tuple[Hosting, ...], caplog: pytest.LogCaptureFixture
) -> None:
    uncut = Fence()
    expected = play(method, uncut, roles)
    assert len(expected) == 1
    assert "opening a file" in expected[0]
    # An executor says it, too.
    lines = len(read_log(caplog, " stalls: "))
    assert lines == len(roles)
    for at in list_commits(uncut):
        caplog.clear()
        assert len(play(method, Hiccup(at, after=after), roles)) == 1, f"the reply to commit {at} was lost"
        assert len(read_log(caplog, " stalls: ")) == lines


@ROLES
@pytest.mark.parametrize("after", [False, True], ids=["not written", "written"])
def test_a_failed_method_is_logged_once(
    after: bool, roles: tuple[Hosting, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "infinitic")
    uncut = Fence()
    play("fail", uncut, roles)
    assert len(read_log(caplog, "fail failed: ")) == 1
    for at in list_commits(uncut):
        caplog.clear()
        play("fail", Hiccup(at, after=after), roles)
        assert len(read_log(caplog, "fail failed: ")) == 1, f"the reply to commit {at} was lost"


def play_damaged(fence: Fence) -> list[str]:
    """Damage an instance that waits, and list the stalls that its next worker tells of."""
    told: list[str] = []

    def note(_: str, fault: InfiniticError) -> None:
        told.append(str(fault))

    async def main() -> None:
        world = World(is_watched=False)
        async with world.open():
            world.host(CASE, host_all)
            await world.run_until_idle()
            stubs = [world.client.new_workflow(Careless) for _ in range(2)]
            keys = [StateKey("Careless", (await world.client.dispatch(each.wait)).workflow_id) for each in stubs]
            await world.run_until_idle()
            await world.stop()
            DamagedInstance(world.database, *keys).damage_outbox("it is gone")
            world.host(CASE, host_all, fence=fence, on_stall=note)
            await asyncio.sleep(60.0)

    run(main())
    return told


@pytest.mark.parametrize("after", [False, True], ids=["not written", "written"])
def test_damage_is_told_once(after: bool, caplog: pytest.LogCaptureFixture) -> None:
    uncut = Fence()
    expected = play_damaged(uncut)
    assert len(expected) == 1
    assert "is damaged" in expected[0]
    for at in list_commits(uncut):
        caplog.clear()
        assert len(play_damaged(Hiccup(at, after=after))) == 1, f"the reply to commit {at} was lost"
        assert len(read_log(caplog, " stalls: ")) == 1
