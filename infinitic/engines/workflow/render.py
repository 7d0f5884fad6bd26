"""Effects become messages: with the events of the segments that they refer to, and nothing else.

The same function serves the transition that was just committed and the successor that republishes the last outbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

import msgspec

from infinitic import ids, topics
from infinitic.engines.effects import (
    ActivateElsewhere,
    Answer,
    ArmWake,
    Confirm,
    Effect,
    Refuse,
    SendTask,
    Tell,
)
from infinitic.engines.state import WorkflowHead
from infinitic.messages import client, engine, executor, service
from infinitic.messages.commands import CancelMethod, CompleteMethod, FailMethod, ScheduleTask
from infinitic.messages.events import Activated, AttemptFailed, Event, Stimulus
from infinitic.topics import Topic
from infinitic.transport import Message

Segments = Mapping[int, Sequence[Event]]


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message, and where it goes."""

    topic: Topic
    message: Message


def needed(effects: Iterable[Effect], until: int) -> set[int]:
    """The sequences of the segments, up to `until`, without which these effects cannot be rendered."""
    sequences: set[int] = set()
    for effect in effects:
        match effect:
            case SendTask():
                if effect.request <= until:
                    sequences.add(effect.request)
                if 0 < effect.failure <= until:
                    sequences.add(effect.failure)
            case Answer():
                if effect.ended <= until:
                    sequences.add(effect.ended)
            case ActivateElsewhere():
                sequences.update(range(effect.pending, until + 1))
            case ArmWake() | Confirm() | Refuse():
                pass
            case _:
                assert_never(effect)
    return sequences


def render(effects: Iterable[Effect | Tell], head: WorkflowHead, segments: Segments, now: float) -> list[Outgoing]:
    """Messages for effects, in order. `segments` holds all that `needed` names; `now` is stamped on them."""
    requests: dict[int, dict[int, ScheduleTask]] = {}
    outgoing: list[Outgoing] = []
    for effect in effects:
        match effect:
            case SendTask():
                of_segment = requests.get(effect.request)
                if of_segment is None:
                    events = segments[effect.request]
                    of_segment = {event.position: event for event in events if type(event) is ScheduleTask}
                    requests[effect.request] = of_segment
                outgoing.append(_task(effect, of_segment[effect.position], head, segments, now))
            case Answer():
                outgoing.append(_answer(effect, segments[effect.ended]))
            case Confirm(reply_to=to):
                outgoing.append(to_client(to, client.Applied(to.request, head.stalled)))
            case Refuse(reply_to=to):
                outgoing.append(to_client(to, client.WorkflowUnknown(to.request)))
            case Tell(reply_to=to, info=info):
                outgoing.append(to_client(to, client.Described(to.request, info)))
            case ArmWake(due=due):
                body = engine.encode(engine.Wake(made_at=now, due=due))
                message = Message(f"{head.id}/wake", head.id, body, deliver_at=due)
                outgoing.append(Outgoing(topics.workflow_engine(head.name), message))
            case ActivateElsewhere():
                outgoing.append(_activate(effect, head, segments))
            case _:
                assert_never(effect)
    return outgoing


def _task(effect: SendTask, request: ScheduleTask, head: WorkflowHead, segments: Segments, now: float) -> Outgoing:
    last_failure, meta = None, request.meta
    if effect.failure:
        failed = next(
            event
            for event in segments[effect.failure]
            if type(event) is AttemptFailed and event.position == effect.position
        )
        last_failure, meta = failed.failure, failed.meta
    body = service.encode(
        service.ExecuteTask(
            workflow_id=head.id,
            workflow_name=head.name,
            workflow_version=head.version or 0,
            position=effect.position,
            run=head.run,
            sequence=effect.request,
            service=request.service,
            task=request.task,
            arguments=request.arguments,
            retry_sequence=effect.retry_sequence,
            retry_index=effect.retry_index,
            last_failure=last_failure,
            tags=request.tags,
            meta=meta,
            made_at=now,
        )
    )
    task_id = ids.task_id(head.id, head.run, effect.position)
    return Outgoing(topics.service_executor(request.service), Message(task_id, None, body))


def _answer(effect: Answer, events: Sequence[Event]) -> Outgoing:
    to = effect.reply_to
    for event in events:
        match event:
            case CompleteMethod(method_id=effect.method_id):
                return to_client(to, client.MethodCompleted(to.request, event.value))
            case FailMethod(method_id=effect.method_id):
                return to_client(to, client.MethodFailed(to.request, event.failure))
            case CancelMethod(method_id=effect.method_id):
                return to_client(to, client.MethodCanceled(to.request))
            case _:
                pass
    raise AssertionError(f"Segment {effect.ended} does not hold the end of method {effect.method_id}")


def _activate(effect: ActivateElsewhere, head: WorkflowHead, segments: Segments) -> Outgoing:
    stimuli: list[Stimulus] = []
    opened: Activated | None = None
    for sequence in range(effect.pending, head.sequence + 1):
        for event in segments[sequence]:
            if isinstance(event, Activated):
                if event.number == effect.activation:
                    opened = event
                    break
                stimuli.clear()
            elif isinstance(event, Stimulus):
                stimuli.append(event)
        if opened is not None:
            break
    if opened is None:
        raise AssertionError(f"The history of {head.id} does not hold activation {effect.activation}")
    body = executor.encode(
        executor.Activate(
            activation=effect.activation,
            version=head.version,
            at=opened.at,
            stimuli=tuple(stimuli),
            digest=head.digest,
            sequence=head.sequence,
            meta=head.meta,
            each=opened.each,
            epoch=head.epoch,
        )
    )
    message = Message(f"{head.id}/{effect.activation}", head.id, body)
    return Outgoing(topics.workflow_executor(head.name), message)


def to_client(reply_to: client.ReplyTo, response: client.Response) -> Outgoing:
    """A response to one client."""
    return Outgoing(topics.client(reply_to.client), Message(reply_to.request, None, client.encode(response)))
