"""Stalled instances can be listed and counted, and no more once they run again."""

from __future__ import annotations

from infinitic import Workflow
from infinitic.engines.state import Method, WorkflowHead
from infinitic.engines.workflow.transition import choose_flag, conclude
from infinitic.storage import Flag, Query
from tests.simulation.cases import Case
from tests.simulation.world import World, run_scenario

broken = True


class Fickle(Workflow):
    """Reads what workflow code must not: it can be corrected while the test runs."""

    async def run(self) -> str:
        if broken:
            raise_foreign()
        return "corrected"


def raise_foreign() -> None:
    """Ask for a loop that workflow code has not."""
    import asyncio

    asyncio.get_running_loop().run_in_executor(None, print)


CASE = Case("fickle", (Fickle,), lambda client: client.new_workflow(Fickle).run(), ())


def test_a_stalled_instance_is_listed_until_it_runs_again() -> None:
    async def scenario(world: World) -> None:
        global broken
        broken = True
        handle = await world.client.dispatch(world.client.new_workflow(Fickle).run)
        await world.run_until_idle()
        states = world.storage.states
        (found,) = (await world.client.list_workflows(flag=Flag.STALLED)).found
        assert (found.key.id, found.entry.flag) == (handle.workflow_id, Flag.STALLED)
        assert await states.count(Query(name="Fickle", flag=Flag.STALLED)) == 1
        broken = False
        await world.client.retry_workflow_task(handle, confirm=True)
        assert await handle.result() == "corrected"
        assert await states.count(Query(flag=Flag.STALLED)) == 0
        (found,) = (await world.client.list_workflows()).found
        assert found.entry.flag is None

    run_scenario(scenario, CASE)


def test_an_instance_that_stalled_in_an_older_release_shows_at_its_next_transition() -> None:
    """That release wrote no flag: the entry is written again although nothing about it changes."""
    head = WorkflowHead(1, "w", "Trip", 1.0, (Method("w", "run"),), version=1, pending=1, stalled="why")
    entry = conclude(head, head, (), (), 2.0).entry
    assert entry is not None
    assert entry.flag is choose_flag(head) is Flag.STALLED
