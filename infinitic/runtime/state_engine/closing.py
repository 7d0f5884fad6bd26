"""The last part of deciding: close the step, and make sure that all of it can be written and sent.

The whole outbox is rendered before the commit. So nothing is committed that cannot be sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import trunc

import msgspec
from msgspec.structs import replace

from infinitic.engines import effects, state
from infinitic.engines.effects import (
    Answer,
    CancelSent,
    Effect,
    Refuse,
    RemoveMember,
    SendRemote,
    SendTask,
    Tell,
    TellListeners,
)
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import Transition, conclude, make_closing_effects
from infinitic.engines.workflow.announcing import announce
from infinitic.engines.workflow.render import find_referenced_segments, make_response, render
from infinitic.engines.workflow.tags import free_custom_ids, remove_tags, render_removal
from infinitic.errors import PayloadTooLargeError
from infinitic.messages import client, events
from infinitic.messages.events import Event
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.runtime.lane import Lane
from infinitic.runtime.state_engine.activation import stall_draft
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.inputs import Draft, TakenInputs
from infinitic.runtime.state_engine.receiving import ReceivedStep
from infinitic.storage import Change, Segment, StateKey
from infinitic.transport import Outgoing

_FOR_OTHERS = (SendTask, CancelSent, SendRemote)
_NOT_AGAIN = (*_FOR_OTHERS, TellListeners)
"""What should not be sent again each time that the tombstone of an instance is loaded."""


class DecidedStep(msgspec.Struct, frozen=True, eq=False):
    """A step that is complete: what to write, and what to send then. Made by `close`.

    Attributes:
        lane: where its messages wait.
        instance: as it was before. It becomes what was decided when that is committed.
        current_for: see `ReceivedStep`.
        inputs: what was taken.
        draft: what came of it.
        transition: the same, closed; None: there is no such instance, and none is made.
        change: what to commit; None if nothing changes.
        outgoing: what to send once it is committed.
        bytes: how large all that is committed and sent is together.
    """

    lane: Lane
    instance: CachedInstance
    current_for: int
    inputs: TakenInputs
    draft: Draft
    transition: Transition | None
    change: Change | None
    outgoing: list[Outgoing]
    bytes: int

    @property
    def is_current(self) -> bool:
        """True if the head was loaded after all these inputs had come.

        One from memory may be an old one.
        """
        return len(self.inputs.deliveries) <= self.current_for

    @property
    def sends_tasks(self) -> bool:
        """True if something is in the outbox that is not only an answer to who asks again.

        That are tasks, requests to other instances, what stops them, and what listeners are told.
        """
        if self.transition is not None:
            for each in self.transition.outbox:  # a generator takes ten times as long
                if type(each) in _NOT_AGAIN:
                    return True
        return False


class Sizes(msgspec.Struct, frozen=True):
    """How large things may be, in bytes.

    Attributes:
        message: the body of a message.
        value: a head, the events of a segment, or an outbox, in the storage.
        any: the smaller of the two. If a whole step is no larger, nothing of it is too large.
    """

    message: int
    value: int
    any: int


def looks_back(draft: Draft) -> bool:
    """Whether something that is sent may refer to an older segment.

    What code cancels does: it was sent in an earlier step. So do the tags of an instance that ends.
    """
    head = draft.head
    if head is not None and (head.tagged or head.unique):
        return True
    for effect in draft.outbox:  # noqa: SIM110 (a generator takes ten times as long)
        if type(effect) is CancelSent:
            return True
    return False


def leave_running(draft: Draft) -> Draft:
    """Stop nothing of an instance that is terminated, since its history is damaged.

    Termination must be possible in any state. What was sent runs to its end, and nobody waits for
    that.

    Args:
        draft: it is returned as it is if the instance is not terminated.
    """
    if draft.head is None or draft.head.status is not WorkflowStatus.TERMINATED:
        return draft
    return replace(draft, outbox=[each for each in draft.outbox if not isinstance(each, _FOR_OTHERS)])


def find_missing(before: WorkflowHead | None, inputs: TakenInputs, draft: Draft) -> set[int]:
    """The sequences of the segments without which the messages of this draft cannot be made.

    Args:
        before: the head before this step; None if the instance is new.
        inputs: what was taken.
        draft: what came of it.
    """
    if draft.head is None:
        return set()
    sent: list[Effect] = [*draft.outbox]
    sent += [reply for reply in inputs.replies if isinstance(reply, Answer)]
    if before is not None and not before.closed:
        sent += make_closing_effects(draft.head)
    if any(isinstance(reply, Tell) for reply in inputs.replies):
        # They are told, too.
        sent += remove_tags(draft.head)
    # The draft may count the segment of this step already. That one is not missing.
    return find_referenced_segments(sent, 0 if before is None else before.sequence)


def close(
    received: ReceivedStep,
    inputs: TakenInputs,
    draft: Draft,
    segments: Mapping[int, Sequence[Event]],
    now: float,
    sizes: Sizes,
    *,
    activated: bool,
    tells: bool = False,
) -> DecidedStep:
    """Close a step.

    If it is too large, its activation is undone, because that is what makes it so. The inputs need
    not fit beside what the code asks for: they are written first, and handed over by the next step.
    If that does not help either, the instance stalls.

    Args:
        received: the instance as it was before, and its messages.
        inputs: what was taken.
        draft: what came of it.
        segments: the older segments that `find_missing` names.
        now: seconds since the Unix epoch.
        sizes: how large messages and values may be.
        activated: whether `draft` holds what code asked for, beyond the inputs.
        tells: whether event listeners are told.

    Raises:
        PayloadTooLargeError: no activation is to blame, or one of several inputs may be: they are
            to be tried one by one. Nothing may be committed.
    """
    step = _close(received, inputs, draft, segments, now, sizes.message, activated=activated, tells=tells)
    if step.bytes <= sizes.any:  # the usual case
        return step
    problem = _find_too_large(step, sizes)
    if problem is None:
        return step
    instance = received.instance
    waited = instance.head is not None and instance.head.pending != 0
    if not activated or (len(inputs.deliveries) > 1 and (inputs.decision is not None or waited)):
        raise PayloadTooLargeError(problem)
    if inputs.draft.events:
        instance.discard_live()
        draft = inputs.draft
    else:
        draft = stall_draft(instance, inputs.draft, PayloadTooLargeError(problem))
    step = _close(received, inputs, draft, segments, now, sizes.message, activated=False, tells=tells)
    problem = _find_too_large(step, sizes)
    if problem is not None:
        raise PayloadTooLargeError(problem)
    return step


def _close(
    received: ReceivedStep,
    inputs: TakenInputs,
    draft: Draft,
    segments: Mapping[int, Sequence[Event]],
    now: float,
    longest: int,
    *,
    activated: bool,
    tells: bool,
) -> DecidedStep:
    instance = received.instance
    head, before = draft.head, instance.head
    if head is None:
        outgoing = [*inputs.postponed, *_refuse(instance.key, inputs, now)]
        return DecidedStep(
            received.lane, instance, received.current_for, inputs, draft, None, None, outgoing, _size(outgoing)
        )
    transition = conclude(before, head, draft.events, draft.outbox, now)
    if tells:
        ran = None
        if activated:
            ran = before.activation if before is not None and before.deciding else transition.head.activation
        transition = announce(before, transition, ran=ran)
    new, outbox = transition.head, transition.outbox
    change = None
    size = 0
    if new is not before:
        data = state.encode(new)
        size = len(data)
        segment = None
        if before is None or new.sequence > before.sequence:
            segments = {**segments, new.sequence: transition.events} if segments else {new.sequence: transition.events}
            history = events.encode(transition.events)
            size += len(history)
            encoded = None
            if outbox:
                encoded = effects.encode(now, outbox)
                size += len(encoded)
            segment = Segment(new.sequence, history, encoded)
        change = _make_change(instance, transition, data, segment, inputs.deduplication_ids, now)
    outgoing = render(outbox, new, segments, now, longest) if outbox else []
    if inputs.replies:
        outgoing += render(inputs.replies, new, segments, now, longest)
    if inputs.postponed:
        outgoing = [*inputs.postponed, *outgoing]
    for each in outgoing:
        size += len(each.message.body)
    return DecidedStep(received.lane, instance, received.current_for, inputs, draft, transition, change, outgoing, size)


def _refuse(key: StateKey, inputs: TakenInputs, now: float) -> list[Outgoing]:
    """Tell those who ask, and the tag engine, that there is no such instance, and will be none."""
    outgoing: list[Outgoing] = []
    for reply in inputs.replies:
        if isinstance(reply, Refuse):
            outgoing.append(make_response(reply.reply_to, client.WorkflowUnknown(reply.reply_to.request), now))
        elif isinstance(reply, RemoveMember):
            outgoing.append(render_removal(reply, key.name, key.id, now))
    if inputs.dead_letters:
        messages = [delivery.message for delivery, _ in inputs.dead_letters]
        outgoing += free_custom_ids(key.name, messages, now)
    return outgoing


def _make_change(
    instance: CachedInstance,
    transition: Transition,
    head: bytes,
    segment: Segment | None,
    deduplication_ids: tuple[str, ...],
    now: float,
) -> Change:
    expected = instance.version
    version = trunc(now * 1_000_000)
    if expected is not None and version <= expected:
        version = expected + 1
    published = not transition.outbox
    first = transition.head.first
    if first and (instance.head is None or instance.head.first == first):
        first = 0
    return Change(
        instance.key,
        expected,
        version,
        head,
        now,
        segment,
        deduplication_ids,
        published,
        transition.entry,
        transition.expires_at,
        first,
    )


def _size(outgoing: Sequence[Outgoing]) -> int:
    return sum(len(each.message.body) for each in outgoing)


def _find_too_large(step: DecidedStep, sizes: Sizes) -> str | None:
    """What of this step is too large for broker or storage, with sizes; None if all of it fits."""
    longest, max_value = sizes.message, sizes.value
    # Copies of what came are as large as that was.
    for each in step.outgoing[len(step.inputs.postponed) :]:
        size = len(each.message.body)
        if size > longest:
            return f"A message of {size:,} bytes for {each.topic.name} is above the limit of {longest:,} bytes"
    if step.change is None:
        return None
    if len(step.change.head) > max_value:
        return _describe_excess("head", step.change.head, max_value)
    segment = step.change.segment
    if segment is not None:
        if len(segment.events) > max_value:
            return _describe_excess("segment", segment.events, max_value)
        if segment.outbox is not None and len(segment.outbox) > max_value:
            return _describe_excess("outbox", segment.outbox, max_value)
    return None


def _describe_excess(name: str, data: bytes, max_value: int) -> str:
    return f"A {name} of {len(data):,} bytes is above the limit of the storage of {max_value:,} bytes"
