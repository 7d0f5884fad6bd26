"""The first part of deciding: what the messages of a batch do to the head, before any code runs.

Nothing here changes the instance, but for one thing: a decision that comes from another worker
closes the live object, which did not make it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from infinitic import topics
from infinitic.engines.effects import ClaimFirst, Effect, Postpone, Reply, SendToDeadLetters
from infinitic.engines.state import WorkflowHead
from infinitic.engines.validate import InvalidInput
from infinitic.engines.workflow import take
from infinitic.engines.workflow.claimed_starts import render_claim_first
from infinitic.errors import InfiniticError
from infinitic.messages import engine as inputs
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.events import Event
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.oversize import drop_large_results, find_too_large
from infinitic.runtime.state_engine.unusable import replace_unusable
from infinitic.storage import StateKey
from infinitic.transport import Delivery, Message, Outgoing


class Draft(msgspec.Struct, frozen=True, eq=False):
    """What a step would write if it ended here.

    Each part of deciding makes the next draft of the one before.

    Attributes:
        head: the head; None: there is no such instance.
        events: of the segment of this step.
        outbox: what is sent once the step is committed.
        fault: why the code cannot be run, if that was found in this step.
    """

    head: WorkflowHead | None
    events: Sequence[Event]
    outbox: Sequence[Effect]
    fault: InfiniticError | None = None


class TakenInputs(msgspec.Struct, frozen=True, eq=False):
    """The inputs of one step. Made by `take_inputs`.

    Attributes:
        deliveries: those that this step settles, in order.
        decoded: those of them that are inputs, with their messages.
        draft: what came of the inputs alone, without any code.
        decision: the draft with what code on another worker has decided; None if no decision came.
        replies: answers that are sent but not stored, because they do not change the instance.
        deduplication_ids: the ids of the inputs, by which their repeats are recognised.
        dead_letters: deliveries that go to the dead letters, with the reason.
        postponed: copies of messages that come again later.
        early: seconds by which a wake came before its time.
        probe: the request that only a replay can answer; None if none came. It is then the only
            input of its step.
        looks_back: False only if nothing that is sent can refer to an older segment.
        questions: queries, with their deliveries. They are answered once the code has seen all
            inputs before them. What is not answered in this step stays in the lane.
    """

    deliveries: list[Delivery]
    decoded: list[tuple[Delivery, inputs.Input]]
    draft: Draft
    decision: Draft | None
    replies: tuple[Reply, ...]
    deduplication_ids: tuple[str, ...]
    dead_letters: tuple[tuple[Delivery, str], ...]
    postponed: tuple[Outgoing, ...]
    early: float
    probe: inputs.RetryTasks | inputs.RetryWorkflowTask | inputs.Probed | inputs.ChildReopened | None
    looks_back: bool
    questions: tuple[tuple[Delivery, inputs.AskQuery], ...] = ()


_ALONE: frozenset[type[inputs.Input]] = frozenset(
    (inputs.RetryTasks, inputs.RetryWorkflowTask, inputs.Probed, inputs.ChildReopened)
)
"""Inputs that cannot come after another one in the same step."""


def take_inputs(
    instance: CachedInstance, batch: Sequence[Delivery], now: float, window: float, largest: int
) -> TakenInputs:
    """Take the inputs of a batch, one after the other.

    An input that cannot be taken ends the batch: those before it are a step of their own. So does a
    decision, because the next activation begins behind it.

    Args:
        instance: whose inputs. It stays as it is.
        batch: one delivery or more, in order.
        now: seconds since the Unix epoch.
        window: the deduplication window, in seconds.
        largest: how many bytes of an input the storage can take.

    Raises:
        Exception: why the first input cannot be taken now.
    """
    head, key = instance.head, instance.key
    if len(batch) == 1:
        taken = _take_plain(head, key, batch[0], now, window, largest)
        if taken is not None:
            return taken
    happened: list[Event] = []
    outbox: list[Effect] = []
    deliveries: list[Delivery] = []
    decoded: list[tuple[Delivery, inputs.Input]] = []
    replies: tuple[Reply, ...] = ()
    known: tuple[str, ...] = ()
    dead: tuple[tuple[Delivery, str], ...] = ()
    postponed: tuple[Outgoing, ...] = ()
    questions: tuple[tuple[Delivery, inputs.AskQuery], ...] = ()
    early = 0.0
    before_decision: Draft | None = None
    probe: inputs.RetryTasks | inputs.RetryWorkflowTask | inputs.Probed | inputs.ChildReopened | None = None
    for delivery in batch:
        body = delivery.message.body
        try:
            message = inputs.decode(body)
            if deliveries and type(message) in _ALONE:
                break
            result = take(head, key, message, now, window, delivery.message.headers)
        except (UndecodableMessage, InvalidInput) as error:
            deliveries.append(delivery)
            dead = (*dead, (delivery, str(error)))
            if head is not None:
                head, instead, effects = replace_unusable(head, key, delivery.message.id, error, now, window)
                happened += instead
                outbox += effects
            continue
        except Exception:
            if not deliveries and not questions:
                raise
            break
        if happened and type(message) is inputs.CompleteTimers:
            # The code may set timers when it sees what came before. It runs first.
            break
        if result.question is not None:
            questions = (*questions, (delivery, result.question))
            if head is not None and head.pending and not deliveries:
                # It waits for what came before it, and must not wait for what comes after it, too.
                break
            continue
        deliveries.append(delivery)
        if len(body) > largest:
            reason = find_too_large(message, result, len(body), largest)
            if reason is not None:
                dead = (*dead, (delivery, reason))
                continue
            result = drop_large_results(result, len(body), largest, now)
        decoded.append((delivery, message))
        if result.deduplication_id is not None:
            if result.deduplication_id in known:
                continue
            known = (*known, result.deduplication_id)
        if type(message) is inputs.Decision and result.head is not head:
            before_decision = Draft(head, list(happened), list(outbox))
            instance.discard_live()
        head = result.head
        happened += result.events
        if result.outbox:
            outbox += result.outbox
        if result.replies:
            replies += result.replies
        if result.handling is not None:
            match result.handling:
                case Postpone() as postponement:
                    early = max(early, postponement.early)
                    postponed = (*postponed, _copy_for_later(key.name, delivery.message, postponement))
                case SendToDeadLetters(reason=reason):
                    dead = (*dead, (delivery, reason))
                case ClaimFirst() as claim:
                    assert isinstance(message, inputs.Start)
                    postponed = (*postponed, render_claim_first(claim, key.name, delivery.message, message))
        if before_decision is not None:
            break
        if result.probe is not None:
            probe = result.probe
            break
        if type(message) is inputs.Unpark and head is not None and head.parked:
            # It was too old: what follows is for a parked instance.
            break
    draft = Draft(head, happened, outbox)
    decision = None
    if before_decision is not None:
        draft, decision = before_decision, draft
    looks_back = bool(replies or outbox) or probe is not None
    return TakenInputs(
        deliveries, decoded, draft, decision, replies, known, dead, postponed, early, probe, looks_back, questions
    )


_PLAIN = (b'{"t":"task_completed"', b'{"t":"start"')
"""How the bodies of the usual inputs begin. They have no deduplication id, and ask nothing."""


def _take_plain(
    head: WorkflowHead | None, key: StateKey, delivery: Delivery, now: float, window: float, largest: int
) -> TakenInputs | None:
    """Take one input that only changes head, history and outbox: the usual case.

    Arguments are those of `take_inputs`.

    Returns:
        None if there may be more to it. Nothing has happened then.
    """
    sent = delivery.message
    body = sent.body
    if not body.startswith(_PLAIN) or len(body) > largest:
        return None
    try:
        message = inputs.decode(body)
        result = take(head, key, message, now, window, sent.headers)
    except Exception:  # noqa: BLE001 (it is taken once more, which raises the same)
        return None
    if result.handling is not None or result.replies or result.deduplication_id is not None:
        return None
    if result.probe is not None or result.question is not None:
        return None
    draft = Draft(result.head, result.events, result.outbox)
    looks_back = True if result.outbox else False  # noqa: SIM210 (`bool` takes three times as long)
    return TakenInputs([delivery], [(delivery, message)], draft, None, (), (), (), (), 0.0, None, looks_back)


def _copy_for_later(workflow: str, message: Message, how: Postpone) -> Outgoing:
    headers = {**message.headers, how.header: how.value}
    copy = Message(message.id, message.key, message.body, headers, how.at)
    return Outgoing(topics.workflow_engine(workflow), copy)


_START = b'{"t":"start"'


def put_start_first(batch: Sequence[Delivery], waiting: Iterable[Delivery]) -> Sequence[Delivery]:
    """Order a batch for an instance that does not exist: a start comes first.

    A signal that has overtaken the start of its instance need not wait for it in the broker then.

    Args:
        batch: what was to be taken.
        waiting: all that waits, with the batch.
    """
    first = next((each for each in waiting if each.message.body.startswith(_START)), None)
    if first is None or batch[0] is first:
        return batch
    return [first, *(each for each in batch if each is not first)]
