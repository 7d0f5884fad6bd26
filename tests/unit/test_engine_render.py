"""`find_referenced_segments` and `render`: effects become messages with payloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from infinitic import topics
from infinitic.engines import effects, state
from infinitic.engines.effects import (
    ActivateElsewhere,
    Answer,
    ArmWake,
    CancelSent,
    Confirm,
    Defer,
    Effect,
    Refuse,
    Reply,
    SendTask,
)
from infinitic.engines.positions import open_block
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.describe import describe
from infinitic.engines.workflow.render import find_referenced_segments, render
from infinitic.errors import ExceptionDetail, TaskFailure
from infinitic.limits import CARRIED
from infinitic.messages import client, engine, events, executor, service, task_tags
from infinitic.messages.commands import CancelMethod, CompleteMethod, EndMethod, FailMethod, ScheduleTask
from infinitic.messages.events import Activated, Event
from infinitic.messages.outcomes import MethodFailure
from infinitic.transport import Message, Outgoing
from tests.unit.engine_samples import DECIDING, ME, NOW, RUNNING, VALUE

LONGEST = 5_000_000
FAILURE = TaskFailure(ExceptionDetail("builtins.ValueError", "no"))
BOOK = ScheduleTask(0, "Flights", "book", Raw(b'["LIS"]'), ("eu",), {"k": b"1"})
PAY = ScheduleTask(1, "Payments", "pay", Raw(b"[7]"))
SEGMENTS: Mapping[int, Sequence[Event]] = {
    1: [events.MethodStarted("t1", "book", Raw(b"[]")), Activated(1, NOW), BOOK, PAY],
    2: [events.AttemptError(1, FAILURE), events.AttemptError(0, FAILURE, {"k": b"2"})],
    3: [CompleteMethod("t1", VALUE)],
}


def rendered(*wanted: Effect | Reply) -> list[Outgoing]:
    """Render, and prove that only the arguments decide.

    `find_referenced_segments` names all segments that it takes.
    """
    kept = [effect for effect in wanted if isinstance(effect, Effect)]
    sequences = find_referenced_segments(kept, 3)
    segments = {sequence: SEGMENTS[sequence] for sequence in sequences}
    before = state.encode(RUNNING), repr(segments)
    result = render(wanted, RUNNING, segments, NOW, LONGEST)
    assert render(wanted, RUNNING, segments, NOW, LONGEST) == result
    assert (state.encode(RUNNING), repr(segments)) == before
    assert effects.decode(effects.encode(NOW, kept)) == effects.Outbox(NOW, kept)
    return result


def test_a_task_has_the_arguments_of_its_request_and_an_id_that_stays() -> None:
    """S1, S10."""
    tag, sent = rendered(SendTask(0, 1))
    assert tag.topic == topics.service_tag("Flights")
    topic, message = sent.topic, sent.message
    assert topic == topics.service_executor("Flights")
    task = service.decode(message.body)
    assert (task.task_id, message.id) == ("t1-0", "Trip/t1-0")
    assert (task.task, bytes(task.arguments), task.tags, task.meta) == ("book", b'["LIS"]', ("eu",), {"k": b"1"})
    assert (task.position, task.sequence, task.retry_index, task.last_failure) == (0, 1, 0, None)
    assert (task.workflow_name, task.workflow_version, task.made_at) == ("Trip", 0, NOW)


def test_the_next_attempt_knows_the_failure_before_and_its_meta() -> None:
    """S2."""
    _, *attempts = rendered(SendTask(0, 1), SendTask(0, 1, 0, 1, 2))
    first, again = (service.decode(each.message.body) for each in attempts)
    assert again.task_id == first.task_id
    assert (again.retry_index, again.last_failure, again.meta) == (1, FAILURE, {"k": b"2"})
    assert (bytes(again.arguments), again.tags) == (bytes(first.arguments), first.tags)


def test_S31_a_task_gets_its_tags_with_its_first_attempt_and_loses_them_when_it_is_cancelled() -> None:
    """Whoever comes later has the higher version, in whatever order these come."""
    token = task_tags.make_token("Trip", "t1", 0, 0)

    def read(*wanted: Effect) -> list[tuple[str | None, task_tags.TaskTagMessage]]:
        sent = [each for each in rendered(*wanted) if each.topic == topics.service_tag("Flights")]
        return [(each.message.key, task_tags.decode(each.message.body)) for each in sent]

    def add(version: int) -> tuple[str, task_tags.TaskTagMessage]:
        return "t:eu", task_tags.AddTaskTag(made_at=NOW, token=token, version=version)

    def remove(version: int) -> tuple[str, task_tags.TaskTagMessage]:
        return "t:eu", task_tags.RemoveTaskTag(made_at=NOW, token=token, version=version)

    block = open_block(1, [0])
    assert read(SendTask(0, 1), SendTask(1, 1)) == [add(0)]
    assert read(SendTask(0, 1, 0, 1, 2)) == []
    assert read(SendTask(0, 1, 3, 0)) == [add(6)]
    assert read(CancelSent((block,))) == [remove(1)]
    assert read(CancelSent((block,), ((0, 3),))) == [remove(7)]
    assert read(CancelSent((), waiting=(block,))) == [remove(1)]
    assert [each.topic for each in rendered(CancelSent((), waiting=(block,)))] == [topics.service_tag("Flights")]


def test_answers_tell_how_a_method_ended() -> None:
    failure = MethodFailure(FAILURE.exception)
    ends: list[tuple[EndMethod, client.Response]] = [
        (CompleteMethod("t1", VALUE), client.MethodCompleted("7", VALUE)),
        (FailMethod("t1", failure), client.MethodFailed("7", failure)),
        (CancelMethod("t1"), client.MethodCanceled("7")),
    ]
    for end, response in ends:
        (sent,) = render([Answer(ME, "t1", 3)], RUNNING, {3: [CompleteMethod("m2", VALUE), end]}, NOW, LONGEST)
        assert sent.topic == topics.client("client")
        assert client.decode(sent.message.body) == response


def test_of_many_clients_that_wait_for_a_large_result_some_ask_again() -> None:
    """All answers of a step are in memory at once. Each is told when to ask: one after another."""
    value = Raw(b'"%b"' % (b"x" * 2**20))
    clients = [client.ReplyTo(f"c{each}", "7") for each in range(8)]
    parent = client.ReplyTo("p", "0/1/0", "Parent")
    told = [Answer(each, "t1", 3) for each in (*clients, parent)]
    sent = render(told, RUNNING, {3: [CompleteMethod("t1", value)]}, NOW, 2**21)
    assert len(sent[8].message.body) > 2**20, "an instance cannot ask again"
    answers = [client.decode(each.message.body) for each in sent[:8]]
    assert [type(each).__name__ for each in answers] == ["MethodCompleted"] * 4 + ["AskAgain"] * 4
    seconds = [each.seconds for each in answers if isinstance(each, client.AskAgain)]
    assert [round(each, 2) for each in seconds] == [0.25, 0.31, 0.38, 0.44]
    others = [Answer(each, "m2", 3) for each in clients]
    beside = render(others, RUNNING, {3: [CompleteMethod("m2", value)]}, NOW, 2**21)
    assert all(len(each.message.body) > 2**20 for each in beside), "the end of another method is told only once"


def test_clients_are_told() -> None:
    info = describe(RUNNING, ME)
    sent = rendered(Confirm(ME), Refuse(ME), info, Answer(ME, "t1", 3), Defer(ME, 5.0))
    assert {each.topic for each in sent} == {topics.client("client")}
    assert [client.decode(each.message.body) for each in sent] == [
        client.Applied("7"),
        client.WorkflowUnknown("7"),
        client.Described("7", info.info),
        client.MethodCompleted("7", VALUE),
        client.AskAgain("7", 5.0),
    ]


def test_a_wake_comes_back_to_its_instance_when_it_is_due() -> None:
    (sent,) = rendered(ArmWake(NOW + 5.0))
    wake = engine.encode(engine.Wake(made_at=NOW, due=NOW + 5.0))
    assert sent == Outgoing(topics.workflow_engine("Trip"), Message("t1/wake", "t1", wake, deliver_at=NOW + 5.0))


def activated(head: WorkflowHead, pending: int, segments: dict[int, list[Event]]) -> executor.Activate:
    effect = ActivateElsewhere(2, pending)
    assert find_referenced_segments([effect], head.sequence) == set(), "history is read by the executor, if at all"
    (sent,) = render([effect], head, segments, NOW, LONGEST)
    assert sent.topic == topics.workflow_executor("Trip")
    assert len(sent.message.body) <= CARRIED
    decoded = executor.decode(sent.message.body)
    assert isinstance(decoded, executor.Activate)
    return decoded


def test_an_activation_takes_along_the_stimuli_of_its_transition() -> None:
    """S19."""
    head = replace(DECIDING, activation=2, sequence=4, digest="d", epoch=1)
    early, late = events.TaskResult(0, VALUE), events.SignalReceived("go", VALUE)
    segment: list[Event] = [early, PAY, late, Activated(2, NOW + 1.0, each=True)]
    expected = executor.Activate(
        activation=2, version=0, at=NOW + 1.0, stimuli=(early, late), digest="d", sequence=4, each=True, epoch=1
    )
    assert activated(head, 4, {4: segment}) == expected


def test_an_activation_names_the_segments_where_stimuli_came_before_or_are_large() -> None:
    head = replace(DECIDING, activation=2, sequence=4, at=NOW + 1.0)
    late = events.SignalReceived("go", VALUE)
    opened = Activated(2, NOW + 1.0, each=True)
    named = executor.Activate(activation=2, version=0, at=NOW + 1.0, sequence=4, each=True, first=2)
    assert activated(head, 2, {4: [late, opened]}) == named
    large = events.TaskResult(0, Raw(b'"%b"' % (b"x" * CARRIED)))
    assert activated(head, 4, {4: [large, opened]}) == replace(named, first=4)
    assert activated(replace(head, skip=3), 4, {4: [late, opened]}) == replace(named, first=4, skip=3)
    assert activated(head, 2, {4: []}) == replace(named, each=False), "asked for again: it is in an older segment"


def test_stimuli_travel_only_where_the_broker_takes_them() -> None:
    """A broker may take less than what else travels."""
    head = replace(DECIDING, activation=2, sequence=4, at=NOW + 1.0)
    segment: list[Event] = [events.TaskResult(0, Raw(b'"%b"' % (b"x" * 20_000))), Activated(2, NOW + 1.0, each=True)]
    for longest, first in ((30_000, 0), (20_000, 4)):
        (sent,) = render([ActivateElsewhere(2, 4)], head, {4: segment}, NOW, longest)
        assert len(sent.message.body) <= longest
        assert executor.decode(sent.message.body).first == first


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 0xCB00, 0xCBFF])
def test_an_outbox_of_release_0_1_is_told_from_a_later_one_whatever_its_length(count: int) -> None:
    """It was a list of effects alone."""
    wanted = [Refuse(ME) for _ in range(count)]
    assert effects.decode(msgspec.msgpack.encode(wanted)) == effects.Outbox(None, wanted)
    assert effects.decode(effects.encode(NOW, wanted)) == effects.Outbox(NOW, wanted)


def test_a_failure_is_cut_to_what_the_next_attempt_has_room_for() -> None:
    """What was accepted can be sent again, whatever its failures were like."""
    detail = ExceptionDetail("ValueError", "no" * 1000, "line\n" * 100_000, None, {"a": 1})
    failure = TaskFailure(detail, "w", previous=TaskFailure(detail))
    request = ScheduleTask(0, "Flights", "book", Raw(b'["%b"]' % (b"x" * 100_000)), meta={"k": b"1"})
    segments: dict[int, list[Event]] = {1: [request], 2: [events.AttemptError(0, failure, {"k": b"2"})]}
    retry = SendTask(0, 1, 0, 1, 2)
    for longest in (10_000_000, 200_000, 103_000):
        (sent,) = render([retry], RUNNING, segments, NOW, longest)
        assert render([retry], RUNNING, segments, NOW, longest) == [sent], "whoever renders it"
        assert len(sent.message.body) <= longest
        attempt = service.decode(sent.message.body)
        assert attempt.last_failure is not None
        assert attempt.last_failure.exception.name == "ValueError"
        assert attempt.meta == {"k": b"2"}


def test_meta_that_leaves_no_room_is_left_out_and_the_failure_says_so() -> None:
    """Executors do not send it; one of an older release may have."""
    request = ScheduleTask(0, "Flights", "book", Raw(b'["%b"]' % (b"x" * 3_000_000)), meta={"k": b"1"})
    spoilt = events.AttemptError(0, FAILURE, {"k": b"2" * 2_400_000})
    (sent,) = render([SendTask(0, 1, 0, 1, 2)], RUNNING, {1: [request], 2: [spoilt]}, NOW, 5_000_000)
    assert len(sent.message.body) <= 5_000_000
    attempt = service.decode(sent.message.body)
    assert attempt.meta == {"k": b"1"}
    assert attempt.last_failure is not None
    assert "meta of 2,400,000 bytes" in attempt.last_failure.exception.message


def test_a_result_that_no_message_takes_is_told_as_a_failure_with_sizes() -> None:
    """It was recorded where the limit was another one."""
    segment: list[Event] = [CompleteMethod("t1", Raw(b'"%b"' % (b"x" * 10_000)))]
    (sent,) = render([Answer(ME, "t1", 3)], RUNNING, {3: segment}, NOW, 5_000)
    told = client.decode(sent.message.body)
    assert isinstance(told, client.MethodFailed)
    assert told.failure.exception.short_name == "PayloadTooLargeError"
    assert "10,002 bytes" in told.failure.exception.message
    failed: list[Event] = [FailMethod("t1", MethodFailure(ExceptionDetail("E", "m", "t" * 50_000)))]
    (sent,) = render([Answer(ME, "t1", 3)], RUNNING, {3: failed}, NOW, 8_000)
    assert len(sent.message.body) <= 8_000


def test_needed_names_only_what_is_written() -> None:
    """The segment of the transition itself is at hand: it is not asked for."""
    assert find_referenced_segments([SendTask(0, 1), SendTask(4, 3, 0, 1, 2), Answer(ME, "t1", 4)], 3) == {1, 2, 3}
    assert find_referenced_segments([Confirm(ME), Refuse(ME), ArmWake(NOW)], 3) == set()
