"""Sends messages of instances to whoever holds a custom id."""

from __future__ import annotations

from collections import OrderedDict

from infinitic import topics
from infinitic.engines.workflow.remote_messages import send_patiently
from infinitic.engines.workflow.render import make_response
from infinitic.messages import client, engine
from infinitic.messages.client import ReplyTo
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.tags import CancelUnique, ToHolder
from infinitic.runtime.tag_engine.pages import REMEMBERED, SKEW_SECONDS
from infinitic.storage import TagKey, TagStorage
from infinitic.transport import Message, Outgoing

_TO_HOLDER = (engine.CallMethod, engine.Signal, engine.Cancel)
_TO_CHILD = (engine.Cancel, engine.Terminate)


class HolderMessages:
    """Sends messages to whoever holds a custom id.

    It remembers for a while who got which one: a duplicate goes to the same instance, also if
    another one has the custom id by then. That instance recognises it by the operation.
    """

    def __init__(self) -> None:
        self._sent: OrderedDict[str, str | None] = OrderedDict()

    async def send(self, storage: TagStorage, key: TagKey, message: ToHolder) -> list[Outgoing]:
        """Make the message to the instance that holds a custom id.

        Args:
            storage: where the holders are.
            key: the custom id.
            message: what is sent, and whom to tell if nobody holds it.

        Raises:
            UndecodableMessage: instances cannot be sent this.
        """
        body = _check(bytes(message.input), _TO_HOLDER)
        operation = message.operation
        if operation not in self._sent:
            found = await storage.members(key, until=message.made_at + SKEW_SECONDS, limit=1)
            # Before it is published: if that fails, some of it may be there.
            self._sent[operation] = found[0] if found else None
            if len(self._sent) > REMEMBERED:
                self._sent.popitem(last=False)
        holder = self._sent[operation]
        if holder is not None:
            return [Outgoing(topics.workflow_engine(key.name), Message(operation, holder, body))]
        to = message.reply_to
        return [] if to is None else [make_response(to, client.WorkflowUnknown(to.request), message.made_at)]


def cancel_unique(key: TagKey, message: CancelUnique) -> Outgoing:
    """Cancel a child that was to have a custom id.

    Who holds the custom id does not matter. If the child has ended or only attached to another
    instance, nothing runs with its id. Where a broker loses the order of a key, its start may still
    be on its way: the message waits for that.

    Args:
        key: the custom id.
        message: the child, and what it is sent.

    Raises:
        UndecodableMessage: children cannot be sent this.
    """
    _check(bytes(message.input), _TO_CHILD)
    return send_patiently(key.name, message.id, message.id, engine.decode(bytes(message.input)))


def attach(workflow: str, workflow_id: str, to: ReplyTo, made_at: float) -> Outgoing:
    """Have an instance wait for another one, which holds the custom id that it wanted.

    Args:
        workflow: the name of the workflow of both.
        workflow_id: the holder.
        to: the instance that waits.
        made_at: when it asked, in seconds since the Unix epoch.
    """
    return send_patiently(workflow, workflow_id, workflow_id, engine.Wait(made_at=made_at, reply_to=to))


def _check(body: bytes, kinds: tuple[type[engine.Input], ...]) -> bytes:
    if not isinstance(engine.decode(body), kinds):
        raise UndecodableMessage("This cannot be sent to the holder of a custom id")
    return body
