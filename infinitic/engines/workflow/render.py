"""Makes messages of effects, with the events of the segments that they refer to.

The same function serves the transition that was just decided, and the worker that takes the
instance over and publishes its last outbox again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

from msgspec.structs import replace

from infinitic import ids, topics
from infinitic.engines.effects import (
    DIED,
    ActivateElsewhere,
    Answer,
    ArmWake,
    CancelSent,
    ClaimCustomId,
    Confirm,
    Defer,
    Effect,
    ProbeElsewhere,
    Refuse,
    Reject,
    RemoveMember,
    Reply,
    Respond,
    SendRemote,
    SendTask,
    Tag,
    Tell,
    TellCanceled,
    TellListeners,
    TellReopened,
)
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.announcing import render_events
from infinitic.engines.workflow.cancel import render_cancel
from infinitic.engines.workflow.remote_messages import make_settlement, render_reopened, render_request
from infinitic.engines.workflow.tags import describe_tags, find_started, render_claim, render_removal, render_tags
from infinitic.engines.workflow.task_tags import add_task_tags
from infinitic.errors import ExceptionDetail, PayloadTooLargeError, TaskFailure
from infinitic.failures import SMALLEST, fit
from infinitic.limits import CARRIED, MARGIN
from infinitic.messages import client, engine, executor, service
from infinitic.messages.commands import CancelMethod, CompleteMethod, FailMethod, Remote, ScheduleTask
from infinitic.messages.events import Abandoned, Activated, AttemptError, Event, RunStarted, Started, Stimulus
from infinitic.messages.outcomes import MethodFailure, fit_method
from infinitic.transport import Message, Outgoing

Segments = Mapping[int, Sequence[Event]]

ANSWERED = 4 * 1024 * 1024
"""After so many bytes of answers, clients are told to ask again: all are in memory at once."""
ANSWERED_A_SECOND = 16 * 1024 * 1024
"""They ask one after the other, so that so many bytes of answers are sent in a second."""

_ENDS = (CompleteMethod, FailMethod, CancelMethod, Abandoned)


def find_referenced_segments(effects: Iterable[Effect], until: int) -> set[int]:
    """Find the segments of history without which these effects cannot be rendered.

    Args:
        effects: what is to be rendered.
        until: the last sequence of interest. Later segments are in hand.

    Returns:
        Sequences of segments.
    """
    sequences: set[int] = set()
    for effect in effects:
        match effect:
            case SendTask():
                if effect.request <= until:
                    sequences.add(effect.request)
                if effect.failure and effect.failure <= until:
                    sequences.add(effect.failure)
            case Answer():
                if effect.ended <= until:
                    sequences.add(effect.ended)
            case CancelSent():
                blocks = (*effect.blocks, *effect.waiting)
                sequences |= {block.sequence for block in blocks if block.sequence <= until}
            case Tag() | ClaimCustomId():
                if effect.started <= until:
                    sequences.add(effect.started)
            case SendRemote(request=sequence):
                if sequence <= until:
                    sequences.add(sequence)
            case (
                ArmWake()
                | Confirm()
                | Refuse()
                | ActivateElsewhere()
                | TellCanceled()
                | Reject()
                | ProbeElsewhere()
                | TellReopened()
                | TellListeners()
            ):
                pass
            case _:
                assert_never(effect)
    return sequences


def render(
    effects: Sequence[Effect | Reply], head: WorkflowHead, segments: Segments, now: float, longest: int
) -> list[Outgoing]:
    """Make messages of effects, in the same order.

    The same effects give the same messages each time, with the same ids. So whoever receives one
    twice recognises it.

    Args:
        effects: what is to be sent.
        head: the instance, after the transition.
        segments: all that `find_referenced_segments` names, and the last one if it is of this
            transition.
        now: stamped on the messages; seconds since the Unix epoch.
        longest: bytes that a body may have. Failures are cut to fit; nothing else is.
    """
    requests: dict[int, dict[int, ScheduleTask]] = {}
    remotes: dict[int, dict[int, Remote]] = {}
    outgoing: list[Outgoing] = []
    answered = largest = 0
    for effect in effects:
        match effect:
            case SendTask():
                of_segment = requests.get(effect.request)
                if of_segment is None:
                    of_segment = requests[effect.request] = {}
                    for event in segments[effect.request]:
                        if type(event) is ScheduleTask:
                            of_segment[event.position] = event
                request = of_segment[effect.position]
                if request.tags and not effect.retry_index:
                    outgoing += add_task_tags(request, head, effect.retry_sequence, now)
                outgoing.append(_render_task(effect, request, head, segments, now, longest))
            case Answer(reply_to=to) if answered > ANSWERED and effect.method_id == head.id and not to.workflow:
                # The end of the first method is kept, so whoever waits for it can have it later.
                outgoing.append(make_response(to, client.AskAgain(to.request, answered / ANSWERED_A_SECOND)))
                answered += largest
            case Answer():
                answer = _render_answer(effect, segments[effect.ended], longest, now, head.epoch)
                outgoing.append(answer)
                size = len(answer.message.body)
                if size > largest:
                    largest = size
                answered += size
            case SendRemote():
                asked = remotes.get(effect.request)
                if asked is None:
                    asked = remotes[effect.request] = {
                        event.position: event for event in segments[effect.request] if isinstance(event, Remote)
                    }
                outgoing += render_request(effect, asked[effect.position], _of_run(head, effect.run), now)
            case Confirm(reply_to=to):
                outgoing.append(make_response(to, client.Applied(to.request, None if head.closed else head.stalled)))
            case Refuse(reply_to=to):
                outgoing.append(make_response(to, client.WorkflowUnknown(to.request), now))
            case Defer(reply_to=to, seconds=seconds):
                outgoing.append(make_response(to, client.AskAgain(to.request, seconds)))
            case Respond(reply_to=to, response=response):
                outgoing.append(make_response(to, response))
            case TellCanceled(reply_to=to):
                outgoing.append(make_response(to, client.MethodCanceled(to.request)))
            case Reject(reply_to=to, reason=reason):
                outgoing.append(make_response(to, client.Rejected(to.request, reason)))
            case Tell(reply_to=to, info=info):
                info = describe_tags(info, segments.get(find_started(head), ()))
                outgoing.append(make_response(to, client.Described(to.request, info)))
            case ArmWake(due=due):
                body = engine.encode(engine.Wake(made_at=now, due=due))
                message = Message(ids.wake_id(head.id), head.id, body, deliver_at=due)
                outgoing.append(Outgoing(topics.workflow_engine(head.name), message))
            case ActivateElsewhere():
                outgoing.append(_render_activation(effect, head, segments, longest))
            case TellReopened(reply_to=to):
                outgoing.append(render_reopened(to, head, now))
            case ProbeElsewhere():
                outgoing.append(_render_probe(head))
            case CancelSent():
                outgoing += render_cancel(effect, _of_run(head, effect.run), segments, now)
            case Tag():
                outgoing += render_tags(effect, head, segments[effect.started], now)
            case ClaimCustomId():
                outgoing.append(render_claim(effect, head, segments[effect.started], now))
            case TellListeners():
                outgoing += render_events(effect, effects, head, segments, now, longest)
            case RemoveMember():
                outgoing.append(render_removal(effect, head.name, head.id, now))
            case _:
                assert_never(effect)
    return outgoing


def _of_run(head: WorkflowHead, run: int | None) -> WorkflowHead:
    return head if run is None else replace(head, run=run)


def make_attempt(effect: SendTask, request: ScheduleTask, head: WorkflowHead, now: float) -> service.ExecuteTask:
    """Make an attempt of a task, without the failure of the one before.

    Args:
        effect: says which attempt it is.
        request: what the code asked for.
        head: the instance.
        now: seconds since the Unix epoch.
    """
    # Not more than 15 keywords: CPython passes more of them as a dict, which takes long.
    return service.ExecuteTask(
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
        tags=request.tags,
        meta=request.meta,
        made_at=now,
    )


def _render_task(
    effect: SendTask, request: ScheduleTask, head: WorkflowHead, segments: Segments, now: float, longest: int
) -> Outgoing:
    attempt = make_attempt(effect, request, head, now)
    if effect.doubt:
        attempt = replace(attempt, deaths=1) if effect.doubt == DIED else replace(attempt, asked=1)
    if effect.failure:
        # Attempts that ran as local tasks may have failed several times in one segment.
        failed = next(
            event
            for event in reversed(segments[effect.failure])
            if type(event) is AttemptError and event.position == effect.position
        )
        attempt = replace(attempt, last_failure=failed.failure, meta=failed.meta, last_heartbeat=failed.heartbeat)
    body = service.encode(attempt)
    if len(body) > longest and attempt.last_failure is not None:
        body = _encode_fitting(attempt, attempt.last_failure, request, longest)
    number = ids.attempt_id(head.id, effect.position, head.run, effect.retry_sequence, effect.retry_index)
    message = Message(ids.task_message_id(head.name, number), None, body)
    return Outgoing(topics.service_executor(request.service), message)


def _encode_fitting(attempt: service.ExecuteTask, failure: TaskFailure, request: ScheduleTask, longest: int) -> bytes:
    """Encode an attempt with as much of the failure before as there is room for.

    Executors see to it that their meta leaves room. If one did not, its meta is left out, and the
    failure says so.
    """
    alone = replace(attempt, last_failure=None)
    room = longest - len(service.encode(alone)) - len(',"f":')
    if room < SMALLEST:
        size = sum(map(len, attempt.meta.values()))
        note = f"{failure.exception.message[:500]} (its meta of {size:,} bytes is left out: there is no room for it)"
        alone = replace(alone, meta=request.meta)
        failure = replace(failure, exception=replace(failure.exception, message=note))
        room = max(longest - len(service.encode(alone)) - len(',"f":'), SMALLEST)
    return service.encode(replace(alone, last_failure=fit(failure, room)))


def _render_answer(effect: Answer, events: Sequence[Event], longest: int, now: float, epoch: int) -> Outgoing:
    to = effect.reply_to
    for event in events:
        # A class that does not match costs `match` ten times as much as this line.
        if event.__class__ not in _ENDS:
            continue
        match event:
            case CompleteMethod(method_id=effect.method_id):
                answer = make_response(to, client.MethodCompleted(to.request, event.value), now, epoch)
                if len(answer.message.body) > longest:
                    too_large = _describe_too_large(len(bytes(event.value)), longest)
                    return make_response(to, client.MethodFailed(to.request, too_large), now, epoch)
                return answer
            case FailMethod(method_id=effect.method_id):
                failure = fit_method(event.failure, max(longest - MARGIN, 4 * SMALLEST))
                return make_response(to, client.MethodFailed(to.request, failure), now, epoch)
            case CancelMethod(method_id=effect.method_id):
                return make_response(to, client.MethodCanceled(to.request), now, epoch)
            case Abandoned(reason=reason):
                return make_response(to, client.MethodTerminated(to.request, reason), now, epoch)
            case _:
                pass
    raise AssertionError(f"Segment {effect.ended} does not hold the end of method {effect.method_id}")


def _describe_too_large(size: int, longest: int) -> MethodFailure:
    """Describe a result that no message can carry: it was recorded under another limit."""
    message = f"The method returned, but its result of {size:,} bytes does not fit into a message of {longest:,} bytes"
    return MethodFailure(ExceptionDetail(f"{PayloadTooLargeError.__module__}.{PayloadTooLargeError.__name__}", message))


def _render_activation(effect: ActivateElsewhere, head: WorkflowHead, segments: Segments, longest: int) -> Outgoing:
    """Ask another worker to run an activation.

    The stimuli travel along if all of them came in this transition and are small. Otherwise that
    worker reads them from the storage.
    """
    stimuli: list[Stimulus] = []
    opened: Activated | None = None
    tags: tuple[str, ...] = ()
    custom_id = ""
    for event in segments.get(head.sequence, ()):
        if isinstance(event, Activated):
            if event.number == effect.activation:
                opened = event
                break
        elif isinstance(event, Stimulus):
            stimuli.append(event)
        elif isinstance(event, RunStarted):
            # What came before in this segment was for the run before.
            stimuli = []
        elif isinstance(event, Started):
            tags, custom_id = event.tags, event.custom_id
    activate = executor.Activate(
        activation=effect.activation,
        version=head.version,
        at=head.at if opened is None else opened.at,
        stimuli=tuple(stimuli),
        digest=head.digest,
        sequence=head.sequence,
        meta=head.meta,
        each=opened is not None and opened.each,
        epoch=head.epoch,
        tags=tags,
        undone=head.undone,
        custom_id=custom_id,
        run=head.run,
        base=head.base,
    )
    body: bytes | None = None
    if opened is not None and effect.pending == head.sequence and not head.skip:
        body = executor.encode(activate)
        if len(body) > min(CARRIED, longest):
            body = None
    if body is None:
        body = executor.encode(replace(activate, stimuli=(), first=effect.pending, skip=head.skip))
    number = ids.activation_id(head.id, effect.activation, head.epoch)
    return Outgoing(topics.workflow_executor(head.name), Message(number, head.id, body))


def _render_probe(head: WorkflowHead) -> Outgoing:
    asked = head.probe
    assert asked is not None
    activate = executor.Activate(
        activation=head.activation,
        version=head.version,
        at=head.at,
        sequence=head.sequence,
        meta=head.meta,
        epoch=head.epoch,
        undone=head.undone,
        run=head.run,
        base=head.base,
        probe=executor.ProbeRequest(asked.request_id, asked.reply_to, asked.tasks, asked.exact, asked.rerun),
    )
    # If nobody can decode it, this id tells the engine that the probe has failed.
    number = ids.activation_id(head.id, head.activation, head.epoch)
    return Outgoing(topics.workflow_executor(head.name), Message(number, head.id, executor.encode(activate)))


def make_response(
    reply_to: client.ReplyTo, response: client.Response, made_at: float = 0.0, epoch: int = 0
) -> Outgoing:
    """Make the message with a response to one requester.

    Args:
        reply_to: the requester. If it is an instance, it gets the response as an input.
        response: what it is told.
        made_at: when that was found, in seconds since the Unix epoch. Only an instance is told so.
        epoch: that of the instance that answers. Only an instance is told so.
    """
    if reply_to.workflow:
        return make_settlement(reply_to, response, made_at, epoch)
    return Outgoing(topics.client(reply_to.client), Message(reply_to.request, None, client.encode(response)))
