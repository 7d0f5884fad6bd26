"""The messages between instances: what one asks of another, and the answers.

An instance that asks is a *requester*, as a client is. The ids of its requests derive from its
positions, so a repeat is recognised wherever it arrives.
"""

from __future__ import annotations

from msgspec import Raw

from infinitic import ids, topics
from infinitic.engines.effects import SendRemote
from infinitic.engines.state import WorkflowHead
from infinitic.messages import client, engine as inputs, tags
from infinitic.messages.client import ReplyTo
from infinitic.messages.commands import CallRemote, Remote, SignalRemote, StartChild
from infinitic.messages.engine import ChildReopened, Input, RemoteSettled
from infinitic.messages.outcomes import MethodFailure, RemoteStatus, WorkflowStatus
from infinitic.transport import Message, Outgoing

PATIENT = "infinitic-patient"
"""The header of a message for an instance that is known to be started.

If it is not there yet, the message waits longer: its start may be far behind, since it went another
way or was sent by a worker that has died.
"""
_PATIENT = {PATIENT: "1"}


def render_request(effect: SendRemote, request: Remote, head: WorkflowHead, now: float) -> list[Outgoing]:
    """Make the messages with which an instance asks something of another one.

    Args:
        effect: what is to be sent.
        request: what the code asked for, out of the history.
        head: the instance that asks.
        now: stamped on the messages; seconds since the Unix epoch.
    """
    remote_id = ids.remote_id(head.id, head.run, effect.position, effect.retry_sequence)
    reply_to = make_requester(head, effect.position, effect.retry_sequence)
    match request:
        case StartChild():
            return _start_child(request, remote_id, reply_to, head, now)
        case CallRemote():
            call = inputs.CallMethod(
                made_at=now,
                method_id=remote_id,
                method=request.method,
                arguments=request.arguments,
                reply_to=reply_to,
                meta=request.meta,
                by=head.id,
            )
            return [_send(request, remote_id, call, reply_to, now)]
        case SignalRemote():
            signal = inputs.Signal(
                made_at=now,
                signal_id=remote_id,
                channel=request.channel,
                value=request.value,
                meta=request.meta,
                by=head.id,
                by_tag=request.tag,
            )
            if not request.tag:
                return [_send(request, remote_id, signal, None, now)]
            by_tag = tags.ByTag(made_at=now, operation=remote_id, input=Raw(inputs.encode(signal)))
            return [_tell_tags(request.workflow, tags.make_tag_key(request.tag), remote_id, by_tag)]


def _start_child(child: StartChild, child_id: str, reply_to: ReplyTo, head: WorkflowHead, now: float) -> list[Outgoing]:
    start = inputs.Start(
        made_at=now,
        method=child.method,
        arguments=child.arguments,
        reply_to=reply_to,
        meta=child.meta,
        by=head.id,
        tags=child.tags,
        custom_id=child.custom_id,
    )
    if child.custom_id:
        unique = tags.StartUnique(made_at=now, id=child_id, start=Raw(inputs.encode(start)), reply_to=reply_to)
        return [_tell_tags(child.workflow, tags.make_custom_id_key(child.custom_id), child_id, unique)]
    added = tags.AddTag(made_at=now, id=child_id)
    outgoing = [_tell_tags(child.workflow, tags.make_tag_key(tag), child_id, added) for tag in child.tags]
    return [*outgoing, _address(child.workflow, child_id, child_id, start)]


def _send(
    request: CallRemote | SignalRemote, message_id: str, message: Input, reply_to: ReplyTo | None, now: float
) -> Outgoing:
    """Send something to an instance, or to the one that holds the custom id."""
    if request.workflow_id:
        send = send_patiently if request.patient else _address
        return send(request.workflow, request.workflow_id, message_id, message)
    body = Raw(inputs.encode(message))
    to_holder = tags.ToHolder(made_at=now, operation=message_id, input=body, reply_to=reply_to)
    return _tell_tags(request.workflow, tags.make_custom_id_key(request.custom_id), message_id, to_holder)


def make_requester(head: WorkflowHead, position: int, retry_sequence: int = 0) -> ReplyTo:
    """Make the requester that stands for an instance which waits at a position."""
    return ReplyTo(head.id, ids.remote_request(head.run, position, retry_sequence), head.name)


