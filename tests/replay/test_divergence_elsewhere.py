"""As `test_divergence.py`, with the code on another worker than the state engine (S14)."""

from __future__ import annotations

import asyncio

import pytest

from tests.replay.restart import Site, line_of, on_virtual_time, stalled
from tests.replay.test_divergence import Added, OtherKind, Recorded, Removed, Steps


@pytest.mark.parametrize("changed", [OtherKind, Removed, Added])
def test_it_stalls_says_where_and_resumes_with_fixed_code(changed: type[Steps]) -> None:  # S14
    async def main() -> None:
        site = Site()
        async with site.worker("Order") as worker:
            async with site.executor(Recorded):
                handle = await worker.client.dispatch(worker.client.new_workflow(Recorded).run)
                await asyncio.sleep(10)
            order = worker.client.get_workflow_by_id(Recorded, handle.workflow_id)
            async with site.executor(changed):
                await order.go.send("c")
                report = (await stalled(worker, handle)).stalled or ""
                assert "version 2" in report
                assert "the history holds" in report
                if changed is not Removed:
                    assert f"{line_of(changed)} in " in report
                await order.go.send("d")
                await asyncio.sleep(1)
            async with site.executor(Recorded):
                await worker.client.retry_workflow_task(handle, confirm=True)
                assert await handle.result() == ["a", "b", "seen", "c", "d"]
        assert site.said == ["a", "b", "c", "d"], "no task ran twice, none was lost"

    on_virtual_time(main())
