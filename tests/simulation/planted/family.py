"""Bugs in what instances ask of one another: children, calls, signals, and the answers."""

from __future__ import annotations

from importlib import import_module
from itertools import count
from typing import Any

from msgspec.structs import replace

from infinitic import ids, topics
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import remote_messages
from infinitic.engines.workflow.input_result import InputResult
from infinitic.messages import client, engine as inputs, events
from infinitic.messages.commands import SignalRemote, StartChild
from infinitic.messages.outcomes import RemoteStatus
from infinitic.messages.tags import CancelUnique
from infinitic.replay.remotes import RemoteRequests
from infinitic.runtime.tag_engine import engine as tag_engine
from infinitic.transport import Message, Outgoing
from tests.simulation.planted.planting import Part, Planter, bug

FAMILY = "children and calls"
_RENDER = import_module("infinitic.engines.workflow.render")


@bug(FAMILY)
def answers_of_children_not_deduplicated(planter: Planter) -> None:
    """The result of a child is handed over although its position is settled."""

    @planter.wrap_handler(inputs.RemoteSettled)
    def settled(original: Part, head: WorkflowHead, message: inputs.RemoteSettled, now: float) -> Any:
        result = original(head, message, now)
        if result.head is not head or message.status is not RemoteStatus.COMPLETED:
            return result
        event = events.RemoteResult(message.position, message.value)
        return InputResult(replace(head, pending=head.pending or head.sequence + 1), (event,))


@bug(FAMILY)
def failures_of_children_lost(planter: Planter) -> None:
    """A parent is not told that its child has failed."""

    @planter.wrap_handler(inputs.RemoteSettled)
    def settled(original: Part, head: WorkflowHead, message: inputs.RemoteSettled, now: float) -> Any:
        return InputResult(head) if message.status is RemoteStatus.FAILED else original(head, message, now)


@bug(FAMILY)
def causes_of_children_forgotten(planter: Planter) -> None:
    """A parent learns what its child has raised, and not what was behind that."""

    @planter.wrap_handler(inputs.RemoteSettled)
    def settled(original: Part, head: WorkflowHead, message: inputs.RemoteSettled, now: float) -> Any:
        failure = message.failure
        return original(
            head, message if failure is None else replace(message, failure=replace(failure, cause=None)), now
        )


@bug(FAMILY)
def callers_not_told_of_unknown_instances(planter: Planter) -> None:
    """An instance that calls one that is closed or unknown is not answered."""

    @planter.wrap(_RENDER, "make_settlement")
    def settle(original: Part, reply_to: client.ReplyTo, response: client.Response, *args: Any) -> Any:
        outgoing = original(reply_to, response, *args)
        if isinstance(response, client.WorkflowUnknown):
            # A client with this name does not exist.
            return Outgoing(topics.client(reply_to.client), outgoing.message)
        return outgoing


@bug(FAMILY)
def children_of_cancelled_parents_go_on(planter: Planter) -> None:
    """A parent that is cancelled or gives up a child does not cancel it."""

    @planter.wrap(_RENDER, "render_cancel")
    def cancel(original: Part, *args: Any) -> Any:
        return [each for each in original(*args) if not each.topic.name.startswith("workflow-")]


@bug(FAMILY)
def children_begun_with_the_cancellation_go_on(planter: Planter) -> None:
    """A child that was started in the activation that saw the cancellation is left alone."""
    activation = import_module("infinitic.runtime.state_engine.activation")

    @planter.wrap(activation, "decide")
    def decide(original: Part, *args: Any) -> Any:
        # The last one is the position at which the code has seen the cancellation.
        return original(*args[:-1], None)


@bug(FAMILY)
def requests_sent_again_with_new_ids(planter: Planter) -> None:
    """An outbox that is published twice starts a child twice."""
    numbers = count()

    @planter.wrap(_RENDER, "render_request")
    def request(original: Part, *args: Any) -> Any:
        made: list[Outgoing] = []
        for each in original(*args):
            message = each.message
            if b'"t":"start"' in message.body[:20]:
                key = f"{message.key}{next(numbers)}"
                message = Message(key, key, message.body)
            made.append(Outgoing(each.topic, message))
        return made


@bug(FAMILY)
def signals_to_instances_lose_their_place(planter: Planter) -> None:
    """All signals of an instance have one id, so others than the first are dropped as repeats."""

    @planter.wrap(_RENDER, "render_request")
    def request(original: Part, effect: Any, asked: Any, head: WorkflowHead, now: float) -> Any:
        if isinstance(asked, SignalRemote):
            return original(replace(effect, position=0), asked, head, now)
        return original(effect, asked, head, now)


@bug(FAMILY)
def holders_cancelled_with_attached_parents(planter: Planter) -> None:
    """A parent that has merely attached to the holder of a custom id cancels that."""

    @planter.wrap(tag_engine.WorkflowTagEngine, "_make_outgoing")
    async def make_outgoing(original: Part, self: Any, key: Any, delivery: Any, message: Any) -> Any:
        if isinstance(message, CancelUnique):
            found = await self._storage.tags.members(key, limit=1)
            message = replace(message, id=found[0]) if found else message
        return await original(self, key, delivery, message)


@bug(FAMILY)
def attached_parents_not_answered(planter: Planter) -> None:
    """A parent whose child is the holder of a custom id already waits for ever."""

    @planter.wrap(tag_engine, "start_unique")
    async def start_unique(original: Part, *args: Any) -> Any:
        return [each for each in await original(*args) if b'"t":"wait"' not in each.message.body[:20]]


@bug(FAMILY)
def children_have_the_id_of_another_position(planter: Planter) -> None:
    """Two children that are asked for one after the other get the same id."""

    @planter.wrap(_RENDER, "render_request")
    def request(original: Part, effect: Any, asked: Any, head: WorkflowHead, now: float) -> Any:
        made = original(effect, asked, head, now)
        if not isinstance(asked, StartChild) or asked.custom_id:
            return made
        same = ids.remote_id(head.id, head.run, effect.position // 2 * 2)
        *tags, start = made
        return [*tags, Outgoing(start.topic, Message(same, same, start.message.body))]


@bug(FAMILY, "children_told_early")
def impatient_messages_to_children(planter: Planter) -> None:
    """What a parent tells a child by its id is given up if the child has not started yet."""

    @planter.wrap(remote_messages, "_send")
    def send(original: Part, request: Any, *others: Any) -> Any:
        return original(replace(request, patient=False), *others)


@bug(FAMILY, "children_asked_for_again")
def new_children_attach_to_older_ones(planter: Planter) -> None:
    """A child that is asked for again attaches to the one before, which is being cancelled."""

    async def wait_for_older_child(*arguments: object) -> None:
        """Never wait."""

    planter.put(tag_engine, "wait_for_older_child", wait_for_older_child)


@bug(FAMILY, "children_asked_for_again")
def children_keep_their_first_id(planter: Planter) -> None:
    """A child that is asked for again shows the id of the first one."""
    planter.put_result(RemoteRequests, "note_reopened", None)
