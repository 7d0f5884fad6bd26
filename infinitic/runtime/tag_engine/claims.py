"""Starts at most one instance of a custom id at a time (S32).

The claim is stored before anything is sent. So whoever repeats it after a crash, or finds a
duplicate of any age, is told the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from infinitic import topics
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON
from infinitic.messages import client, engine
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.tags import AddTag, ClaimAgain, Reclaim, StartUnique, encode, make_tag_key, version_claimed
from infinitic.runtime.tag_engine.forwarding import attach
from infinitic.runtime.tag_engine.refusals import HeldByAnother
from infinitic.storage import TagKey, TagStorage
from infinitic.transport import Message, Outgoing


async def start_unique(
    storage: TagStorage, key: TagKey, message: StartUnique, headers: Mapping[str, str]
) -> list[Outgoing]:
    """Claim the custom id for an instance, and start it if it has got it.

    Args:
        storage: where the holders are.
        key: the custom id.
        message: who wants it, and how it is to be started.
        headers: those of the start, if it is sent.

    Returns:
        The tags and the start of the instance, if it holds the custom id now. In any case the
        answer to whoever asked: the id of the holder.

    Raises:
        UndecodableMessage: it is no start with this custom id.
    """
    start = _read_start(key, message)
    claim = await storage.claim(key, message.id, version_claimed(0), message.made_at)
    outgoing: list[Outgoing] = []
    if claim.granted:
        outgoing += _send_start(key.name, message.id, start, headers)
    to = message.reply_to
    if to is not None and to.workflow:
        if not claim.granted:
            outgoing.append(attach(key.name, claim.id, to, message.made_at))
    elif to is not None:
        answer = client.encode(client.UniqueStarted(to.request, claim.id))
        outgoing.append(Outgoing(topics.client(to.client), Message(to.request, None, answer)))
    return outgoing


async def reclaim(storage: TagStorage, key: TagKey, message: Reclaim, headers: Mapping[str, str]) -> list[Outgoing]:
    """Start an instance whose start was a dead letter, if it holds the custom id, or gets it again.

    Args:
        storage: where the holders are.
        key: the custom id.
        message: who wants it, and how it is to be started.
        headers: those of the start, if it is sent.

    Raises:
        HeldByAnother: another instance has got it meanwhile.
        UndecodableMessage: it is no start with this custom id.
    """
    start = _read_start(key, message)
    # If it closes in this epoch, it frees the custom id, whichever claim it has got it by.
    start = replace(start, epoch=start.epoch + 1)
    if await storage.members(key, limit=1) == [message.id]:
        # The letter was one of an instance that runs, and nobody has freed its custom id. Or this
        # is a repeat, and the one before has claimed it.
        return _send_start(key.name, message.id, start, headers)
    claim = await storage.claim(key, message.id, version_claimed(start.epoch), message.made_at)
    if not claim.granted:
        raise HeldByAnother(key.tag, None if claim.id == message.id else claim.id)
    return _send_start(key.name, message.id, start, headers)


async def claim_again(storage: TagStorage, key: TagKey, message: ClaimAgain) -> list[Outgoing]:
    """Claim the custom id of a closed instance, and send back the request to re-open it.

    The request says if another instance has the custom id.

    Args:
        storage: where the holders are.
        key: the custom id.
        message: who wants it, and what it gets then.

    Raises:
        UndecodableMessage: what it gets re-opens nothing.
    """
    request = engine.decode(bytes(message.input))
    if not isinstance(request, engine.RetryTasks | engine.RetryWorkflowTask | engine.ChildReopened):
        raise UndecodableMessage("This re-opens nothing")
    claim = await storage.claim(key, message.id, version_claimed(message.epoch), message.made_at)
    if not claim.granted:
        # The instance stores that it was refused: a repeat must not be obeyed later.
        who = "it was re-opened meanwhile" if claim.id == message.id else f"the instance {claim.id} has it by now"
        reason = f"had the custom id {key.tag!r}, and {who}: it is not re-opened"
        body = engine.encode(replace(request, refused=reason))
    else:
        # If the instance is gone, its engine frees the custom id again.
        body = engine.encode(replace(request, custom_id=key.tag))
    return [Outgoing(topics.workflow_engine(key.name), Message(message.id, message.id, body))]


def _read_start(key: TagKey, message: StartUnique | Reclaim) -> engine.Start:
    start = engine.decode(bytes(message.start))
    if not isinstance(start, engine.Start) or start.custom_id != key.tag:
        raise UndecodableMessage("This is no start of an instance with this custom id")
    return start


def _send_start(workflow: str, workflow_id: str, start: engine.Start, headers: Mapping[str, str]) -> list[Outgoing]:
    topic = topics.workflow_tag(workflow)
    added = encode(AddTag(made_at=start.made_at, id=workflow_id))
    outgoing = [Outgoing(topic, Message(workflow_id, make_tag_key(tag), added)) for tag in start.tags]
    body = engine.encode(start)
    outgoing.append(Outgoing(topics.workflow_engine(workflow), Message(workflow_id, workflow_id, body, headers)))
    return outgoing


def give_back(key: TagKey, message: ClaimAgain, why: str) -> list[Outgoing]:
    """Send the request to re-open an instance back, since its claim became a dead letter.

    The instance frees the custom id, which may be claimed already, and tells the operator.

    Args:
        key: the custom id.
        message: the claim.
        why: why it is a dead letter.

    Returns:
        Nothing if nobody can read the request.
    """
    try:
        request = engine.decode(bytes(message.input))
    except UndecodableMessage:
        return []
    if not isinstance(request, engine.RetryTasks | engine.RetryWorkflowTask | engine.ChildReopened):
        return []
    reason = fit_text(f"had the custom id {key.tag!r}, which could not be claimed again: {why}", STALL_REASON)
    body = engine.encode(replace(request, refused=reason))
    return [Outgoing(topics.workflow_engine(key.name), Message(message.id, message.id, body))]
