"""What an instance gets in place of the answer of another one that cannot be used (S38)."""

from __future__ import annotations

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import ids
from infinitic.engines.state import Retry, WorkflowHead
from infinitic.engines.workflow import InputResult
from infinitic.messages import engine as inputs, events
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.outcomes import RemoteStatus
from infinitic.runtime.state_engine.oversize import drop_large_results
from infinitic.runtime.state_engine.unusable import replace_unusable
from tests.unit.engine_samples import CLOSED, KEY, NOW, RUNNING, WINDOW, taken

WHY = UndecodableMessage("This is no input of an instance: it is cut")
PARENT = replace(RUNNING, run=2)


def replaced(head: WorkflowHead, message_id: str) -> tuple[WorkflowHead, list[events.Event]]:
    after, happened, _ = replace_unusable(head, KEY, message_id, WHY, NOW, WINDOW)
    return after, list(happened)


def test_an_answer_that_cannot_be_decoded_settles_what_waits_for_it() -> None:
    answer = ids.settlement_id("t1", ids.remote_request(2, 1, 0))
    after, [event] = replaced(PARENT, answer)
    assert isinstance(event, events.RemoteError)
    assert (event.position, event.status) == (1, RemoteStatus.REFUSED)
    assert "went to the dead letters" in event.reason
    assert "it is cut" in event.reason
    assert replaced(after, answer) == (after, []), "a repeat changes nothing"


@pytest.mark.parametrize(
    "message_id",
    [
        ids.settlement_id("t1", ids.remote_request(1, 1, 0)),
        ids.settlement_id("t1", ids.remote_request(2, 7, 0)),
        ids.settlement_id("t2", ids.remote_request(2, 1, 0)),
        "t1/settled/2/1",
    ],
    ids=["another run", "nothing open", "another instance", "no answer"],
)
def test_what_nobody_waits_for_changes_nothing(message_id: str) -> None:
    assert replaced(PARENT, message_id) == (PARENT, [])
    assert replaced(replace(CLOSED, run=2), message_id) == (replace(CLOSED, run=2), [])


def test_an_answer_to_an_older_request_changes_nothing() -> None:
    again = replace(PARENT, retries=(Retry(1, 1, 0, 1, 0, None),))
    assert replaced(again, ids.settlement_id("t1", ids.remote_request(2, 1, 0))) == (again, [])


def test_a_result_that_is_too_large_for_the_storage_becomes_a_failure() -> None:
    """S42."""
    settled = inputs.RemoteSettled(made_at=NOW, position=1, run=2, value=Raw(b'"%s"' % (b"x" * 100)))
    dropped: InputResult = drop_large_results(taken(PARENT, settled), 1000, 500, NOW)
    [event] = dropped.events
    assert isinstance(event, events.RemoteError)
    assert event.status is RemoteStatus.FAILED
    assert event.failure is not None
    assert "1,000 bytes, is above the limit of the storage of 500 bytes" in event.failure.exception.message
