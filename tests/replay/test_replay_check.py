"""How much of a command is compared: `replay_check` none, simple and strict (S14)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from infinitic import Channel, UsageError, Workflow, workflow
from tests.replay.harness import Desk
from tests.replay.restart import Site, line_of, on_virtual_time, stalled


class Checked(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()
    word = "old"
    seconds = 60

    async def run(self) -> list[str]:
        log = [await self.desk.say(self.word)]  # HERE
        began = self.now()
        timer = self.timer(self.seconds)
        log.append(await self.go.receive())
        due = await timer
        return [*log, str(due - began), str(self.now() - began)]


class OtherTask(Checked):
    async def run(self) -> list[str]:
        log = [await self.desk.fail("old")]
        timer = self.timer(self.seconds)
        log.append(await self.go.receive())
        return [*log, str(await timer)]


class NewWord(Checked):
    word = "new"


class Longer(Checked):
    seconds = 600


@workflow(name="Checked", replay_check="none")
class NoneOtherTask(OtherTask): ...


@workflow(name="Checked", replay_check="simple")
class SimpleOtherTask(OtherTask): ...


@workflow(name="Checked", replay_check="none")
class NoneNewWord(NewWord): ...


@workflow(name="Checked", replay_check="simple")
class SimpleNewWord(NewWord): ...


@workflow(name="Checked", replay_check="strict")
class StrictNewWord(NewWord): ...


@workflow(name="Checked", replay_check="simple")
class SimpleLonger(Longer): ...


@workflow(name="Checked", replay_check="strict")
class StrictLonger(Longer): ...


@workflow(name="Checked", replay_check="strict")
class StrictSame(Checked): ...


async def _change(changed: type[Checked], site: Site, *, ends: bool) -> str | None:
    """Begin with one class and go on with another.

    Returns the report if it stalls, None if it ends as it should.
    """
    async with site.worker(Checked) as worker:
        handle = await worker.client.dispatch(worker.client.new_workflow(Checked).run)
        await asyncio.sleep(10)
    async with site.worker(changed) as worker:
        await worker.client.get_workflow_by_id(Checked, handle.workflow_id).go.send("go")
        if not ends:
            return (await stalled(worker, handle)).stalled
        resumed = worker.client.get_handle(Checked.run, handle.workflow_id)
        result = await asyncio.wait_for(resumed.result(), 1000)
        assert result[:2] == ["old", "go"]
        if len(result) == 4:
            assert result[2:] == [str(timedelta(seconds=60))] * 2, "a timer is due when history says, and says so"
        return None


@pytest.mark.parametrize("changed", [NoneOtherTask, NoneNewWord, SimpleNewWord, SimpleLonger, StrictSame])
def test_what_is_not_looked_at(changed: type[Checked]) -> None:  # S14
    on_virtual_time(_expect_end(changed))


async def _expect_end(changed: type[Checked]) -> None:
    assert await _change(changed, Site(), ends=True) is None


@pytest.mark.parametrize("changed", [SimpleOtherTask, StrictNewWord, StrictLonger])
def test_what_is_looked_at(changed: type[Checked]) -> None:  # S14
    on_virtual_time(_expect_stall(changed))


async def _expect_stall(changed: type[Checked]) -> None:
    report = await _change(changed, Site(), ends=False) or ""
    assert "the history holds" in report
    if changed is StrictNewWord:
        assert 'task Desk.say with ["old"]' in report
        assert 'task Desk.say with ["new"]' in report
        assert f"{line_of(Checked)} in Checked.run" in report


def test_an_unknown_check_is_refused() -> None:  # S14
    with pytest.raises(UsageError, match="'none', 'simple' or 'strict'"):
        workflow(replay_check="careful")
