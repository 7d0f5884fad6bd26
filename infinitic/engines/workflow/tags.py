"""Tags and custom id of an instance: what its engine tells the tag engine, and when.

Tags are in the history, in the event `Started`, and not in the head: they are needed at the start
and at the end only. Each change has a version, of which the highest wins. So the tag engine may get
these messages late, twice and in any order (S31).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from msgspec import Raw
from msgspec.structs import replace

from infinitic import topics
from infinitic.engines.effects import ClaimCustomId, Effect, RemoveMember, Tag
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.input_result import InputResult
from infinitic.ids import claimed_id
from infinitic.messages import engine as inputs
from infinitic.messages.client import WorkflowInfo
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.events import Event, Started
from infinitic.messages.partial_reading import read_unique_start
from infinitic.messages.tags import (
    REMOVED_AS_UNKNOWN,
    AddTag,
    ClaimAgain,
    RemoveTag,
    encode,
    make_custom_id_key,
    make_tag_key,
    version_added,
    version_freed,
    version_removed,
)
from infinitic.transport import Message, Outgoing

Reopening = inputs.RetryTasks | inputs.RetryWorkflowTask | inputs.ChildReopened
"""What re-opens a closed instance, which claims its custom id again before that."""


def note_start(message: inputs.Start) -> tuple[Event, ...]:
    """Make the event that keeps tags and custom id; no event if there are none."""
    if not message.tags and not message.custom_id:
        return ()
    return (Started(message.made_at, message.tags, message.custom_id),)


def find_started(head: WorkflowHead) -> int:
    """Find the sequence of the segment with the `Started` of an instance; 0 if there is none."""
    return head.base or 1 if head.tagged or head.unique else 0


def add_tags(head: WorkflowHead) -> tuple[Effect, ...]:
    """Tell the tag engine that an instance runs. It may have been told by the client already."""
    return (Tag(find_started(head), head.epoch, True),) if head.tagged else ()


def remove_tags(head: WorkflowHead) -> tuple[Effect, ...]:
    """Tell the tag engine that an instance has closed. Nothing is told if it has no tags."""
    started = find_started(head)
    return (Tag(started, head.epoch, False),) if started else ()


def refuse_by_tag(head: WorkflowHead | None, message: inputs.Input) -> tuple[RemoveMember, ...]:
    """Take an instance off a tag by which a message has found it, since it does not run.

    Args:
        head: its tombstone; None: there is none.
        message: what came for it.
    """
    tag: str = getattr(message, "by_tag", "")
    if not tag:
        return ()
    return (RemoveMember(tag, REMOVED_AS_UNKNOWN if head is None else version_removed(head.epoch)),)


def free_claim(message: inputs.Input) -> tuple[RemoveMember, ...]:
    """Free the custom id that was claimed for an instance which is gone by now.

    Otherwise it would be held for ever.
    """
    if not isinstance(message, Reopening) or message.refused or not message.custom_id:
        return ()
    return (RemoveMember(message.custom_id, version_freed(message.claimed), unique=True),)


def free_custom_ids(workflow: str, messages: Iterable[Message], now: float) -> list[Outgoing]:
    """Free the custom ids of starts that become dead letters, since there are no such instances.

    Otherwise they would be held for ever. If the dead letter is replayed, it is claimed anew.

    Args:
        workflow: the name of the workflow.
        messages: they are for instances that do not exist.
        now: seconds since the Unix epoch.
    """
    freed: list[Outgoing] = []
    for message in messages:
        start = read_unique_start(message.body)
        if start is not None and message.key:
            body = encode(RemoveTag(made_at=now, id=message.key, version=version_freed(start.epoch)))
            key = make_custom_id_key(start.custom_id)
            freed.append(Outgoing(topics.workflow_tag(workflow), Message(message.key, key, body)))
    return freed


def free_claims(workflow: str, messages: Iterable[Message], now: float) -> list[Outgoing]:
    """Free the custom ids of closed instances whose re-openings become dead letters.

    Otherwise they would be held for ever. If the dead letter is replayed, it is claimed anew.

    Args:
        workflow: the name of the workflow.
        messages: they are for instances that are closed.
        now: seconds since the Unix epoch.
    """
    freed: list[Outgoing] = []
    for message in messages:
        with suppress(UndecodableMessage):
            request = inputs.decode(message.body)
            if isinstance(request, Reopening) and request.claimed and request.custom_id and not request.refused:
                removal = RemoveMember(request.custom_id, version_freed(request.claimed), unique=True)
                freed.append(render_removal(removal, workflow, message.key or "", now))
    return freed


def forget_claim(body: bytes) -> bytes:
    """Have a re-opening that was a dead letter claim the custom id anew. Other inputs stay."""
    try:
        request = inputs.decode(body)
    except UndecodableMessage:
        return body
    if not isinstance(request, Reopening) or not request.claimed:
        return body
    return inputs.encode(replace(request, claimed=0, refused="", custom_id=""))


def read_started(events: Iterable[Event]) -> Started | None:
    """Read the `Started` of a segment; None if it has none."""
    return next((event for event in events if isinstance(event, Started)), None)


def render_tags(effect: Tag, head: WorkflowHead, events: Iterable[Event], now: float) -> list[Outgoing]:
    """Make the messages of a `Tag`, one for each tag, and one for the custom id.

    Args:
        effect: what is to be sent.
        head: the instance.
        events: the segment that has its `Started`.
        now: stamped on removals; seconds since the Unix epoch. A tag counts from the start, or from
            the re-opening: the start may be older than the deduplication window by then.
    """
    started = read_started(events)
    assert started is not None, f"Segment {effect.started} does not hold the tags of {head.id}"
    added_at = started.at if effect.epoch == 0 else now
    messages: list[tuple[str, bytes]] = []
    for tag in started.tags:
        if effect.live:
            body = encode(AddTag(made_at=added_at, id=head.id, version=version_added(effect.epoch)))
        else:
            body = encode(RemoveTag(made_at=now, id=head.id, version=version_removed(effect.epoch)))
        messages.append((make_tag_key(tag), body))
    if started.custom_id and not effect.live:
        body = encode(RemoveTag(made_at=now, id=head.id, version=version_freed(effect.epoch)))
        messages.append((make_custom_id_key(started.custom_id), body))
    topic = topics.workflow_tag(head.name)
    return [Outgoing(topic, Message(head.id, key, body)) for key, body in messages]


def claim_again(head: WorkflowHead, message: Reopening) -> InputResult:
    """Have the custom id of a closed instance claimed, before the request can re-open it (S34).

    The request comes back with another id, since this one is stored: a repeat of it claims nothing.
    """
    claimed = replace(message, request_id=claimed_id(message.request_id), claimed=head.epoch + 1)
    effect = ClaimCustomId(find_started(head), inputs.encode(claimed))
    # A copy: otherwise nothing would be written.
    return InputResult(replace(head), outbox=(effect,), deduplication_id=message.request_id)


def give_up_claim(head: WorkflowHead) -> tuple[WorkflowHead, tuple[Effect, ...]]:
    """Free the custom id of a closed instance that is not re-opened after all.

    Whatever was claimed for it is of an older epoch then.
    """
    if head.closed_at is None or not head.unique:
        return head, ()
    head = replace(head, epoch=head.epoch + 1)
    return head, remove_tags(head)


def render_claim(effect: ClaimCustomId, head: WorkflowHead, events: Iterable[Event], now: float) -> Outgoing:
    """Make the message that claims the custom id of a closed instance again.

    Args:
        effect: what is to be sent.
        head: the instance.
        events: the segment that has its `Started`.
        now: when it is claimed, in seconds since the Unix epoch.
    """
    started = read_started(events)
    assert started is not None, f"Segment {effect.started} does not hold the custom id of {head.id}"
    request = inputs.decode(effect.request)
    assert isinstance(request, Reopening), request
    reply_to = None if isinstance(request, inputs.ChildReopened) else request.reply_to
    claim = ClaimAgain(made_at=now, id=head.id, epoch=request.claimed, input=Raw(effect.request), reply_to=reply_to)
    key = make_custom_id_key(started.custom_id)
    return Outgoing(topics.workflow_tag(head.name), Message(request.request_id, key, encode(claim)))


def describe_tags(info: WorkflowInfo, events: Iterable[Event]) -> WorkflowInfo:
    """Add tags and custom id to what is known of an instance.

    Args:
        info: what its head tells.
        events: the segment that has its `Started`; none if it has no tags and no custom id.
    """
    started = read_started(events)
    return info if started is None else replace(info, tags=started.tags, custom_id=started.custom_id)


def render_removal(removal: RemoveMember, workflow: str, workflow_id: str, now: float) -> Outgoing:
    """Make the message that takes an instance off a tag."""
    body = encode(RemoveTag(made_at=now, id=workflow_id, version=removal.version))
    key = make_custom_id_key(removal.tag) if removal.unique else make_tag_key(removal.tag)
    return Outgoing(topics.workflow_tag(workflow), Message(workflow_id, key, body))
