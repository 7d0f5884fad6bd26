"""What a transition tells event listeners: a pure function of its segment and its outbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import EventType, topics
from infinitic.engines.effects import Effect, SendTask, TellListeners
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow import Transition
from infinitic.engines.workflow.announcing import announce
from infinitic.engines.workflow.render import render
from infinitic.errors import ExceptionDetail, TaskFailure
from infinitic.messages import cloud_events, commands, events
from infinitic.messages.cloud_events import PIECE_BYTES
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.events import Event
from infinitic.messages.outcomes import MethodFailure, RemoteStatus, WorkflowStatus
from tests.unit.engine_samples import NOW, RUNNING

SECRET = "jane@example.com"
VALUE = Raw(f'["{SECRET}"]'.encode())
META = {"token": SECRET.encode()}
FAILURE = TaskFailure(ExceptionDetail("shop.NoStock", "none left", "trace", attributes={"card": SECRET}), "w1", 2, 1)
RAISED = MethodFailure(ExceptionDetail("shop.Closed", "x" * 5000))
HEAD = replace(RUNNING, sequence=7, version=3)

TOLD: Mapping[str, tuple[Event, list[EventType]]] = {
    "first method": (events.MethodStarted(HEAD.id, "book", VALUE, NOW, META, "ada"), [EventType.WORKFLOW_DISPATCH]),
    "method": (events.MethodStarted("m2", "add", VALUE, NOW, META), [EventType.WORKFLOW_DISPATCH_METHOD]),
    "signal": (
        events.SignalReceived("approvals", VALUE, NOW, META, "ada"),
        [EventType.WORKFLOW_SIGNAL, EventType.WORKFLOW_SIGNAL_RECEIVED],
    ),
    "cancel": (events.CancelRequested(by="ada"), [EventType.WORKFLOW_CANCEL]),
    "cancel of a method": (events.CancelRequested("m2"), [EventType.WORKFLOW_CANCEL_METHOD]),
    "result": (events.TaskResult(4, VALUE), [EventType.WORKFLOW_TASK_COMPLETED]),
    "failure": (events.TaskError(4, FAILURE), [EventType.WORKFLOW_TASK_FAILED]),
    "timeout": (events.TaskTimeout(4), [EventType.WORKFLOW_TASK_TIMED_OUT]),
    "cancelled task": (events.TaskCanceled(4), [EventType.WORKFLOW_TASK_CANCELED]),
    "failed attempt": (events.AttemptError(4, FAILURE, META), []),
    "timer": (events.TimerFired(4), [EventType.WORKFLOW_TIMER_COMPLETED]),
    "child": (events.RemoteResult(4, VALUE), [EventType.WORKFLOW_REMOTE_METHOD_COMPLETED]),
    "failed child": (
        events.RemoteError(4, RemoteStatus.FAILED, RAISED),
        [EventType.WORKFLOW_REMOTE_METHOD_FAILED],
    ),
    "cancelled child": (events.RemoteError(4, RemoteStatus.CANCELED), [EventType.WORKFLOW_REMOTE_METHOD_CANCELED]),
    "unknown child": (events.RemoteError(4, RemoteStatus.UNKNOWN), [EventType.WORKFLOW_REMOTE_METHOD_UNKNOWN]),
    "activation": (events.Activated(9, NOW), [EventType.WORKFLOW_EXECUTOR_DISPATCHED]),
    "terminated": (events.Abandoned("enough", at=NOW), [EventType.WORKFLOW_TERMINATED]),
    "run": (events.RunStarted(2), [EventType.WORKFLOW_RUN_STARTED]),
    "tasks again": (
        events.Reopened(NOW, (events.ReopenedTask(4, 1), events.ReopenedTask(5, 1, canceled=True))),
        [EventType.WORKFLOW_RETRY_TASK],
    ),
    "code again": (events.Reopened(NOW, (), rerun=8), [EventType.WORKFLOW_RETRY_EXECUTOR]),
    "task": (
        commands.ScheduleTask(4, "Mail", "send", VALUE, ("eu",), META),
        [EventType.WORKFLOW_TASK_DISPATCHED],
    ),
    "timer set": (commands.StartTimer(4, NOW + 5), [EventType.WORKFLOW_TIMER_DISPATCHED]),
    "inline": (commands.RecordInline(4, "draw", VALUE), []),
    "child asked for": (
        commands.StartChild(4, "Invoice", "issue", VALUE, META),
        [EventType.WORKFLOW_REMOTE_METHOD_DISPATCHED],
    ),
    "call": (
        commands.CallRemote(4, "Invoice", "i1", "issue", VALUE, META),
        [EventType.WORKFLOW_REMOTE_METHOD_DISPATCHED],
    ),
    "signal sent": (
        commands.SignalRemote(4, "Invoice", "i1", "pay", VALUE, META),
        [EventType.WORKFLOW_SIGNAL_DISPATCHED],
    ),
    "completed": (commands.CompleteMethod("m2", VALUE), [EventType.WORKFLOW_METHOD_COMPLETED]),
    "failed": (commands.FailMethod("m2", RAISED), [EventType.WORKFLOW_METHOD_FAILED]),
    "cancelled": (commands.CancelMethod("m2"), [EventType.WORKFLOW_METHOD_CANCELED]),
}


def told(
    happened: Sequence[Event],
    tell: TellListeners | None = None,
    outbox: Sequence[Effect] = (),
    older: Mapping[int, Sequence[Event]] | None = None,
    head: WorkflowHead = HEAD,
) -> list[tuple[str, dict[str, Any]]]:
    """Render, and return the topic with the attributes and data of each event."""
    effects = [*outbox, tell or TellListeners()]
    segments = {**(older or {}), head.sequence: happened}
    first, second = (render(effects, head, segments, NOW, 5_000_000) for _ in range(2))
    assert first == second
    about = [each for each in first if topics.is_for_listeners(each.topic)]
    return [
        (each.topic.name, {**event.attributes, **event.data})
        for each in about
        for event in cloud_events.decode(each.message.body)
    ]


@pytest.mark.parametrize("what", TOLD)
def test_each_kind_of_history_is_told_without_its_payload(what: str) -> None:
    event, types = TOLD[what]
    found = told([event])
    assert [each["type"] for _, each in found] == types
    assert SECRET not in repr(found)
    for index, (topic, each) in enumerate(found):
        assert topic == f"workflow-events:{HEAD.name}"
        assert each["id"] == f"{HEAD.id}/7/{index}"
        assert (each["source"], each["subject"]) == (f"/workflows/{HEAD.name}", HEAD.id)
        assert len(repr(each)) < 2500


def test_what_only_the_effect_says_comes_last() -> None:
    tell = TellListeners(ran=9, ended=WorkflowStatus.FAILED)
    types = [each["type"] for _, each in told([events.Activated(9, NOW)], tell)]
    assert types == [
        EventType.WORKFLOW_EXECUTOR_DISPATCHED,
        EventType.WORKFLOW_EXECUTOR_COMPLETED,
        EventType.WORKFLOW_FAILED,
    ]
    stalled = told([], TellListeners(retried=True, stalled="another command"))
    assert [each["type"] for _, each in stalled] == [
        EventType.WORKFLOW_RETRY_EXECUTOR,
        EventType.WORKFLOW_EXECUTOR_FAILED,
    ]
    assert stalled[1][1]["reason"] == "another command"


def test_a_task_that_is_sent_is_told_to_the_listeners_of_its_service() -> None:
    asked = commands.ScheduleTask(4, "Mail", "send", VALUE, ("eu",), META)
    found = told([events.AttemptError(4, FAILURE, META)], None, [SendTask(4, 2, 1, 3, 7)], {2: [asked]})
    [(topic, event)] = found
    assert topic == "service-events:Mail"
    assert (event["type"], event["source"]) == (EventType.TASK_DISPATCH, "/services/Mail")
    assert (event["subject"], event["retry_sequence"], event["retry_index"]) == (f"{HEAD.id}-4", 1, 3)
    assert SECRET not in repr(event)


def test_a_timeout_tells_what_it_was_for() -> None:
    child = commands.StartChild(4, "Invoice", "issue", VALUE)
    [(_, event)] = told([events.TaskTimeout(4)], None, (), {2: [child]})
    assert event["type"] == EventType.WORKFLOW_REMOTE_METHOD_TIMED_OUT
    assert event["remote_workflow_name"] == "Invoice"


def test_many_events_go_in_pieces() -> None:
    happened = [commands.ScheduleTask(each, "Mail", "send", VALUE) for each in range(3000)]
    outgoing = render([TellListeners()], HEAD, {7: happened}, NOW, 5_000_000)
    assert len(outgoing) > 3
    assert max(len(each.message.body) for each in outgoing) <= PIECE_BYTES
    found = [event for each in outgoing for event in cloud_events.decode(each.message.body)]
    assert [each.attributes["id"] for each in found] == [f"{HEAD.id}/7/{index}" for index in range(3000)]
    assert len({each.message.id for each in outgoing}) == len(outgoing)


def test_a_source_is_a_uri_whatever_the_name() -> None:
    head = replace(HEAD, name="Büro/7 ?")
    [(topic, event)] = told([events.TimerFired(1)], head=head)
    assert (topic, event["source"]) == ("workflow-events:Büro/7 ?", "/workflows/B%C3%BCro%2F7%20%3F")


def test_announcing_adds_one_effect_and_keeps_the_rest() -> None:
    before, after = HEAD, replace(HEAD, sequence=8)
    made = Transition(after, [events.TimerFired(1)], [SendTask(1, 2)], None, None)
    announced = announce(before, made, ran=4)
    assert announced.outbox == [SendTask(1, 2), TellListeners(ran=4)]
    assert announced.head is after
    unchanged = Transition(before, [], [], None, None)
    assert announce(before, unchanged, ran=None) is unchanged


def test_what_is_in_no_history_makes_a_segment_of_its_own() -> None:
    stalled = replace(HEAD, stalled="another command")
    announced = announce(HEAD, Transition(stalled, [], [], None, None), ran=None)
    assert announced.head.sequence == 8
    assert announced.outbox == [TellListeners(stalled="another command")]
    again = Transition(replace(stalled, stalled=None, epoch=1), [], [], None, None)
    assert announce(stalled, again, ran=None).outbox == [TellListeners(retried=True)]
    # It still stalls, and something else has changed.
    assert announce(stalled, Transition(replace(stalled, armed=1.0), [], [], None, None), ran=None).outbox == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{}",
        b"[1]",
        b'[{"id":"1"}]',
        b'[{"id":"1","source":"/a","type":"t","time":"2030-01-01T00:00:00Z","specversion":"0.3"}]',
        b'[{"id":"1","source":"/a","type":"t","time":"2030-01-01T00:00:00Z","specversion":"1.0","data":[1]}]',
        b'[{"id":"","source":"/a","type":"t","time":"2030-01-01T00:00:00Z","specversion":"1.0"}]',
        b"[" * 5000,
    ],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(UndecodableMessage):
        cloud_events.decode(body)


def test_what_a_newer_release_adds_is_kept() -> None:
    """S41."""
    body = (
        b'[{"id":"1","source":"/a","type":"t","time":"2030-01-01T00:00:00Z","specversion":"1.0","ext":"x",'
        b'"data":{"later":1}}]'
    )
    [event] = cloud_events.decode(body)
    assert (event.attributes["ext"], event.data) == ("x", {"later": 1})
