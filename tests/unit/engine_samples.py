"""Heads and inputs for tests of the engine, and `taken`, which also checks that `take` is pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw
from msgspec.structs import replace

from infinitic.engines import state, timers
from infinitic.engines.positions import open_block
from infinitic.engines.state import Method, TimerKind, WorkflowHead
from infinitic.engines.timers import Timer
from infinitic.engines.workflow import InputResult, take
from infinitic.errors import ExceptionDetail, TaskFailure
from infinitic.messages import engine as inputs
from infinitic.messages.client import ReplyTo
from infinitic.messages.commands import ScheduleTask
from infinitic.messages.delegated import CompleteTask, FailTask, TaskDelegated
from infinitic.messages.engine import Input
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage import StateKey

KEY = StateKey("Trip", "t1")
NOW = 1_000_000.0
WINDOW = 1000.0
ME = ReplyTo("client", "7")
FAILURE = TaskFailure(ExceptionDetail("builtins.ValueError", "no"))
VALUE = Raw(b"1")

RUNNING = WorkflowHead(
    schema=state.SCHEMA,
    id="t1",
    name="Trip",
    started_at=NOW - 50.0,
    methods=(Method("t1", "book", (ReplyTo("other", "1"),)),),
    version=0,
    open=(open_block(1, [0, 1, 3]),),
    timers=timers.add((), [Timer(NOW + 10.0, 2), Timer(NOW + 20.0, 3, TimerKind.TIMEOUT)]),
    armed=NOW + 10.0,
    activation=1,
    position=4,
    sequence=1,
)
ENDED = replace(RUNNING, methods=(Method("t1", "book", (), WorkflowStatus.COMPLETED, 5),), sequence=5)
CLOSED = replace(
    ENDED, open=(), timers=(), armed=None, status=WorkflowStatus.COMPLETED, closed_at=NOW - 1.0, retention=3600.0
)
DECIDING = replace(RUNNING, activation=2, deciding=2, sequence=2)

START = inputs.Start(made_at=NOW, method="book", arguments=Raw(b"[]"), reply_to=ME, meta={"k": b"v"})
CALL = inputs.CallMethod(made_at=NOW, method_id="m2", method="change", arguments=Raw(b"[2]"), reply_to=ME)
SIGNAL = inputs.Signal(made_at=NOW, signal_id="s1", channel="go", value=VALUE, reply_to=ME)
COMPLETED = inputs.TaskCompleted(made_at=NOW, position=1, value=VALUE)
FAILED = inputs.TaskFailed(made_at=NOW, position=1, failure=FAILURE)
ATTEMPT = inputs.AttemptFailed(made_at=NOW, position=1, failure=FAILURE, delay=5.0, sequence=1, meta={"n": b"1"})
WAKE = inputs.Wake(made_at=NOW, due=NOW + 10.0)
CANCEL = inputs.Cancel(made_at=NOW, request_id="c1", reply_to=ME)
WAIT = inputs.Wait(made_at=NOW, reply_to=ME)
DESCRIBE = inputs.Describe(made_at=NOW, reply_to=ME)
RETRY = inputs.RetryWorkflowTask(made_at=NOW, request_id="r1", reply_to=ME)
DECISION = inputs.Decision(
    made_at=NOW, activation=2, digest="d", commands=(ScheduleTask(4, "Flights", "book", Raw(b"[]")),)
)
RETRY_TASKS = inputs.RetryTasks(made_at=NOW, request_id="r2", reply_to=ME)
REOPENED = inputs.ChildReopened(made_at=NOW, request_id="r3", position=1, epoch=1)
PROBED = inputs.Probed(made_at=NOW, request_id="r2", reply_to=ME, tasks=(1,))
UNPARK = inputs.Unpark(made_at=NOW, request_id="u1", reply_to=ME)
QUERY = inputs.AskQuery(made_at=NOW, query="balance", arguments=Raw(b"[]"), reply_to=ME)
ASKED = inputs.Asked(made_at=NOW, activation=1, reply_to=ME, value=VALUE)
COMPLETE = inputs.CompleteTimers(made_at=NOW, request_id="o1", reply_to=ME)
DELETE = inputs.Delete(made_at=NOW, request_id="l1", reply_to=ME)
TERMINATE = inputs.Terminate(made_at=NOW, request_id="e1", reply_to=ME, reason="no longer needed")
SETTLED = inputs.RemoteSettled(made_at=NOW, position=1, value=VALUE)
CANCEL_TASK = inputs.CancelTask(made_at=NOW, request_id="k1", position=3, by="client")
TASK_DELEGATED = TaskDelegated(made_at=NOW, position=1)
COMPLETE_TASK = CompleteTask(made_at=NOW, request_id="d1", reply_to=ME, position=1, value=VALUE)
FAIL_TASK = FailTask(made_at=NOW, request_id="d2", reply_to=ME, position=1, failure=FAILURE)
ALL: list[Input] = [
    START,
    CALL,
    SIGNAL,
    COMPLETED,
    FAILED,
    ATTEMPT,
    WAKE,
    CANCEL,
    WAIT,
    DESCRIBE,
    RETRY,
    DECISION,
    UNPARK,
    QUERY,
    ASKED,
    TERMINATE,
    SETTLED,
    COMPLETE,
    RETRY_TASKS,
    PROBED,
    REOPENED,
    CANCEL_TASK,
    TASK_DELEGATED,
    COMPLETE_TASK,
    FAIL_TASK,
    DELETE,
]


def taken(
    head: WorkflowHead | None, message: Input, now: float = NOW, headers: Mapping[str, str] | None = None
) -> InputResult:
    """Take it, and prove that nothing but the arguments decides."""
    before = None if head is None else state.encode(head)
    result = take(head, KEY, message, now, WINDOW, headers or {})
    assert take(head, KEY, message, now, WINDOW, headers or {}) == result
    assert before is None or (head is not None and state.encode(head) == before)
    return result


def changed(result: InputResult) -> WorkflowHead:
    assert result.head is not None
    return result.head
