"""Rules about queries: an answer is what the history tells, and is not older than its question."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.state import WorkflowHead
from infinitic.errors import InfiniticError, PayloadUnavailable
from infinitic.messages import client, engine, events
from infinitic.messages.events import Event
from infinitic.messages.executor import Ask
from infinitic.replay.history import Replay
from infinitic.replay.instance import Instance
from infinitic.replay.undone import find_undone
from infinitic.storage import MAX_LIMIT
from infinitic.storage.integrity import check_segment
from infinitic_testing.invariants.book import RunBook
from infinitic_testing.invariants.traffic import Copies, Sent, SentRequest


def check_answer(book: RunBook, answer: client.Queried, request: SentRequest | None) -> None:
    """Check the answer that a client is told.

    Args:
        book: what is known of the run.
        answer: the answer.
        request: that of the client; None: it has sent none.
    """
    if request is None or not isinstance(request.asked, engine.AskQuery):
        book.judge("query-same", f"nobody has asked for {answer}")
        return
    key, instance = request.key, book.instances.get(request.key)
    if instance is None:
        book.judge("query-same", f"{answer} is the answer of an instance that is not in the storage", key)
        return
    history = [
        (segment.sequence, events.decode(check_segment(key, segment).events))
        for segment in book.database.history(key, limit=MAX_LIMIT)
    ]
    if not history or (instance.head.first and answer.run < instance.head.run):
        return  # purged
    seen, unseen = _cut(history, answer.run, answer.activation)
    book.judge("query-fresh", _find_stale(unseen, request.sequence), key)
    head = instance.head
    spec = None if head.version is None else book.specs(head.name).get(head.version)
    if spec is not None:
        difference = _find_difference(head, spec, seen, request.asked, answer)
        reopened = [index for index, event in enumerate(seen) if isinstance(event, events.Reopened)]
        if difference is not None and reopened:
            # It may have been given before the instance was re-opened, which is no activation.
            earlier = _find_difference(head, spec, seen[: reopened[-1]], request.asked, answer)
            difference = None if earlier is None else difference
        book.judge("query-same", difference, key)


def _cut(history: Sequence[tuple[int, Sequence[Event]]], run: int, activation: int) -> tuple[list[Event], list[int]]:
    """The events to the end of an activation, and the segments of stimuli that it has not seen."""
    found: list[Event] = []
    waiting, handed, current = list[int](), list[int](), 0
    for sequence, happened in history:
        for event in happened:
            if isinstance(event, events.RunStarted):
                if current == run:
                    return found, waiting
                found, waiting, handed, current = [], [], [], event.run
            elif isinstance(event, events.Activated):
                if current == run and event.number > activation:
                    return found, waiting
                handed, waiting = waiting, []
            elif isinstance(event, events.Partial):
                waiting = [*handed[event.handed :], *waiting]
            elif isinstance(event, events.Stimulus):
                waiting.append(sequence)
            found.append(event)
    return found, waiting


def _find_stale(unseen: Sequence[int], sequence: int) -> str | None:
    if unseen and unseen[0] <= sequence:
        return f"a query was sent at segment {sequence}, and its answer does not know what came in segment {unseen[0]}"
    return None


def _find_difference(
    head: WorkflowHead, spec: WorkflowSpec, seen: Sequence[Event], asked: engine.AskQuery, answer: client.Queried
) -> str | None:
    live = Instance(spec, head.id, head.meta, answer.run)
    try:
        replay = Replay(live, find_undone(seen))
        replay.feed(seen)
        replay.finish(unanswered=False)
        value, given = live.query(asked.query, asked.arguments), bytes(answer.value)
        if spec.coder is not None:
            # Encryption never gives the same twice.
            value, given = spec.coder.decode(value), spec.coder.decode(given)
    except PayloadUnavailable:
        # The codec is away: this answer cannot be checked.
        return None
    except InfiniticError as error:
        return f"query {asked.query} is answered {bytes(answer.value)!r:.200}, and a replay raises: {error}"
    finally:
        live.close()
    if value != given:
        return f"query {asked.query} is answered {given!r:.200}, and a replay answers {value!r:.200}"
    return None


def check_question_kept(ask: Ask, copies: Copies, sent: Sent) -> str | None:
    """The answer to a question is published, or another copy of the question is left."""
    if copies.left > 0 or ask.reply_to in sent.told:
        return None
    return f"question {ask.query} is acknowledged, its answer is not published, and no copy is left"
