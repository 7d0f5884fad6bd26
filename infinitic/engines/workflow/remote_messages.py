"""The messages between instances: what one asks of another, and the answers.

An instance that asks is a *requester*, as a client is. The ids of its requests derive from its
positions, so a repeat is recognised wherever it arrives.
"""

from __future__ import annotations

from infinitic import ids, topics
from infinitic.engines.effects import SendRemote
from infinitic.engines.state import WorkflowHead
from infinitic.messages import client, engine as inputs
from infinitic.messages.client import ReplyTo
from infinitic.messages.commands import CallRemote, Remote, SignalRemote, StartChild
from infinitic.messages.engine import Input, RemoteSettled
from infinitic.messages.outcomes import MethodFailure, RemoteStatus, WorkflowStatus
from infinitic.transport import Message, Outgoing


def render_request(effect: SendRemote, request: Remote, head: WorkflowHead, now: float) -> Outgoing:
    """Make the message with which an instance asks something of another one.

    Args:
        effect: what is to be sent.
        request: what the code asked for, out of the history.
        head: the instance that asks.
        now: stamped on the message; seconds since the Unix epoch.
    """
    remote_id = ids.remote_id(head.id, head.run, effect.position, effect.retry_sequence)
    reply_to = make_requester(head, effect.position, effect.retry_sequence)
    workflow_id: str
    message: Input
    match request:
        case StartChild():
            workflow_id = remote_id
            message = inputs.Start(
                made_at=now,
                method=request.method,
                arguments=request.arguments,
                reply_to=reply_to,
                meta=request.meta,
                by=head.id,
            )
        case CallRemote():
            workflow_id = request.workflow_id
            message = inputs.CallMethod(
                made_at=now,
                method_id=remote_id,
                method=request.method,
                arguments=request.arguments,
                reply_to=reply_to,
                meta=request.meta,
                by=head.id,
            )
        case SignalRemote():
            workflow_id = request.workflow_id
            message = inputs.Signal(
                made_at=now,
                signal_id=remote_id,
                channel=request.channel,
                value=request.value,
                meta=request.meta,
                by=head.id,
            )
    return _address_to(request.workflow, workflow_id, remote_id, message)


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
        return _address(reply_to, completed)
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
    return _address(reply_to, settled)


def _address(reply_to: ReplyTo, settled: RemoteSettled) -> Outgoing:
    message_id = ids.settlement_id(reply_to.client, reply_to.request)
    return _address_to(reply_to.workflow, reply_to.client, message_id, settled)


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
    workflow_id = remote_id
    message: Input = inputs.Cancel(made_at=now, request_id=request_id)
    if isinstance(request, CallRemote):
        workflow_id = request.workflow_id
        message = inputs.Cancel(made_at=now, request_id=request_id, method_id=remote_id)
    elif head.status is WorkflowStatus.TERMINATED:
        reason = f"Its parent {head.name} {head.id} was terminated"
        message = inputs.Terminate(made_at=now, request_id=request_id, reason=reason)
    return _address_to(request.workflow, workflow_id, request_id, message)


def _address_to(workflow: str, workflow_id: str, message_id: str, message: Input) -> Outgoing:
    return Outgoing(topics.workflow_engine(workflow), Message(message_id, workflow_id, inputs.encode(message)))
