"""The rule about inputs that came before their start, when acknowledgements come in any order."""

from __future__ import annotations

import pytest

from infinitic.engines.workflow.take import WAIT_SECONDS, WAITS
from infinitic.messages import engine
from infinitic.transport import Message
from infinitic_testing.invariants.ack_rules import check_input_taken
from infinitic_testing.invariants.traffic import Copies, Sent

CANCEL = engine.Cancel(made_at=0.0, request_id="c")


@pytest.mark.parametrize("most", [len(WAIT_SECONDS), len(WAIT_SECONDS) - 1])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_copy_must_have_waited_for_the_start(order: tuple[int, int], most: int) -> None:
    messages = [Message("c", "w", b"", {WAITS: str(waits)}) for waits in (2, most)]
    copies, found = Copies(), list[str | None]()
    copies.published = 2
    for index in order:
        copies.settled.add(float(index))
        found.append(check_input_taken(CANCEL, messages[index], None, copies, Sent(), lambda _: False))
    first, last = found
    assert first is None
    assert (last is None) == (most == len(WAIT_SECONDS))
