"""`infinitic list`, `Client.list_workflows` and `count_workflows`: what they filter by."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinitic import Channel, UsageError, Workflow, WorkflowStatus
from infinitic.cli.app import app
from infinitic.cli.commands.list import StatusFilter, TimeFilter, list_workflows, make_query
from infinitic.storage import InvalidArgument
from infinitic_testing.simulation import Simulation


class Watch(Workflow):
    stop = Channel[int]()

    async def keep(self) -> int:
        return await self.stop.receive()

    async def end(self) -> int:
        return 1


async def run_some(sim: Simulation) -> list[str]:
    """Two that end at once, a minute apart, then one that ends an hour later, and one that runs."""
    sim.add_workflow(Watch)
    started = list[str]()
    stub = sim.client.new_workflow(Watch)
    for method in (stub.end, stub.end, stub.keep, stub.keep):
        handle = await sim.client.dispatch(method)
        started.append(handle.workflow_id)
        await sim.sleep(60)
    await sim.sleep(3600)
    await sim.client.get_workflow_by_id(Watch, started[2]).stop.send(3)
    await sim.run_until_idle()
    return started


async def test_lists_are_bounded_by_times_and_ids(sim: Simulation) -> None:
    began = sim.now
    first, second, third, fourth = await run_some(sim)

    async def find(**query: object) -> list[str]:
        page = await sim.client.list_workflows(**query)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        count = await sim.client.count_workflows(**query)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert count == len(page.found)
        return [found.key.id for found in page.found]

    minute = timedelta(minutes=1)
    assert await find() == [fourth, third, second, first]
    assert await find(until=began + 2.5 * minute) == [third, second, first]
    assert await find(since=began + minute / 2, until=began + 2.5 * minute) == [third, second]
    assert await find(closed_since=began + minute / 2) == [third, second]
    assert await find(closed_until=began + 10 * minute) == [second, first]
    assert await find(closed_since=began + 10 * minute, status=WorkflowStatus.COMPLETED) == [third]
    assert await find(name="Watch", id_prefix=second[:9]) == [second]
    assert await find(name="Watch", id_prefix="no such") == []
    assert await sim.client.count_workflows(limit=2) == 2, "no further than the limit"
    with pytest.raises(InvalidArgument, match="needs the name of the workflow"):
        await sim.client.list_workflows(id_prefix="a")
    listed = await list_workflows(
        sim.storage, "Watch", StatusFilter.COMPLETED, times=TimeFilter(closed_since=began + 10 * minute)
    )
    assert [row.workflow_id for row in listed.workflows] == [third]
    with pytest.raises(UsageError, match="--id-prefix needs --workflow"):
        make_query(None, None, None, 10, id_prefix="a")


def test_a_list_is_counted(tmp_path: Path) -> None:
    config = tmp_path / "infinitic.yml"
    config.write_text(f"transport:\n  in_memory: {{}}\nstorage:\n  sqlite: {{path: {tmp_path / 'db.sqlite'}}}\n")
    assert CliRunner().invoke(app, ["migrate", "--config", str(config)]).exit_code == 0
    counted = CliRunner().invoke(app, ["list", "--count", "--closed-since", "2h", "--config", str(config)])
    assert (counted.exit_code, counted.output.strip()) == (0, "0 workflows")
    wrong = CliRunner().invoke(app, ["list", "--until", "yesterday", "--config", str(config)])
    assert (wrong.exit_code, "--until takes a date and time" in wrong.output) == (2, True)
