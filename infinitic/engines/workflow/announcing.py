"""What a transition tells event listeners: a pure function of its segment and its outbox.

`announce` adds the effect `TellListeners` to the outbox of a transition. So whoever takes an
instance over tells them again, with the same ids. `render_events` makes the messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from infinitic import ids, topics
from infinitic.engines.effects import Effect, Reply, SendTask, TellListeners
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.listener_events import describe_transition
from infinitic.engines.workflow.transition import Transition
from infinitic.failures import fit_text
from infinitic.messages import events
from infinitic.messages.cloud_events import (
    TEXT_BYTES,
    EventData,
    EventType,
    encode_event,
    format_time,
    join_pieces,
    make_service_source,
    make_workflow_source,
)
from infinitic.messages.commands import ScheduleTask
from infinitic.messages.events import Event
from infinitic.topics import Topic
from infinitic.transport import Message, Outgoing


def announce(before: WorkflowHead | None, transition: Transition, *, ran: int | None) -> Transition:
    """Have a transition tell event listeners what it does; nothing if it does nothing to tell.

    Args:
        before: the head before; None if the instance is new.
        transition: what `conclude` has made.
        ran: the activation whose commands it holds; None: it holds none.
    """
    head = transition.head
    if head is before:
        return transition
    was_open = before is None or before.closed_at is None
    ended = head.status if was_open and head.closed_at is not None else None
    retried = _is_retried(before, transition)
    was_stalled = before is not None and before.stalled is not None and not retried
    stalled = head.stalled is not None and not was_stalled
    reason = fit_text(head.stalled or "", TEXT_BYTES) if stalled else ""
    if not transition.events and ended is None and not retried and not stalled and ran is None:
        return transition
    tell = TellListeners(
        run=0 if before is None else before.run,
        ran=None if stalled else ran,
        retried=retried,
        stalled=reason if stalled else None,
        ended=ended,
    )
    sequence = 0 if before is None else before.sequence
    if head.sequence == sequence:
        head = replace(head, sequence=sequence + 1)
    return replace(transition, head=head, outbox=[*transition.outbox, tell])


def _is_retried(before: WorkflowHead | None, transition: Transition) -> bool:
    """True if a stalled instance was told to run again: nothing in the history says so."""
    head = transition.head
    if before is None or before.stalled is None or head.epoch == before.epoch or head.closed_at is not None:
        return False
    return not any(isinstance(event, events.RunStarted | events.Reopened) for event in transition.events)


def render_events(
    tell: TellListeners,
    outbox: Sequence[Effect | Reply],
    head: WorkflowHead,
    segments: Mapping[int, Sequence[Event]],
    now: float,
    longest: int,
) -> list[Outgoing]:
    """Make the messages for event listeners. The same transition gives the same messages each time.

    Args:
        tell: what the history does not say.
        outbox: the other effects of the transition. Tasks that are sent are told to the listeners
            of their services.
        head: the instance, after the transition.
        segments: that of the transition, and those to which its effects refer.
        now: when the transition was made, in seconds since the Unix epoch.
        longest: bytes that a body may have.
    """
    time, count = format_time(now), 0
    source = make_workflow_source(head.name)
    encoded: list[bytes] = []
    for type, data in describe_transition(tell, head, segments):
        encoded.append(encode_event(f"{head.id}/{head.sequence}/{count}", source, type, head.id, time, data))
        count += 1
    by_service: dict[str, list[bytes]] = {}
    told = [(*each, tell.run) for each in _find_local(segments.get(head.sequence, ()))]
    told += [(*each, head.run) for each in _find_sent(outbox, segments)]
    for request, effect, run in told:
        data = EventData(
            workflow_name=head.name,
            workflow_id=head.id,
            workflow_version=head.version,
            run=run,
            service_name=request.service,
            task_name=request.task,
            task_id=ids.task_id(head.id, run, request.position),
            retry_sequence=effect.retry_sequence,
            retry_index=effect.retry_index,
            tags=request.tags,
        )
        event_id = f"{head.id}/{head.sequence}/{count}"
        by_service.setdefault(request.service, []).append(
            encode_event(
                event_id,
                make_service_source(request.service),
                EventType.TASK_DISPATCH,
                data.task_id,
                time,
                data,
            )
        )
        count += 1
    outgoing = _send(topics.workflow_events(head.name), head, encoded, longest)
    for service, sent in by_service.items():
        outgoing += _send(topics.service_events(service), head, sent, longest)
    return outgoing


def _send(topic: Topic, head: WorkflowHead, encoded: list[bytes], longest: int) -> list[Outgoing]:
    return [
        Outgoing(topic, Message(f"{head.id}/{head.sequence}/events/{number}", None, body))
        for number, body in enumerate(join_pieces(encoded, longest))
    ]


def _find_local(happened: Sequence[Event]) -> Iterator[tuple[ScheduleTask, SendTask]]:
    """Find the attempts that ran inside a transition: nothing of its outbox tells of them."""
    requests: dict[int, ScheduleTask] = {}
    failed = Counter[int]()
    for event in happened:
        if type(event) is ScheduleTask:
            requests[event.position] = event
        elif isinstance(event, events.TaskResult | events.TaskError | events.AttemptError) and event.local:
            position = event.position
            yield requests[position], SendTask(position, 0, retry_index=failed[position])
            failed[position] += 1


def _find_sent(
    outbox: Sequence[Effect | Reply], segments: Mapping[int, Sequence[Event]]
) -> Iterator[tuple[ScheduleTask, SendTask]]:
    """Find the requests of the attempts that are sent."""
    requests: dict[int, dict[int, ScheduleTask]] = {}
    for effect in outbox:
        if type(effect) is not SendTask:
            continue
        of_segment = requests.get(effect.request)
        if of_segment is None:
            of_segment = requests[effect.request] = {
                event.position: event for event in segments[effect.request] if type(event) is ScheduleTask
            }
        yield of_segment[effect.position], effect
