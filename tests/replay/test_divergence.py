"""Code that asks for something else than its history holds (S14).

This is found, reported, and resumed with fixed code.
"""

from __future__ import annotations

import asyncio

import pytest

from infinitic import Channel, NonDeterminismError, Workflow, workflow
from infinitic.replay.divergence import QUESTIONS
from tests.replay.harness import Desk
from tests.replay.restart import Site, line_of, on_virtual_time, stalled


def look() -> str:
    return "seen"


def peek() -> str:
    return "seen"


class Steps(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()

    async def _rest(self, log: list[str]) -> list[str]:
        async for word in self.go.receive(limit=2):
            log.append(await self.desk.say(word))
        return log


@workflow(name="Order", version=2)
class Recorded(Steps):
    """What wrote the history."""

    async def run(self) -> list[str]:
        log = [await self.desk.say("a")]
        b = self.dispatch(self.desk.say, "b")
        await asyncio.sleep(1)
        log += [await b, self.inline(look)]
        return await self._rest(log)


@workflow(name="Order", version=2)
class Reordered(Steps):
    async def run(self) -> list[str]:
        log = [await self.desk.say("a")]
        await asyncio.sleep(1)  # HERE
        b = self.dispatch(self.desk.say, "b")
        log += [await b, self.inline(look)]
        return await self._rest(log)


@workflow(name="Order", version=2)
class OtherKind(Steps):
    async def run(self) -> list[str]:
        await self.timer(5)  # HERE
        return await self._rest([])


@workflow(name="Order", version=2)
class OtherTask(Steps):
    async def run(self) -> list[str]:
        log = [await self.desk.say("a")]
        b = self.dispatch(self.desk.fail, "b")  # HERE
        await asyncio.sleep(1)
        log += [await b, self.inline(look)]
        return await self._rest(log)


@workflow(name="Order", version=2)
class OtherInline(Steps):
    async def run(self) -> list[str]:
        log = [await self.desk.say("a")]
        b = self.dispatch(self.desk.say, "b")
        await asyncio.sleep(1)
        log += [await b, self.inline(peek)]  # HERE
        return await self._rest(log)


@workflow(name="Order", version=2)
class Removed(Steps):
    async def run(self) -> list[str]:
        log = [await self.desk.say("a")]
        b = self.dispatch(self.desk.say, "b")
        await asyncio.sleep(1)
        log += [await b, look()]
        return await self._rest(log)


@workflow(name="Order", version=2)
class Added(Steps):
    async def run(self) -> list[str]:
        log = [await self.desk.say("a")]
        b = self.dispatch(self.desk.say, "b")
        await asyncio.sleep(1)
        log += [await b, self.inline(look)]
        self.dispatch(self.desk.say, "added")  # HERE
        return await self._rest(log)


@workflow(name="Order", version=2)
class Ended(Steps):
    async def run(self) -> list[str]:
        log = [await self.desk.say("a")]
        b = self.dispatch(self.desk.say, "b")
        await asyncio.sleep(1)
        return [*log, await b, self.inline(look)]


@workflow(name="Order", version=2)
class Raising(Steps):
    async def run(self) -> list[str]:
        raise LookupError("today's code is broken")  # HERE


@workflow(name="Order", version=2)
class InATask(Steps):
    """The divergence is in a task that the method started."""

    async def run(self) -> list[str]:
        return await asyncio.create_task(self._inner())

    async def _inner(self) -> list[str]:
        await self.desk.fail("a")  # HERE
        return []


@workflow(name="Order", version=2)
class Swallowing(Steps):
    """Code that catches everything must not hide it."""

    async def run(self) -> list[str]:
        try:
            await self.desk.fail("a")  # HERE
        except BaseException:  # noqa: BLE001 (that is the point)
            return ["swallowed"]
        return []


CHANGES: list[tuple[type[Steps], str, str, str]] = [
    (Reordered, "position 1", 'task Desk.say with ["b"]', "a timer"),
    (OtherKind, "position 0", 'task Desk.say with ["a"]', "a timer"),
    (OtherTask, "position 1", 'task Desk.say with ["b"]', 'task Desk.fail with ["b"]'),
    (OtherInline, "position 3", "inline look", "inline peek"),
    (Removed, "position 3", "inline look", "nothing more"),
    (Added, "position 4", "nothing more", 'task Desk.say with ["added"]'),
    (Ended, "position 4", "nothing more", "the return of method"),
    (Raising, "position 0", 'task Desk.say with ["a"]', "the failure of method"),
    (InATask, "position 0", 'task Desk.say with ["a"]', 'task Desk.fail with ["a"]'),
    (Swallowing, "position 0", 'task Desk.say with ["a"]', 'task Desk.fail with ["a"]'),
]


@pytest.mark.parametrize(
    ("changed", "position", "recorded", "requested"), CHANGES, ids=lambda each: getattr(each, "__name__", "")
)
def test_it_stalls_says_where_and_resumes_with_fixed_code(  # S14
    changed: type[Steps], position: str, recorded: str, requested: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        site = Site()
        async with site.worker(Recorded) as worker:
            handle = await worker.client.dispatch(worker.client.new_workflow(Recorded).run)
            await asyncio.sleep(10)
        async with site.worker(changed) as worker:
            order = worker.client.get_workflow_by_id(Recorded, handle.workflow_id)
            await order.go.send("c")
            info = await stalled(worker, handle)
            report = info.stalled or ""
            assert "Workflow Order" in report
            assert handle.workflow_id in report
            assert "version 2" in report
            assert position in report
            assert f"the history holds {recorded}" in report
            assert f"the code asks for {requested}" in report
            if requested != "nothing more":
                assert "method run" in report
            assert report.endswith(QUESTIONS)
            assert caplog.text.count(f"Workflow Order {handle.workflow_id}") == 1, "the log says the id once"
            assert "/infinitic_testing/" not in report, "what calls the workflow is not the workflow's code"
            if requested not in ("nothing more", "the return of method"):
                assert f"{line_of(changed)} in " in report
            assert isinstance(worker.stalled[handle.workflow_id], NonDeterminismError)
            await order.go.send("d")  # kept, and handed over later
            await asyncio.sleep(1)
            assert (await worker.client.describe(handle)).stalled == info.stalled
        async with site.worker(Recorded) as worker:
            await worker.client.retry_workflow_task(handle, confirm=True)
            resumed = worker.client.get_handle(Recorded.run, handle.workflow_id)
            assert await resumed.result() == ["a", "b", "seen", "c", "d"]
        assert site.said == ["a", "b", "c", "d"], "no task ran twice, none was lost"

    on_virtual_time(main())


def test_it_stalls_again_as_long_as_the_code_is_wrong() -> None:  # S14
    async def main() -> None:
        site = Site()
        async with site.worker(Recorded) as worker:
            handle = await worker.client.dispatch(worker.client.new_workflow(Recorded).run)
            await asyncio.sleep(10)
        for changed in (OtherKind, Removed):
            async with site.worker(changed) as worker:
                await worker.client.get_workflow_by_id(Recorded, handle.workflow_id).go.send("c")
                await stalled(worker, handle)
                await worker.client.retry_workflow_task(handle, confirm=True)
                again = await stalled(worker, handle)
                assert "the history holds" in (again.stalled or "")
        async with site.worker(Recorded) as worker:
            await worker.client.retry_workflow_task(handle, confirm=True)
            resumed = worker.client.get_handle(Recorded.run, handle.workflow_id)
            assert await resumed.result() == ["a", "b", "seen", "c", "c"]

    on_virtual_time(main())
