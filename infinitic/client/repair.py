"""What operators ask of instances that do not go on: run the code, or failed tasks, again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from infinitic import ids
from infinitic.client.by_task_tag import read_task_tag, send_by_task_tag
from infinitic.client.commands import Commands
from infinitic.client.connection import ClientConnection
from infinitic.client.handles import WorkflowHandle, find_target
from infinitic.client.intercepting import client_verb
from infinitic.client.results import make_unknown_error
from infinitic.clock import Clock
from infinitic.definitions.deferred import DeferredStatus
from infinitic.definitions.service_contract import read_service_name
from infinitic.definitions.tags import check_tag
from infinitic.definitions.workflow_spec import spec_of
from infinitic.errors import UsageError
from infinitic.messages import engine
from infinitic.messages.client import Applied
from infinitic.storage import Flag, Query, Storage

MAX_TASK_IDS = 1000
"""Tasks that one request names by their ids at most."""

_PAGE_SIZE = 500
"""How many stalled instances are looked up at once."""

_RETRIED = (DeferredStatus.FAILED, DeferredStatus.TIMED_OUT)


def check_task_ids(given: str | Sequence[str], name: str, workflow_id: str) -> tuple[str, ...]:
    """Check the ids of tasks of one instance.

    Args:
        given: one id, or several.
        name: the name of the workflow, for errors.
        workflow_id: the id of the instance.

    Returns:
        The ids, each once.

    Raises:
        UsageError: an id cannot be that of a task of this instance.
    """
    task_ids = (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
    if len(task_ids) > MAX_TASK_IDS:
        raise UsageError(f"{len(task_ids):,} task ids are too many: at most {MAX_TASK_IDS:,} at once")
    for each in task_ids:
        ids.check_name("A task id", each)
        if not each.startswith(f"{workflow_id}-"):
            raise UsageError(
                f"The task {each} is none of workflow {name} {workflow_id}: its task ids begin with '{workflow_id}-'"
            )
    return task_ids


def check_status(given: DeferredStatus | str) -> str:
    """Check the status of tasks that are to run again, and return its text.

    Raises:
        UsageError: tasks of this status cannot run again.
    """
    if given not in _RETRIED:
        known = " or ".join(repr(str(each)) for each in _RETRIED)
        raise UsageError(f"Only failed tasks run again: status is {known}, not {str(given)!r}")
    return str(given)


class RepairVerbs(Commands):
    """A part of `Client`: it has instances go on that have stalled or failed."""

    _storage: Storage | None
    _clock: Clock
    _connection: ClientConnection

    @client_verb
    async def retry_workflow_task(self, target: object, *, confirm: bool = False) -> str | None:
        """Have a stalled or failed workflow run again, with today's code.

        A stalled one runs the activation again that could not be run. A failed one is re-opened,
        and runs the activation again in which its first method has failed. What it has asked for up
        to there does not run twice: the code must ask for the same, and goes on behind that. Its
        time is that of the failure. Whoever waits for the result from now on gets the new one.

        ::

            await client.retry_workflow_task(handle, confirm=True)  # the mended code is deployed

        Args:
            target: a stub of an instance, or a handle. It may be closed, until its retention ends.
            confirm: return only when the engine has taken the request. Where the code runs beside
                its state engine, the result then tells whether it stalled again. Without it, nobody
                is told that a failed workflow was not re-opened.

        Returns:
            As for `cancel`.

        Raises:
            WorkflowUnknownError: there is no such instance, or its retention has ended.
            RequestRefusedError: as for `cancel`; or the workflow has failed, and is not re-opened:
                today's code fails again, or asks for something else than the history holds, or the
                workflow has gone on since the failure.
            UsageError: `target` stands for no instance.
        """
        stalled = await self._requests.command(
            find_target(target),
            confirm,
            lambda at, to: engine.RetryWorkflowTask(made_at=at, request_id=self._make_id(), reply_to=to),
        )
        if isinstance(target, WorkflowHandle):
            target.forget_failure()
        return stalled

    @client_verb
    async def retry_tasks(
        self,
        target: object = None,
        *,
        task_id: str | Sequence[str] = (),
        status: DeferredStatus | str | None = None,
        service: type[Any] | str | None = None,
        task: str | None = None,
        tag: str | None = None,
    ) -> None:
        """Run failed tasks of a workflow again, and re-open the methods that they have ended.

        ::

            await client.retry_tasks(handle)  # all that can run again
            await client.retry_tasks(handle, service=Payments, status="timed_out")
            await client.retry_tasks(service=Payments, tag="order:42")  # of all workflows
            await client.retry_tasks(client.get_workflow_by_tag(Trip, "eu"))  # of all that run

        The methods go on at the place where they waited for these tasks, and whoever waits for
        their result from now on gets the new one. A failure that the code has caught and dealt with
        is history: such a task cannot run again. If conditions are given, all of them must hold.

        Args:
            target: a stub of an instance, or a handle. It may be closed, until its retention ends.
                A stub by tag: all running instances that have the tag. None: all instances with
                failed tasks of this `service` and `tag`, which must be given. For many instances,
                this returns when the broker has the request, and nobody is told if some of these
                tasks cannot run again.
            task_id: the id of a task, or several: exactly these run again, or none.
            status: "failed" or "timed_out": only tasks that ended so.
            service: only tasks of this service: its class, or its name.
            task: only tasks of this name.
            tag: only tasks with this tag.

        Raises:
            RequestRefusedError: nothing was done. The error says why: there is no such task, it has
                not failed, the code has dealt with its failure, or the workflow was cancelled.
            WorkflowUnknownError: there is no such instance, or its retention has ended.
            UsageError: `target` stands for no instance, or a condition cannot be.
        """
        if target is None:
            await self._retry_by_tag(task_id, status, service, task, tag)
            return
        tag = "" if tag is None else check_tag(tag)
        found = find_target(target)
        wanted = "" if status is None else check_status(status)
        service_name = "" if service is None else read_service_name("retry_tasks(service=…)", service)
        task_name = "" if task is None else ids.check_name("The name of a task", task)
        conditions = engine.RetryTasks(
            made_at=0.0, request_id="none", status=wanted, service=service_name, task=task_name, tag=tag
        )
        if found.tag:
            if task_id:
                raise UsageError("A task id is of one workflow, and a tag may have many of them: give no task_id")
            asked = replace(conditions, made_at=self._clock.now(), request_id=self._make_id())
            await self._requests.tags.send_by_tag(found.spec.name, found.tag, asked)
            return
        name, workflow_id = await self._requests.find_one(found)
        task_ids = check_task_ids(task_id, name, workflow_id)
        response = await self._connection.ask(
            name,
            workflow_id,
            lambda at, to: replace(conditions, made_at=at, request_id=self._make_id(), reply_to=to, task_ids=task_ids),
        )
        if not isinstance(response, Applied):
            raise make_unknown_error(response, name, "", workflow_id)
        if isinstance(target, WorkflowHandle):
            target.forget_failure()

    async def _retry_by_tag(
        self,
        task_id: str | Sequence[str],
        status: DeferredStatus | str | None,
        service: type[Any] | str | None,
        task: str | None,
        tag: str | None,
    ) -> None:
        if service is None or tag is None:
            raise UsageError("retry_tasks takes a stub or handle, or service=… and tag=… of tasks of all workflows")
        if task_id or status not in (None, DeferredStatus.FAILED):
            raise UsageError("By tag, all tasks that have failed run again: give no task_id, and no other status")
        name, key = read_task_tag(service, "retry_tasks(service=…)", tag)
        task_name = "" if task is None else ids.check_name("The name of a task", task)
        now, request_id = self._clock.now(), self._make_id()
        asked = engine.RetryTasks(
            made_at=now, request_id=request_id, status="failed", service=name, task=task_name, tag=tag
        )
        await send_by_task_tag(self._connection, name, key, asked)

    @client_verb
    async def retry_stalled(self, workflow: type[Any] | str) -> list[str]:
        """Have all stalled workflows of one name run again, with today's code.

        It does not wait until workers have done so. An instance that stalls again is listed again.

        Args:
            workflow: the workflow class, or its name.

        Returns:
            The ids of the instances that were asked to run again.

        Raises:
            UsageError: this client has no storage, or `workflow` is no workflow class.
        """
        if self._storage is None:
            raise UsageError("retry_stalled finds stalled workflows in the storage: Client(transport, storage=…)")
        name = (
            ids.check_name("The name of a workflow", workflow) if isinstance(workflow, str) else spec_of(workflow).name
        )
        asked: list[str] = []
        query = Query(name, flag=Flag.STALLED, limit=_PAGE_SIZE)
        while True:
            page = await self._storage.states.find(query)
            for found in page.found:
                now = self._clock.now()
                retry = engine.RetryWorkflowTask(made_at=now, request_id=self._make_id())
                await self._connection.send(name, found.key.id, retry)
                asked.append(found.key.id)
            if page.cursor is None:
                return asked
            query = replace(query, cursor=page.cursor)
