"""`patched`: running instances keep what they had, new ones take a change (S18)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infinitic import Channel, UsageError, Workflow, WorkflowFailedError, query, workflow
from infinitic.messages.commands import RecordPatch
from tests.replay.harness import Desk, Run, both_ways
from tests.replay.restart import Site, on_virtual_time


class Patched(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()

    async def run(self, number: int) -> list[str]:
        log = list[str]()
        for each in range(number):
            if self.patched("greet"):
                log.append(await self.desk.say("hello"))
            if each and self.patched("twice"):
                log.append(await self.desk.say("again"))
            log.append(await self.go.receive())
        return log

    async def name_badly(self) -> None:
        self.patched("")

    @query
    def has(self, change_id: str) -> bool:
        return self.patched(change_id)


@both_ways(Patched)
async def test_an_instance_that_gets_there_first_takes_the_change(run: Run) -> Any:
    handle = await run.start(run.new(Patched).run, 3)
    stub = run.on(Patched, handle.workflow_id)
    for word in "abc":
        await stub.go.send(word, confirm=True)
        await run.idle()
        assert await run.client.query(stub.has, "greet")
    history = await run.history(handle)
    assert [event.name for event in history if isinstance(event, RecordPatch)] == ["greet", "twice"], "each once"
    return await handle.result()


@both_ways(Patched)
async def test_what_is_no_id_of_a_change_is_refused(run: Run) -> Any:
    handle = await run.start(run.new(Patched).name_badly)
    with pytest.raises(WorkflowFailedError, match=r"The id of a change must be non-empty text, got ''"):
        await handle.result()
    outside = Patched()
    with pytest.raises(UsageError, match="does not run"):
        outside.patched("greet")
    return None


class Steps(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()


@workflow(name="Order", version=3)
class Old(Steps):
    async def run(self) -> list[str]:
        return [await self._loop(each) for each in range(3)]

    async def _loop(self, each: int) -> str:
        said = await self.desk.say(f"old {each}")
        return said + await self.go.receive()


@workflow(name="Order", version=3)
class New(Old):
    async def _loop(self, each: int) -> str:
        text = "new" if self.patched("text") else "old"
        said = await self.desk.say(f"{text} {each}")
        if each == 2 and self.patched("last"):
            said += await self.desk.say("last")
        return said + await self.go.receive()


@workflow(name="Order", version=3)
class Newest(Old):
    """No longer asks for "text", which all instances have by now."""

    async def _loop(self, each: int) -> str:
        said = await self.desk.say(f"new {each}")
        if each == 2 and self.patched("last"):
            said += await self.desk.say("last")
        return said + await self.go.receive()


async def check_an_instance_that_was_there_before_goes_on_as_before() -> None:
    site = Site()
    async with site.worker(Old) as worker:
        handle = await worker.client.dispatch(worker.client.new_workflow(Old).run)
        await worker.client.get_workflow_by_id(Old, handle.workflow_id).go.send("a", confirm=True)
        await asyncio.sleep(1)
    for word in "bc":  # replayed by each of them
        async with site.worker(New) as worker:
            stub = worker.client.get_workflow_by_id(New, handle.workflow_id)
            await stub.go.send(word, confirm=True)
            await asyncio.sleep(1)
            assert (await worker.client.describe(stub)).stalled is None
    async with site.worker(New) as worker:
        result = await worker.client.get_handle(New.run, handle.workflow_id).result()
    assert result == ["old 0a", "old 1b", "old 2lastc"], "what it had not reached yet, it takes"


async def check_code_may_ask_for_a_change_no_longer_or_at_another_place() -> None:
    site = Site()
    async with site.worker(New) as worker:
        handle = await worker.client.dispatch(worker.client.new_workflow(New).run)
        await worker.client.get_workflow_by_id(New, handle.workflow_id).go.send("a", confirm=True)
        await asyncio.sleep(1)
    for word in "bc":
        async with site.worker(Newest) as worker:
            stub = worker.client.get_workflow_by_id(Newest, handle.workflow_id)
            await stub.go.send(word, confirm=True)
            await asyncio.sleep(5)
            assert (await worker.client.describe(stub)).stalled is None
    async with site.worker(Newest) as worker:
        result = await worker.client.get_handle(New.run, handle.workflow_id).result()
    assert result == ["new 0a", "new 1b", "new 2lastc"]


def test_an_instance_that_was_there_before_goes_on_as_before() -> None:
    on_virtual_time(check_an_instance_that_was_there_before_goes_on_as_before())


def test_code_may_ask_for_a_change_no_longer_or_at_another_place() -> None:
    on_virtual_time(check_code_may_ask_for_a_change_no_longer_or_at_another_place())
