"""Which answers of code on another worker are forwarded to the client that asked."""

from __future__ import annotations

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import topics
from infinitic.engines.effects import Postpone, Refuse, Respond
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.take import WAITS
from infinitic.errors import ExceptionDetail
from infinitic.messages import engine as inputs
from infinitic.messages.client import AskAgain, Queried, QueryFailed, Response, decode
from infinitic.runtime.state_engine.questions import answer_questions
from infinitic.transport import Delivery, Message
from tests.unit.engine_samples import ASKED, CLOSED, DECIDING, ENDED, ME, QUERY, RUNNING, VALUE, taken

DECIDED = replace(RUNNING, digest="d")
LIVE = replace(ASKED, digest="d")
STALLED = replace(RUNNING, stalled="no such luck")


def answer(head: WorkflowHead | None, message: inputs.Asked) -> Response:
    result = taken(head, message)
    assert result.head is head
    assert not result.events
    assert not result.outbox
    (reply,) = result.replies
    assert isinstance(reply, Respond)
    assert reply.reply_to == ME
    return reply.response


@pytest.mark.parametrize("head", [RUNNING, ENDED, CLOSED, DECIDING])
def test_an_answer_from_the_history_is_forwarded(head: WorkflowHead) -> None:
    assert answer(head, ASKED) == Queried(ME.request, VALUE, 1)
    failure = ExceptionDetail("builtins.ValueError", "no")
    assert answer(head, replace(ASKED, failure=failure)) == QueryFailed(ME.request, failure)


def test_an_answer_of_live_code_counts_if_its_decision_was_the_last_that_was_taken() -> None:
    assert answer(DECIDED, LIVE) == Queried(ME.request, VALUE, 1)
    assert answer(replace(DECIDED, closed_at=5.0), LIVE) == Queried(ME.request, VALUE, 1)
    # The next activation runs already.
    assert answer(replace(DECIDING, digest="d"), LIVE) == Queried(ME.request, VALUE, 1)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (DECIDED, replace(LIVE, digest="other")),
        (DECIDED, replace(LIVE, epoch=1)),
        (replace(DECIDED, epoch=1), LIVE),
        (DECIDED, replace(LIVE, activation=2)),
        (replace(DECIDED, activation=2), LIVE),
        # Its decision has not come yet.
        (replace(DECIDING, digest="d"), replace(LIVE, activation=2)),
        (DECIDED, inputs.Asked(made_at=1.0, activation=1, reply_to=ME)),
    ],
    ids=["other decision", "later epoch", "older epoch", "later", "older", "undecided", "no answer"],
)
def test_otherwise_the_client_asks_again(head: WorkflowHead, message: inputs.Asked) -> None:
    assert answer(head, message) == AskAgain(ME.request, 0.0)


def test_of_a_stalled_instance_the_client_is_told_why() -> None:
    response = answer(STALLED, inputs.Asked(made_at=1.0, activation=1, reply_to=ME))
    assert isinstance(response, QueryFailed)
    assert "stalled: no such luck" in response.failure.message


def test_without_an_instance_the_client_is_told_so() -> None:
    assert taken(None, ASKED).replies == (Refuse(ME),)


@pytest.mark.parametrize("head", [RUNNING, ENDED, CLOSED, DECIDING, STALLED])
def test_a_query_changes_nothing(head: WorkflowHead) -> None:
    result = taken(head, QUERY)
    assert (result.head, result.question, result.replies, result.events) == (head, QUERY, (), ())


def test_a_query_may_overtake_the_start() -> None:
    assert isinstance(taken(None, QUERY).handling, Postpone)
    assert taken(None, QUERY, headers={WAITS: "7"}).replies == (Refuse(ME),)


def test_the_value_of_an_answer_is_passed_on_as_it_is() -> None:
    response = answer(RUNNING, replace(ASKED, value=Raw(b'{"a": [1,2]}')))
    assert isinstance(response, Queried)
    assert bytes(response.value) == b'{"a": [1,2]}'


def test_who_asked_before_the_instance_was_parked_is_told_and_does_not_wait() -> None:
    """The answer of the other worker comes when the instance takes nothing any more."""
    delivery = Delivery(Message("t1", "t1", inputs.encode(ASKED)), 1, 0.0)
    (told,) = answer_questions("Trip", [delivery], replace(RUNNING, parked=True)).values()
    response = decode(told.message.body)
    assert isinstance(response, QueryFailed)
    assert (response.request, told.topic) == (ME.request, topics.client(ME.client))