def make_settlement(reply_to: ReplyTo, response: client.Response, made_at: float, epoch: int) -> Outgoing:
    """Make the message that tells an instance what a client would be told by a response.

    Args:
        reply_to: the instance that waits.
        response: what has become of its request.
        made_at: when that was found, in seconds since the Unix epoch.
        epoch: that of the instance that answers.
    """
    run, position, retry_sequence = reply_to.place
    if isinstance(response, client.MethodCompleted):
        completed = RemoteSettled(
            made_at=made_at,
            position=position,
            run=run,
            retry_sequence=retry_sequence,
            epoch=epoch,
            value=response.value,
        )
        return _tell(reply_to, completed)
    reason = ""
    failure: MethodFailure | None = None
    match response:
        case client.MethodFailed():
            status, failure = RemoteStatus.FAILED, response.failure
        case client.MethodCanceled():
            status = RemoteStatus.CANCELED
        case client.MethodTerminated():
            status, reason = RemoteStatus.TERMINATED, response.reason
        case client.WorkflowUnknown():
            reason = response.reason
            status = RemoteStatus.REFUSED if reason else RemoteStatus.UNKNOWN
        case _:
            raise AssertionError(f"An instance never asks for {response}")
    settled = RemoteSettled(
        made_at=made_at,
        position=position,
        run=run,
        retry_sequence=retry_sequence,
        epoch=epoch,
        status=status,
        failure=failure,
        reason=reason,
    )
    return _tell(reply_to, settled)


def _tell(reply_to: ReplyTo, settled: RemoteSettled) -> Outgoing:
    message_id = ids.settlement_id(reply_to.client, reply_to.request)
    return _address(reply_to.workflow, reply_to.client, message_id, settled)


def render_reopened(reply_to: ReplyTo, head: WorkflowHead, now: float) -> Outgoing:
    """Make the message that tells an instance that what it waited for runs again.

    Args:
        reply_to: the instance that waited.
        head: the instance that runs again.
        now: stamped on the message; seconds since the Unix epoch.
    """
    run, position, retry_sequence = reply_to.place
    message_id = ids.reopened_id(head.id, head.epoch, reply_to.request)
    reopened = ChildReopened(
        made_at=now,
        request_id=message_id,
        position=position,
        run=run,
        retry_sequence=retry_sequence,
        epoch=head.epoch,
    )
    return _address(reply_to.workflow, reply_to.client, message_id, reopened)


def render_cancel_request(
    request: StartChild | CallRemote, retry_sequence: int, head: WorkflowHead, now: float
) -> Outgoing:
    """Make the message that cancels a child, or the method that was called.

    It follows the start or the call on the same key. A child of an instance that is terminated is
    terminated, too.

    Args:
        request: what the code asked for.
        retry_sequence: how often an operator asked for it again.
        head: the instance that asked, after the transition.
        now: stamped on the message; seconds since the Unix epoch.
    """
    remote_id = ids.remote_id(head.id, head.run, request.position, retry_sequence)
    request_id = ids.cancel_id(remote_id)
    if isinstance(request, CallRemote):
        cancel_method = inputs.Cancel(made_at=now, request_id=request_id, method_id=remote_id, by=head.id)
        return _send(request, request_id, cancel_method, None, now)
    message: Input = inputs.Cancel(made_at=now, request_id=request_id, by=head.id)
    if head.status is WorkflowStatus.TERMINATED:
        reason = f"Its parent {head.name} {head.id} was terminated"
        message = inputs.Terminate(made_at=now, request_id=request_id, reason=reason, by=head.id)
    if not request.custom_id:
        return send_patiently(request.workflow, remote_id, request_id, message)
    # It goes behind the start, the same way. An instance that the child merely attached to goes on.
    unique = tags.CancelUnique(made_at=now, id=remote_id, input=Raw(inputs.encode(message)))
    return _tell_tags(request.workflow, tags.make_custom_id_key(request.custom_id), request_id, unique)


def send_patiently(workflow: str, workflow_id: str, message_id: str, message: Input) -> Outgoing:
    """Make a message for an instance that is known to be started, but may not be there yet."""
    body = inputs.encode(message)
    return Outgoing(topics.workflow_engine(workflow), Message(message_id, workflow_id, body, _PATIENT))


def _address(workflow: str, workflow_id: str, message_id: str, message: Input) -> Outgoing:
    return Outgoing(topics.workflow_engine(workflow), Message(message_id, workflow_id, inputs.encode(message)))


def _tell_tags(workflow: str, key: str, message_id: str, message: tags.TagMessage) -> Outgoing:
    return Outgoing(topics.workflow_tag(workflow), Message(message_id, key, tags.encode(message)))
