"""What clients do by a tag of tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from infinitic import ids, topics
from infinitic.client.connection import ClientConnection
from infinitic.client.intercepting import client_verb
from infinitic.client.results import make_unknown_error
from infinitic.client.tag_requests import PAGE
from infinitic.clock import Clock
from infinitic.definitions.service_contract import read_service_name
from infinitic.definitions.tags import check_tag
from infinitic.errors import UsageError
from infinitic.messages import client as responses, engine, task_tags
from infinitic.messages.delegated import CompleteTask, FailTask
from infinitic.messages.tags import make_tag_key
from infinitic.messages.task_tags import ByTaskTag, GetTasks
from infinitic.middleware.call import ClientCall
from infinitic.middleware.chain import Layer


@dataclass(frozen=True)
class TaggedTask:
    """A task that has a tag.

    Attributes:
        workflow_name: the workflow that has asked for it.
        workflow_id: the id of the instance that waits for it.
        task_id: its id, as in `TaskContext.task_id`.
        token: its place in the order of a list. Each task has another one.
    """

    workflow_name: str
    workflow_id: str
    task_id: str
    token: str


class ByTaskTagVerbs:
    """The methods of `Client` for tags of tasks."""

    _connection: ClientConnection
    _clock: Clock
    _make_id: Callable[[], str]
    name: str
    layers: tuple[Layer[ClientCall], ...]

    @client_verb
    async def get_tasks(
        self, service: type[Any] | str, tag: str, *, limit: int | None = None, after: TaggedTask | None = None
    ) -> list[TaggedTask]:
        """List the tasks of a service that have a tag, those of one instance side by side.

        These are the tasks that wait, run, or have failed. One that has completed or was cancelled
        has its tags no more.

        ::

            for task in await client.get_tasks(Payments, "order:42"):
                print(task.workflow_id, task.task_id)

        Args:
            service: the class of the service, or its name.
            tag: one of those that ``new_service(…, tags=…)`` gives to the tasks.
            limit: how many at most. None: all, which are asked for page by page.
            after: only tasks behind this one: the last one of the page before.

        Raises:
            RequestRefusedError: the request went to the dead letters.
            UsageError: an argument cannot be.
        """
        name, key = read_task_tag(service, "get_tasks", tag)
        if limit is not None and limit < 1:
            raise UsageError(f"The limit of get_tasks must be 1 or more, got {limit!r}")
        if after is not None and not isinstance(after, TaggedTask):  # pyright: ignore[reportUnnecessaryIsInstance] (callers may not check types)
            raise UsageError(f"after takes the last task of the page before, got {after!r}")
        found: list[str] = []
        last = "" if after is None else after.token
        while limit is None or len(found) < limit:
            page = await self._ask_tasks(name, key, last, PAGE if limit is None else min(PAGE, limit - len(found)))
            found += page.tokens
            if not page.more:
                break
            last = found[-1]
        return [_read_task(token) for token in found]

    @client_verb
    async def cancel_tasks(self, service: type[Any] | str, tag: str) -> None:
        """Cancel all tasks of a service that have a tag, and that code waits for.

        Where it awaits one of them, it gets `TaskCanceledError`. Whoever runs the task is told to
        stop. Tasks that have ended are left alone.

        This returns when the broker has the request. It reaches the tasks that were asked for
        before it.

        Args:
            service: the class of the service, or its name.
            tag: as for `get_tasks`.

        Raises:
            UsageError: an argument cannot be.
        """
        name, key = read_task_tag(service, "cancel_tasks", tag)
        asked = engine.CancelTask(made_at=self._clock.now(), request_id=self._make_id(), by=self.name)
        await send_by_task_tag(self._connection, name, key, asked)

    async def _ask_tasks(self, name: str, key: str, after: str, limit: int) -> responses.Tasks:
        response = await self._connection.ask_tags(
            topics.service_tag(name),
            key,
            self._make_id(),
            lambda at, to: task_tags.encode(GetTasks(made_at=at, reply_to=to, after=after, limit=limit)),
        )
        if not isinstance(response, responses.Tasks):
            raise make_unknown_error(response, name, "", "")
        return response


def read_task_tag(service: type[Any] | str, verb: str, tag: str) -> tuple[str, str]:
    """Read the name of a service, and the key of a tag of its tasks.

    Args:
        service: the class of the service, or its name.
        verb: what was given them, for errors.
        tag: the tag.

    Raises:
        UsageError: one of them cannot be.
    """
    return read_service_name(verb, service), make_tag_key(check_tag(tag))


async def send_by_task_tag(
    connection: ClientConnection,
    service: str,
    key: str,
    asked: engine.CancelTask | engine.RetryTasks | CompleteTask | FailTask,
) -> None:
    """Send a message about all tasks that have a tag to the tag engine of their service.

    Args:
        connection: sends it.
        service: the name of the service.
        key: that of the tag, as `read_task_tag` returns it.
        asked: what the instances get that wait for the tasks. Its request id names the operation.
    """
    operation = asked.request_id
    body = task_tags.encode(ByTaskTag(made_at=asked.made_at, operation=operation, input=Raw(engine.encode(asked))))
    await connection.send_to_tags(topics.service_tag(service), [(key, operation, body)])


def _read_task(token: str) -> TaggedTask:
    place = task_tags.read_token(token)
    task_id = ids.task_id(place.workflow_id, place.run, place.position)
    return TaggedTask(place.workflow_name, place.workflow_id, task_id, token)
