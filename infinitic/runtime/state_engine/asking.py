"""The end of deciding: what clients ask of the code, by `@query` methods, once the step is closed.

The code has seen all inputs of the step by then. So an answer tells what is true once the step is
committed, and it is sent only then. A query that cannot be answered in this step stays in its lane.

Nothing of this is stored. What a crash here does: nothing. The queries come again, and are answered
once more.
"""

from __future__ import annotations

from msgspec import Raw
from msgspec.structs import replace

from infinitic import topics
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.queries import describe_stall
from infinitic.engines.workflow.render import make_response
from infinitic.errors import ExceptionDetail, NonDeterminismError, PayloadTooLargeError, WorkflowCodeError
from infinitic.failures import describe, fit, qualified_name
from infinitic.messages import client, engine, executor
from infinitic.replay.queries import LONGEST_FAILURE, QueryError
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.closing import DecidedStep
from infinitic.runtime.state_engine.takeover import revive
from infinitic.storage import StateStorage
from infinitic.transport import Delivery, Message, Outgoing

BEHIND = "infinitic-behind"
"""The header of a query that has to wait: the last segment that was there when it came."""
LATER_SECONDS = 0.05
"""After so long it comes again."""


async def answer_queries(
    step: DecidedStep, spec: WorkflowSpec | None, states: StateStorage, now: float, longest: int, *, undone: bool
) -> DecidedStep:
    """Answer the queries of a step that is closed.

    Args:
        step: the step, without answers to its queries.
        spec: the code of the instance; None if it is on another worker.
        states: where the history is read if the instance has no live object here.
        now: seconds since the Unix epoch.
        longest: how many bytes the body of a message may have.
        undone: whether the activation of this step was taken back, so that the code has not seen
            the inputs.

    Returns:
        The step with the answers, and with the deliveries of the queries that are answered.

    Raises:
        DamagedState: the history is damaged.
        PayloadUnavailable: a payload codec is away.
    """
    head = None if step.transition is None else step.transition.head
    if head is None or undone:
        return step
    answered: list[Delivery] = []
    answers: list[Outgoing] = []
    for delivery, query in step.inputs.questions:
        response: client.Response
        if head.stalled is not None:
            response = _fail(query, describe_stall(head.stalled))
        elif head.deciding or spec is None or (head.pending and head.probe is not None):
            # Nothing runs here until another worker has told. What it tells comes behind the query.
            answers.append(_ask_elsewhere(delivery.message, query, head, now))
            answered.append(delivery)
            continue
        elif head.pending:
            break
        elif step.instance.live is None and step.change is not None and (step.draft.events or _was_deciding(step)):
            # What this step commits is not in the history yet, so a replay would answer without it.
            # The next step makes the object again.
            break
        else:
            response = await _ask(step.instance, query, spec, states, head)
        answers.append(_make_answer(query, response, longest))
        answered.append(delivery)
    if not answered:
        return step
    return replace(
        step,
        inputs=replace(step.inputs, deliveries=[*step.inputs.deliveries, *answered]),
        outgoing=[*step.outgoing, *answers],
        bytes=step.bytes + sum(len(each.message.body) for each in answers),
    )


def _was_deciding(step: DecidedStep) -> bool:
    """True if the step takes the decision of another worker, which may have asked for nothing."""
    before = step.instance.head
    return before is not None and before.deciding != 0


def _ask_elsewhere(message: Message, query: engine.AskQuery, head: WorkflowHead, now: float) -> Outgoing:
    """Pass a query on to another worker, behind the activation that runs there.

    If inputs wait for the next activation, the query comes again when that runs. Later inputs do
    not make it wait any longer.
    """
    known = message.headers.get(BEHIND, "")
    behind = int(known) if known.isdecimal() and len(known) < 16 else head.sequence
    if 0 < head.pending <= behind:
        headers = {**message.headers, BEHIND: str(behind)}
        copy = Message(message.id, message.key, message.body, headers, now + LATER_SECONDS)
        return Outgoing(topics.workflow_engine(head.name), copy)
    ask = executor.Ask(
        query=query.query,
        arguments=query.arguments,
        reply_to=query.reply_to,
        activation=head.activation,
        epoch=head.epoch,
        version=head.version,
        digest=None if head.deciding else head.digest,
        sequence=behind,
        run=head.run,
    )
    return Outgoing(
        topics.workflow_executor(head.name),
        Message(f"{head.id}/ask/{query.reply_to.request}", head.id, executor.encode(ask)),
    )


async def _ask(
    instance: CachedInstance, query: engine.AskQuery, spec: WorkflowSpec, states: StateStorage, head: WorkflowHead
) -> client.Response:
    if instance.live is None:
        try:
            await revive(instance, spec, states)
        except (NonDeterminismError, WorkflowCodeError) as fault:
            return _fail(query, describe(fault))
    assert instance.live is not None
    try:
        value = instance.live.query(query.query, query.arguments)
    except QueryError as error:
        if error.is_broken:
            instance.discard_live()
        return _fail(query, error.failure)
    return client.Queried(query.reply_to.request, Raw(value), head.activation, head.run)


def _make_answer(query: engine.AskQuery, response: client.Response, longest: int) -> Outgoing:
    answer = make_response(query.reply_to, response)
    size = len(answer.message.body)
    if size <= longest:
        return answer
    reason = f"The answer of {size:,} bytes does not fit into a message of {longest:,} bytes"
    return make_response(query.reply_to, _fail(query, ExceptionDetail(qualified_name(PayloadTooLargeError), reason)))


def _fail(query: engine.AskQuery, failure: ExceptionDetail) -> client.QueryFailed:
    return client.QueryFailed(query.reply_to.request, fit(failure, LONGEST_FAILURE))
