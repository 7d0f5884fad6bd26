"""S8: ``infinitic complete-task`` and ``fail-task``, and what ``describe`` says of such tasks."""

from __future__ import annotations

import pytest

from infinitic import UsageError, Workflow, WorkflowFailedError, WorkflowUnknownError, task, task_context
from infinitic.cli.commands.delegated import complete_task, fail_task
from infinitic.cli.connection import Connection
from infinitic.cli.describe.command import describe
from infinitic.cli.project import Project
from infinitic_testing.simulation import Simulation


class Desk:
    def __init__(self) -> None:
        self.token = ""

    @task(delegated=True)
    async def ask(self) -> int:
        self.token = task_context().delegation_token
        return 0


class Job(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> int:
        return await self.desk.ask()


async def test_S8_a_task_is_completed_by_command(sim: Simulation) -> None:
    desk = Desk()
    sim.add_service(desk)
    sim.add_workflow(Job)
    at = Connection(sim.client, sim.transport, sim.storage, Project(("Desk",), {"Job": (Job,)}))
    handle = await sim.client.dispatch(sim.client.new_workflow(Job).run)
    await sim.sleep(1)
    shown = await describe(at, "Job", handle.workflow_id)
    assert shown.tasks[0].delegated
    assert [note for note in shown.notes if "is delegated: it waits until somebody completes it" in note]
    with pytest.raises(UsageError, match="--value takes JSON"):
        await complete_task(at, desk.token, "seven")
    with pytest.raises(UsageError, match="no token of a delegated task"):
        await complete_task(at, desk.token[:-1], "7")
    report = await complete_task(at, desk.token, "7", confirm=True)
    assert (report.what, report.workflow_id, report.applied) == ("complete-task", handle.workflow_id, True)
    assert await handle.result() == 7


async def test_S8_a_task_fails_by_command(sim: Simulation) -> None:
    desk = Desk()
    sim.add_service(desk)
    sim.add_workflow(Job)
    at = Connection(sim.client, sim.transport, sim.storage, Project(("Desk",), {"Job": (Job,)}))
    handle = await sim.client.dispatch(sim.client.new_workflow(Job).run)
    await sim.sleep(1)
    assert not (await fail_task(at, desk.token, "no budget")).applied
    with pytest.raises(WorkflowFailedError, match="no budget"):
        await handle.result()
    await sim.client.retry_tasks(handle)
    await sim.sleep(1)
    await complete_task(at, desk.token, "7", confirm=True)
    with pytest.raises(WorkflowUnknownError, match=handle.workflow_id):
        await fail_task(at, desk.token, "too late", confirm=True)
