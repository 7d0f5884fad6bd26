"""One sample of every message, event, command and effect.

`python -m tests.golden.samples` writes them to a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from infinitic.engines import effects, state
from infinitic.errors import ExceptionDetail, TaskFailure
from infinitic.messages import (
    attempts,
    client,
    commands,
    control,
    delegated,
    engine,
    events,
    executor,
    service,
    tags,
    task_tags,
)
from infinitic.messages.outcomes import Cause, CauseKind, MethodFailure, RemoteStatus, WorkflowStatus
from infinitic.storage import Change, Segment, StateKey
from infinitic.storage.integrity import add_checksums
from tests.golden import told

RELEASE = "0.3"
"""Add new samples at the end of each list. The others are compared with files of old releases."""

DETAIL = ExceptionDetail("shop.SoldOut", "no room", "Traceback", ExceptionDetail("ValueError", "x"), {"rooms": 0})
FAILURE = TaskFailure(DETAIL, "w1", 2, 1, 1.5, TaskFailure(ExceptionDetail("ValueError", "y")))
BROKEN = MethodFailure(DETAIL, Cause(CauseKind.TASK_FAILED, "Hotels", "book", "w-1", FAILURE))
CLOSED = MethodFailure(
    DETAIL,
    Cause(
        CauseKind.WORKFLOW_FAILED,
        "Trip",
        "book",
        "w-2",
        failure=DETAIL,
        cause=Cause(CauseKind.CHANNEL_CLOSED, "approvals", limit=3),
    ),
)
ABANDONED = MethodFailure(
    DETAIL, Cause(CauseKind.WORKFLOW_TERMINATED, "Trip", "book", "w-2", reason="no longer needed")
)
TO = client.ReplyTo("client-1", "7")

COMMANDS: list[commands.Command] = [
    commands.ScheduleTask(0, "Hotels", "book", Raw(b'["Ritz"]'), ("eu",), {"k": b"v"}, 9.0),
    commands.StartTimer(1, 60.5),
    commands.RecordInline(2, "draw", Raw(b"4")),
    commands.RecordInline(3, "fail", failure=BROKEN),
    commands.CancelPosition(1),
    commands.CompleteMethod("w", Raw(b'{"ok":true}')),
    commands.FailMethod("w", BROKEN),
    commands.CancelMethod("w"),
]
COMMANDS_0_1 = tuple(COMMANDS)
COMMANDS.append(commands.RefuseCall("The arguments of Hotels.book", "too large"))
COMMANDS_0_2 = tuple(COMMANDS)
COMMANDS.append(commands.RecordPatch("confirm-by-mail"))
REMOTES: list[commands.Command] = [
    commands.StartChild(4, "Invoice", "issue", Raw(b"[1]"), {"k": b"v"}, 9.0),
    commands.CallRemote(5, "Invoice", "i-1", "pay", Raw(b"[2]"), {"k": b"v"}, 9.0),
    commands.SignalRemote(6, "Invoice", "i-1", "paid", Raw(b"true"), {"k": b"v"}),
    commands.StartChild(7, "Invoice", "issue", Raw(b"[1]"), tags=("eu", "vip"), custom_id="order-42"),
    commands.CallRemote(8, "Invoice", "", "pay", Raw(b"[2]"), custom_id="order-42"),
    commands.SignalRemote(9, "Invoice", "", "paid", Raw(b"true"), tag="eu"),
    commands.SignalRemote(10, "Invoice", "", "paid", Raw(b"true"), custom_id="order-42"),
]
CONTINUED = commands.ContinueRun("w", "book", Raw(b"[2]"))
CARRY = events.Carry(
    "book",
    Raw(b"[2]"),
    (events.SignalReceived("approvals", Raw(b"true"), 1.5),),
    (events.MethodStarted("m", "add", Raw(b"[1]"), 1.5),),
    ("eu",),
    "order-42",
)
PARENT = client.ReplyTo("w", "1/4/2", "Trip")
STIMULI: list[events.Stimulus] = [
    events.MethodStarted("w", "book", Raw(b"[1]")),
    events.TaskResult(0, Raw(b"2")),
    events.TaskError(0, FAILURE),
    events.TaskTimeout(0),
    events.TimerFired(1),
    events.SignalReceived("approvals", Raw(b"true")),
    events.CancelRequested(),
]
EXECUTION = attempts.Execution(3, 41, "worker-1")
RECENT: list[events.Event] = [
    events.MethodStarted("m", "add", Raw(b"[1]"), 1.5, {"k": b"v"}, "client-1"),
    events.TaskResult(0, Raw(b"2"), EXECUTION),
    events.TaskError(0, FAILURE, EXECUTION),
    events.SignalReceived("approvals", Raw(b"true"), 1.5, {"k": b"v"}, "client-1"),
    events.AttemptError(0, FAILURE, {"k": b"v"}, EXECUTION, 3.5),
]
"""With times, workers and senders."""
TAGGED = events.Started(1.5, ("eu", "vip"), "order-42")
EVENTS: list[events.Event] = [
    *STIMULI,
    events.AttemptError(0, FAILURE, {"k": b"v"}),
    events.Activated(1, 2.0),
    *COMMANDS_0_1,
    events.Activated(2, 3.0, each=True),
    events.Partial(1),
    *COMMANDS_0_2,
    *RECENT,
    events.CancelRequested("m"),
    events.Abandoned("no longer needed", unanswered=True),
    TAGGED,
    commands.RecordPatch("confirm-by-mail"),
    *REMOTES,
    events.RemoteResult(4, Raw(b"2")),
    events.RemoteError(5, RemoteStatus.FAILED, BROKEN),
    events.RemoteError(5, RemoteStatus.REFUSED, reason="The instance i-1 is parked"),
    events.TimerFired(1, completed=True),
    commands.StartTimer(4, 60.5, "m"),
    events.Reopened(
        5.0,
        (events.ReopenedTask(1, 1, 65.0), events.ReopenedTask(2, 2, None, True)),
        (events.ReopenedTimer(3, 9.5),),
        ("m",),
        (4,),
    ),
    CONTINUED,
    events.RunStarted(1),
    events.CancelRequested("m", 1.5, "client-1"),
    events.Abandoned("no longer needed", at=1.5, by="client-1"),
    events.RemoteResult(4, Raw(b"2"), 1.5),
    events.RemoteError(5, RemoteStatus.FAILED, BROKEN, at=1.5),
    events.Reopened(13.0, (), methods=("w",), rerun=2),
    events.TaskHandedOver(0, EXECUTION, 1.5),
    events.TaskResult(0, Raw(b"2"), by="client-1"),
    events.AttemptError(0, FAILURE, heartbeat=Raw(b'{"done":3}')),
]
COMMANDS.extend([*REMOTES, CONTINUED])
EVENTS.append(events.TaskCanceled(0, 1.5, "client-1"))
EVENTS.append(commands.CallRemote(11, "Invoice", "i-1", "pay", Raw(b"[2]"), patient=True))
EVENTS.append(commands.SignalRemote(12, "Invoice", "i-1", "paid", Raw(b"true"), patient=True))
LOCAL: list[events.Event] = [
    events.TaskResult(0, Raw(b"2"), EXECUTION, local=True),
    events.TaskError(0, FAILURE, EXECUTION, local=True),
    events.AttemptError(0, FAILURE, {}, EXECUTION, 3.5, local=True),
]
"""What ran inside a transition."""
EVENTS.extend(LOCAL)
FROM_OUTSIDE: Any = {"made_at": 1.0, "request_id": "r", "reply_to": TO, "position": 4, "run": 1}
INPUTS: list[engine.Input] = [
    engine.Start(made_at=1.0, method="book", arguments=Raw(b"[1]"), reply_to=TO, meta={"k": b"v"}),
    engine.CallMethod(made_at=1.0, method_id="m", method="add", arguments=Raw(b"[1]"), reply_to=TO),
    engine.Signal(made_at=1.0, signal_id="s", channel="approvals", value=Raw(b"true"), reply_to=TO),
    engine.TaskCompleted(made_at=1.0, position=0, value=Raw(b"2"), run=1),
    engine.TaskFailed(made_at=1.0, position=0, failure=FAILURE, run=1, retry_sequence=1),
    engine.AttemptFailed(
        made_at=1.0, position=0, failure=FAILURE, delay=2.0, sequence=1, retry_index=1, meta={"k": b"v"}
    ),
    engine.Wake(made_at=1.0, due=60.5),
    engine.Cancel(made_at=1.0, request_id="c", reply_to=TO),
    engine.Wait(made_at=1.0, reply_to=TO, method_id="m"),
    engine.Describe(made_at=1.0, reply_to=TO),
    engine.RetryWorkflowTask(made_at=1.0, request_id="r", reply_to=TO),
    engine.Decision(
        made_at=1.0, activation=1, version=2, retention=60.0, digest="d", commands=COMMANDS_0_1, stalled="no"
    ),
    engine.TaskFailed(made_at=1.0, position=0, failure=FAILURE, run=1, retry_sequence=1, retry_index=2),
    engine.Wait(made_at=1.0, reply_to=TO, method_id="m", single=True, stop=True),
    engine.Decision(made_at=1.0, activation=1, version=2, commands=COMMANDS_0_2, epoch=3, handed=1),
    engine.TaskCompleted(made_at=1.0, position=0, value=Raw(b"2")),
    engine.AttemptFailed(
        made_at=1.0, position=0, failure=FAILURE, delay=2.0, sequence=1, run=1, retry_sequence=2, retry_index=1
    ),
    engine.Decision(made_at=1.0, activation=1, version=2, failures=("LookupError: no, at trip.py:3 in Trip.run",)),
    engine.Unpark(made_at=1.0, request_id="u", reply_to=TO),
    engine.Start(made_at=1.0, method="book", arguments=Raw(b"[1]"), by="client-1"),
    engine.CallMethod(made_at=1.0, method_id="m", method="add", arguments=Raw(b"[1]"), meta={"k": b"v"}, by="client-1"),
    engine.Signal(made_at=1.0, signal_id="s", channel="approvals", value=Raw(b"true"), meta={"k": b"v"}, by="client-1"),
    engine.TaskCompleted(made_at=1.0, position=0, value=Raw(b"2"), execution=EXECUTION),
    engine.TaskFailed(made_at=1.0, position=0, failure=FAILURE, retry_index=2, execution=EXECUTION),
    engine.AttemptFailed(made_at=1.0, position=0, failure=FAILURE, delay=2.0, sequence=1, execution=EXECUTION),
    engine.AskQuery(made_at=1.0, query="balance", arguments=Raw(b"[1]"), reply_to=TO),
    engine.Asked(made_at=1.0, activation=2, epoch=3, reply_to=TO, digest="d", value=Raw(b"2")),
    engine.Asked(made_at=1.0, activation=2, reply_to=TO, failure=DETAIL),
    engine.Cancel(made_at=1.0, request_id="c", method_id="m"),
    engine.Terminate(made_at=1.0, request_id="t", reply_to=TO, reason="no longer needed"),
    engine.Start(made_at=1.0, method="book", arguments=Raw(b"[1]"), tags=("eu", "vip"), custom_id="order-42", epoch=1),
    engine.CallMethod(made_at=1.0, method_id="m", method="add", arguments=Raw(b"[1]"), by_tag="eu"),
    engine.Signal(made_at=1.0, signal_id="s", channel="approvals", value=Raw(b"true"), by_tag="eu"),
    engine.Cancel(made_at=1.0, request_id="c", by_tag="eu"),
    engine.RetryWorkflowTask(made_at=1.0, request_id="r", by_tag="eu"),
    engine.Terminate(made_at=1.0, request_id="t", by_tag="eu"),
    engine.CompleteTimers(made_at=1.0, request_id="t", by_tag="eu"),
    engine.Start(made_at=1.0, method="issue", arguments=Raw(b"[1]"), reply_to=PARENT),
    engine.RemoteSettled(made_at=1.0, position=4, run=1, retry_sequence=2, epoch=3, value=Raw(b"2")),
    engine.RemoteSettled(made_at=1.0, position=4, status=RemoteStatus.FAILED, failure=BROKEN),
    engine.RemoteSettled(made_at=1.0, position=4, status=RemoteStatus.REFUSED, reason="The instance i-1 is parked"),
    engine.Decision(made_at=1.0, activation=1, version=2, commands=tuple(REMOTES), cleanup=3),
    engine.CompleteTimers(made_at=1.0, request_id="o", reply_to=TO, method_id="m"),
    engine.CompleteTimers(made_at=1.0, request_id="o", by_tag="eu"),
    engine.RetryTasks(
        made_at=1.0, request_id="r", reply_to=TO, task_ids=("w-1",), status="failed", service="Bank", task="pay"
    ),
    engine.Probed(
        made_at=1.0,
        request_id="r",
        reply_to=TO,
        tasks=(1,),
        cancellations=(2, 3, 4),
        open=(2, 3),
        methods=("m",),
        relative=(3,),
    ),
    engine.Probed(made_at=1.0, request_id="r", reason="the history holds something else", culprits=(1,)),
    engine.Asked(made_at=1.0, activation=2, reply_to=TO, value=Raw(b"2"), run=1),
    engine.Decision(made_at=1.0, activation=1, version=2, commands=(CONTINUED,), carry=CARRY),
    engine.Cancel(made_at=1.0, request_id="c", by="client-1"),
    engine.Terminate(made_at=1.0, request_id="c", by="client-1"),
    engine.Delete(made_at=1.0, request_id="d", reply_to=TO),
    engine.RetryTasks(made_at=1.0, request_id="r", reply_to=TO, claimed=4, refused="had it", custom_id="order-1"),
    engine.ChildReopened(
        made_at=1.0,
        request_id="r",
        position=4,
        run=1,
        retry_sequence=2,
        epoch=3,
        claimed=4,
        refused="had it",
        custom_id="order-1",
    ),
    engine.RetryWorkflowTask(
        made_at=1.0, request_id="r", reply_to=TO, claimed=4, refused="had it", custom_id="order-1"
    ),
    engine.CancelTask(made_at=1.0, request_id="c", position=4, run=1, by="client-1"),
    engine.RetryTasks(made_at=1.0, request_id="r", service="Bank", tag="eu"),
    engine.RetryTasks(made_at=1.0, request_id="r", by_tag="eu"),
    delegated.TaskDelegated(made_at=1.0, position=4, run=1, retry_sequence=2, retry_index=3, execution=EXECUTION),
    delegated.CompleteTask(**FROM_OUTSIDE, value=Raw(b"2"), by="client-1", delegated=True),
    delegated.FailTask(**FROM_OUTSIDE, retry_sequence=2, failure=FAILURE, by="client-1", delegated=True),
    engine.AttemptFailed(made_at=1.0, position=0, failure=FAILURE, delay=2.0, sequence=1, heartbeat=Raw(b'{"done":3}')),
]
RESPONSES: list[client.Response] = [
    client.MethodCompleted("7", Raw(b"2")),
    client.MethodFailed("7", BROKEN),
    client.MethodCanceled("7"),
    client.WorkflowUnknown("7"),
    client.Applied("7"),
    client.Described(
        "7",
        client.WorkflowInfo(
            "w",
            "Trip",
            1,
            WorkflowStatus.RUNNING,
            1.0,
            methods=(client.MethodInfo("w", "book", WorkflowStatus.RUNNING),),
            steps=3,
        ),
    ),
    client.Applied("7", "no"),
    client.WorkflowUnknown("7", "The instance w is parked"),
    client.Described(
        "7",
        client.WorkflowInfo(
            "w",
            "Trip",
            1,
            WorkflowStatus.FAILED,
            1.0,
            closed_at=9.0,
            stalled="no",
            parked=True,
            open_tasks=2,
            open_timers=1,
            next_wake=60.5,
            steps=3,
            transitions=4,
            more_methods=5,
            background_failures=("LookupError: no, at trip.py:3 in Trip.run",),
        ),
    ),
    client.MethodFailed("7", CLOSED),
    client.AskAgain("7", 5.0),
    client.Queried("7", Raw(b"2"), 3),
    client.QueryFailed("7", DETAIL),
    client.MethodTerminated("7", "no longer needed"),
    client.MethodFailed("7", ABANDONED),
    client.Described(
        "7",
        client.WorkflowInfo("w", "Trip", 1, WorkflowStatus.RUNNING, 1.0, tags=("eu", "vip"), custom_id="order-42"),
    ),
    client.UniqueStarted("7", "w"),
    client.Ids("7", ("v", "w"), True),
    client.MethodFailed(
        "7", MethodFailure(DETAIL, Cause(CauseKind.REQUEST_REFUSED, "Invoice", "pay", "i-1", reason="parked"))
    ),
    client.Rejected("7", "nothing has failed"),
    client.Queried("7", Raw(b"2"), 3, 1),
    client.Tasks("7", ("4/Trip/w/0/1",), True),
    client.Described("7", client.WorkflowInfo("w", "Trip", 1, WorkflowStatus.RUNNING, 1.0, delegated_tasks=2)),
]
ATTEMPTS = [
    service.ExecuteTask(
        workflow_id="w",
        workflow_name="Trip",
        workflow_version=1,
        position=0,
        run=1,
        sequence=1,
        service="Hotels",
        task="book",
        arguments=Raw(b'["Ritz"]'),
        retry_sequence=1,
        retry_index=2,
        deaths=1,
        last_failure=FAILURE,
        tags=("eu",),
        meta={"k": b"v"},
        made_at=1.0,
    ),
    service.ExecuteTask(
        workflow_id="w",
        workflow_name="Trip",
        position=0,
        sequence=1,
        service="Hotels",
        task="book",
        arguments=Raw(b'["Ritz"]'),
        made_at=1.0,
        asked=2,
    ),
]
GUARD = service.Guard(3, 9.5, 20.0)
ATTEMPTS.append(replace(ATTEMPTS[0], asked=1, last_heartbeat=Raw(b'{"done":3}'), guard=GUARD))
CONTROLS: list[control.Control] = [
    control.Ping((("w", 0, 1, 2, 3), ("x", 4, 0, 0, 0))),
    control.Alive((("w", 0, 1, 2, 3),), (("x", 4, 0, 0, 0),)),
    control.Alive(done=(("x", 4, 0, 0, 0),)),
    control.CancelTasks(workflow_id="w", run=1, tasks=((0, 0), (4, 2))),
    control.Alive((("w", 0, 1, 2, 3),), guards=(5,)),
    control.AttemptsLost((("w", 0, 1, 2, 3),)),
    control.Ping((("w", 0, 1, 2, 3),), (5,)),
]
ACTIVATIONS: list[executor.Activate | executor.Ask] = [
    executor.Activate(
        activation=2, version=1, at=2.0, stimuli=tuple(STIMULI), digest="d", sequence=3, meta={"k": b"v"}
    ),
    executor.Activate(activation=2, version=1, at=2.0, stimuli=tuple(STIMULI), sequence=3, each=True, epoch=3),
    executor.Activate(activation=2, at=2.0, sequence=3, each=True, first=2, skip=1),
    executor.Ask(
        query="balance", arguments=Raw(b"[1]"), reply_to=TO, activation=2, epoch=3, version=1, digest="d", sequence=4
    ),
    executor.Activate(activation=1, at=2.0, stimuli=(STIMULI[0],), tags=("eu", "vip")),
    executor.Activate(
        activation=3,
        at=2.0,
        undone=(4,),
        probe=executor.ProbeRequest(request_id="r", reply_to=TO, tasks=(1,), exact=True),
    ),
    executor.Activate(
        activation=1, at=2.0, stimuli=tuple(STIMULI), tags=("eu",), custom_id="order-42", run=1, base=3, sequence=3
    ),
    executor.Ask(query="balance", arguments=Raw(b"[1]"), reply_to=TO, activation=2, run=1),
    executor.Activate(activation=3, at=1.0, probe=executor.ProbeRequest(request_id="r", rerun=2)),
]
AT = 5.5
EFFECTS: list[effects.Effect] = [
    effects.SendTask(0, 1, 1, 2, 3),
    effects.Answer(TO, "w", 4),
    effects.Confirm(TO),
    effects.ArmWake(60.5),
    effects.ActivateElsewhere(2, 1),
    effects.Refuse(TO),
    effects.CancelSent((state.OpenBlock(1, 0, b"\x05"),), ((2, 1),)),
    effects.TellCanceled(TO),
    effects.Tag(1, 3, True),
    effects.Tag(1, 3, False),
    effects.SendRemote(4, 3, 2),
    effects.Answer(PARENT, "w", 4),
    effects.Reject(TO, "nothing has failed"),
    effects.ProbeElsewhere(),
    effects.CancelSent((state.OpenBlock(1, 0, b"\x05"),), run=1),
    effects.SendRemote(4, 3, run=1),
    effects.ClaimCustomId(1, b'{"t":"retry_tasks","at":1.0,"i":"r","c":4}'),
    effects.TellReopened(PARENT),
    effects.CancelSent((), waiting=(state.OpenBlock(1, 0, b"\x05"),)),
    effects.TellListeners(1, 4, True, "no", WorkflowStatus.FAILED),
    effects.SendTask(0, 1, doubt=effects.DIED),
]
HEAD = state.WorkflowHead(
    schema=state.SCHEMA,
    id="w",
    name="Trip",
    started_at=1.0,
    methods=(state.Method("w", "book", (TO,)), state.Method("m", "add")),
    version=1,
    meta={"k": b"v"},
    open=(state.OpenBlock(1, 0, b"\x05"),),
    timers=(state.TimerBlock(60.5, 1, b"\x01"), state.TimerBlock(9.0, 0, b"\x01", state.TimerKind.TIMEOUT)),
    retries=(state.Retry(0, 1, 2, 0, 1, 5.0),),
    armed=5.0,
    pending=3,
    activation=2,
    at=2.0,
    deciding=2,
    digest="d",
    position=4,
    sequence=3,
    canceling=True,
    stalled="no",
    retention=60.0,
)
HEADS = [
    HEAD,
    replace(HEAD, epoch=3, skip=1),
    replace(HEAD, failures=("LookupError: no, at trip.py:3 in Trip.run",)),
    replace(
        HEAD,
        methods=(state.Method("w", "book", (TO,), WorkflowStatus.FAILED, 4),),
        run=1,
        status=WorkflowStatus.FAILED,
        parked=True,
        closed_at=9.0,
    ),
    replace(HEAD, cleanup=2),
    replace(HEAD, tagged=True, unique=True),
    replace(HEAD, timers=(state.TimerBlock(60.5, 1, b"\x01", method="m"),)),
    replace(HEAD, undone=(2, 5)),
    replace(HEAD, probe=state.Probe("r", TO, (1, 2), True)),
    replace(HEAD, probe=state.Probe("r", None, (1,), True, 3), told=(("w", PARENT),)),
    replace(HEAD, open=(state.OpenBlock(1, 0, b"\x05", b"\0\0\3\0\0\0\0\0"),)),
    replace(HEAD, run=1, base=3, continuing=True, first=2),
    replace(HEAD, probe=state.Probe("r", TO, (), True, rerun=2)),
    replace(HEAD, rerun_at=5.5),
    replace(HEAD, tags_tasks=True),
    replace(HEAD, delegated=(state.DelegatedBlock(1, b"\x05"),)),
    replace(HEAD, by_message=64),
]
TAGS: list[tags.TagMessage] = [
    tags.AddTag(made_at=1.0, id="w"),
    tags.AddTag(made_at=1.0, id="w", version=tags.version_added(3)),
    tags.RemoveTag(made_at=1.0, id="w", version=tags.version_removed(3)),
    tags.ByTag(made_at=1.0, operation="o", input=Raw(b'{"t":"cancel","at":1.0,"i":"c","bt":"eu"}'), after="v"),
    tags.GetIds(made_at=1.0, reply_to=TO, after="v", limit=7),
    tags.StartUnique(made_at=1.0, id="w", start=Raw(b'{"t":"start","at":1.0,"m":"book","a":[1],"n":"o"}'), reply_to=TO),
    tags.Reclaim(made_at=1.0, id="w", start=Raw(b'{"t":"start","at":1.0,"m":"book","a":[1],"n":"o"}')),
    tags.ToHolder(made_at=1.0, operation="o", input=Raw(b'{"t":"cancel","at":1.0,"i":"c","mi":"m"}'), reply_to=PARENT),
    tags.CancelUnique(made_at=1.0, id="w", input=Raw(b'{"t":"cancel","at":1.0,"i":"c"}')),
    tags.ClaimAgain(
        made_at=1.0, id="w", epoch=4, input=Raw(b'{"t":"retry_tasks","at":1.0,"i":"r","c":4}'), reply_to=TO
    ),
]
TOKEN = task_tags.make_token("Trip", "w", 0, 1)
TASK_TAGS: list[task_tags.TaskTagMessage] = [
    task_tags.AddTaskTag(made_at=1.0, token=TOKEN, version=task_tags.version_added(3)),
    task_tags.RemoveTaskTag(made_at=1.0, token=TOKEN, version=task_tags.version_removed(3)),
    task_tags.GetTasks(made_at=1.0, reply_to=TO, after=TOKEN, limit=7),
    task_tags.ByTaskTag(
        made_at=1.0, operation="o", input=Raw(b'{"t":"cancel_task","at":1.0,"i":"o","p":0}'), after=TOKEN
    ),
]
KEY = StateKey("Trip", "w")
CHANGE = Change(KEY, None, 7, state.encode(HEAD), 1.0, Segment(3, events.encode(EVENTS), effects.encode(AT, EFFECTS)))
"""As the storage gets it, sealed with checksums."""


def encoded() -> dict[str, Any]:
    """Every sample as this release writes it, by the name of its kind."""
    stored = add_checksums(CHANGE)
    assert stored.segment is not None
    assert stored.segment.outbox is not None
    return {
        "inputs": [engine.encode(each).decode() for each in INPUTS],
        "responses": [client.encode(each).decode() for each in RESPONSES],
        "attempts": [service.encode(each).decode() for each in ATTEMPTS],
        "activations": [executor.encode(each).decode() for each in ACTIVATIONS],
        "history": events.encode(EVENTS).decode(),
        "outbox": effects.encode(AT, EFFECTS).hex(),
        "heads": [state.encode(each).hex() for each in HEADS],
        "tags": [tags.encode(each).decode() for each in TAGS],
        "task_tags": [task_tags.encode(each).decode() for each in TASK_TAGS],
        "controls": [control.encode(each).decode() for each in CONTROLS],
        "told": [told.encode(each) for each in told.TOLD],
        "stored": [stored.head.hex(), stored.segment.events.hex(), stored.segment.outbox.hex()],
    }


if __name__ == "__main__":
    path = Path(__file__).with_name(f"release-{RELEASE}.json")
    path.write_text(json.dumps(encoded(), indent=1) + "\n")
