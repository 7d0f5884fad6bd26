"""What an executor remembers of tasks that are cancelled (S6)."""

from __future__ import annotations

from infinitic.messages.control import CancelTasks
from infinitic.runtime.service_executor.in_hand import Remembered
from infinitic_testing.loop import VirtualClock, run


def test_S13_a_repeat_of_an_older_cancellation_takes_nothing_back() -> None:
    async def scenario() -> None:
        remembered = Remembered(VirtualClock())
        older = CancelTasks(workflow_id="t1", tasks=((4, 0),))
        remembered.add_cancelled(older)
        assert not remembered.is_done(("t1", 4, 0, 1, 0)), "it was asked for again later"
        remembered.add_cancelled(CancelTasks(workflow_id="t1", tasks=((4, 1),)))
        remembered.add_cancelled(older)
        assert remembered.is_done(("t1", 4, 0, 1, 0))
        assert not remembered.is_done(("t1", 4, 0, 2, 0))

    run(scenario())
