"""What a client sends to tag engines, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Raw
from msgspec.structs import replace

from infinitic import topics
from infinitic.client.connection import ClientConnection
from infinitic.client.results import make_unknown_error
from infinitic.messages import client as responses, engine, tags
from infinitic.messages.tags import AddTag, ByTag, GetIds, StartUnique

PAGE = 1000
"""How many ids are asked for at a time."""

Operation = (
    engine.Signal
    | engine.CallMethod
    | engine.Cancel
    | engine.Terminate
    | engine.CompleteTimers
    | engine.RetryWorkflowTask
    | engine.RetryTasks
)
"""What can be sent to all instances of a tag."""


class TagRequests:
    """The requests of one client to tag engines.

    Args:
        connection: sends them.
        make_id: makes the ids of operations.
    """

    def __init__(self, connection: ClientConnection, make_id: Callable[[], str]) -> None:
        self._connection = connection
        self._make_id = make_id

    async def add(self, name: str, names: Iterable[str], workflow_id: str, at: float) -> None:
        """Add tags to an instance that is about to start.

        Args:
            name: the workflow.
            names: the tags.
            workflow_id: the instance.
            at: when the start was made, in seconds since the Unix epoch.
        """
        body = tags.encode(AddTag(made_at=at, id=workflow_id))
        messages = [(tags.make_tag_key(tag), workflow_id, body) for tag in names]
        await self._connection.send_to_tags(topics.workflow_tag(name), messages)

    async def start_unique(self, name: str, workflow_id: str, start: engine.Start) -> str:
        """Start an instance, unless another one holds its custom id.

        Args:
            name: the workflow.
            workflow_id: the id of the new instance.
            start: its start.

        Returns:
            The id of the instance that holds the custom id.

        Raises:
            DeferredError: the request went to the dead letters.
        """
        body = Raw(engine.encode(start))
        response = await self._connection.ask_tags(
            topics.workflow_tag(name),
            tags.make_custom_id_key(start.custom_id),
            workflow_id,
            lambda at, to: tags.encode(StartUnique(made_at=at, id=workflow_id, start=body, reply_to=to)),
        )
        if not isinstance(response, responses.UniqueStarted):
            raise make_unknown_error(response, name, start.method, workflow_id)
        return response.workflow_id

    async def send_by_tag(self, name: str, tag: str, message: Operation) -> None:
        """Send a message to all instances of a tag.

        Args:
            name: the workflow.
            tag: the tag.
            message: what each of them gets.
        """
        operation = self._make_id()
        body = engine.encode(replace(message, by_tag=tag))
        by_tag = ByTag(made_at=message.made_at, operation=operation, input=Raw(body))
        await self._connection.send_to_tags(
            topics.workflow_tag(name), [(tags.make_tag_key(tag), operation, tags.encode(by_tag))]
        )

    async def list_ids(self, name: str, key: str, limit: int | None, after: str) -> list[str]:
        """List the instances of a tag, or the holder of a custom id.

        Args:
            name: the workflow.
            key: of the tag or custom id.
            limit: how many at most; None: all.
            after: only ids behind this one, in the order of their bytes.

        Raises:
            DeferredError: the request went to the dead letters.
        """
        found: list[str] = []
        while limit is None or len(found) < limit:
            count = PAGE if limit is None else min(PAGE, limit - len(found))
            page = await self._ask_ids(name, key, found[-1] if found else after, count)
            found += page.ids
            if not page.more:
                break
        return found

    async def find_holder(self, name: str, custom_id: str) -> str | None:
        """Find the instance that holds a custom id. None: nobody holds it.

        Raises:
            DeferredError: the request went to the dead letters.
        """
        found = await self.list_ids(name, tags.make_custom_id_key(custom_id), 1, "")
        return found[0] if found else None

    async def _ask_ids(self, name: str, key: str, after: str, limit: int) -> responses.Ids:
        response = await self._connection.ask_tags(
            topics.workflow_tag(name),
            key,
            self._make_id(),
            lambda at, to: tags.encode(GetIds(made_at=at, reply_to=to, after=after, limit=limit)),
        )
        if not isinstance(response, responses.Ids):
            raise make_unknown_error(response, name, "", "")
        return response
