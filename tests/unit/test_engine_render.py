"""`needed` and `render`: effects become messages, with the payloads that the history holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Raw
from msgspec.structs import replace

from infinitic import topics
from infinitic.engines import effects, state
from infinitic.engines.effects import ActivateElsewhere, Answer, ArmWake, Confirm, Effect, Refuse, SendTask, Tell
from infinitic.engines.workflow.describe import describe
from infinitic.engines.workflow.render import Outgoing, needed, render
from infinitic.errors import ExceptionDetail, TaskFailure
from infinitic.messages import client, engine, events, executor, service
from infinitic.messages.commands import CancelMethod, CompleteMethod, EndMethod, FailMethod, ScheduleTask
from infinitic.messages.events import Activated, Event
from infinitic.messages.outcomes import MethodFailure
from infinitic.transport import Message
from tests.unit.engine_samples import DECIDING, ME, NOW, RUNNING, VALUE

FAILURE = TaskFailure(ExceptionDetail("builtins.ValueError", "no"))
BOOK = ScheduleTask(0, "Flights", "book", Raw(b'["LIS"]'), ("eu",), {"k": b"1"})
PAY = ScheduleTask(1, "Payments", "pay", Raw(b"[7]"))
SEGMENTS: Mapping[int, Sequence[Event]] = {
    1: [events.MethodStarted("t1", "book", Raw(b"[]")), Activated(1, NOW), BOOK, PAY],
    2: [events.AttemptFailed(1, FAILURE), events.AttemptFailed(0, FAILURE, {"k": b"2"})],
    3: [CompleteMethod("t1", VALUE)],
}


def rendered(*wanted: Effect | Tell) -> list[Outgoing]:
    """Render, and prove that nothing but the arguments decides, and that `needed` names all that it takes."""
    kept = [effect for effect in wanted if isinstance(effect, Effect)]
    sequences = needed(kept, 3)
    segments = {sequence: SEGMENTS[sequence] for sequence in sequences}
    before = state.encode(RUNNING), repr(segments)
    result = render(wanted, RUNNING, segments, NOW)
    assert render(wanted, RUNNING, segments, NOW) == result
    assert (state.encode(RUNNING), repr(segments)) == before
    assert effects.decode(effects.encode(NOW, kept)) == effects.Outbox(NOW, kept)
    return result


def test_a_task_has_the_arguments_of_its_request_and_an_id_that_stays() -> None:
    """S1, S10."""
    ((topic, message),) = [(each.topic, each.message) for each in rendered(SendTask(0, 1))]
    assert topic == topics.service_executor("Flights")
    task = service.decode(message.body)
    assert (task.task_id, message.id) == ("t1-0", "t1-0")
    assert (task.task, bytes(task.arguments), task.tags, task.meta) == ("book", b'["LIS"]', ("eu",), {"k": b"1"})
    assert (task.position, task.sequence, task.retry_index, task.last_failure) == (0, 1, 0, None)
    assert (task.workflow_name, task.workflow_version, task.made_at) == ("Trip", 0, NOW)


def test_the_next_attempt_knows_the_failure_before_and_its_meta() -> None:
    """S2."""
    first, again = (service.decode(each.message.body) for each in rendered(SendTask(0, 1), SendTask(0, 1, 0, 1, 2)))
    assert again.task_id == first.task_id
    assert (again.retry_index, again.last_failure, again.meta) == (1, FAILURE, {"k": b"2"})
    assert (bytes(again.arguments), again.tags) == (bytes(first.arguments), first.tags)


def test_answers_tell_how_a_method_ended() -> None:
    failure = MethodFailure(FAILURE.exception)
    ends: list[tuple[EndMethod, client.Response]] = [
        (CompleteMethod("t1", VALUE), client.MethodCompleted("7", VALUE)),
        (FailMethod("t1", failure), client.MethodFailed("7", failure)),
        (CancelMethod("t1"), client.MethodCanceled("7")),
    ]
    for end, response in ends:
        (sent,) = render([Answer(ME, "t1", 3)], RUNNING, {3: [CompleteMethod("m2", VALUE), end]}, NOW)
        assert sent.topic == topics.client("client")
        assert client.decode(sent.message.body) == response


def test_clients_are_told() -> None:
    info = describe(RUNNING, ME)
    sent = rendered(Confirm(ME), Refuse(ME), info, Answer(ME, "t1", 3))
    assert {each.topic for each in sent} == {topics.client("client")}
    assert [client.decode(each.message.body) for each in sent] == [
        client.Applied("7"),
        client.WorkflowUnknown("7"),
        client.Described("7", info.info),
        client.MethodCompleted("7", VALUE),
    ]


def test_a_wake_comes_back_to_its_instance_when_it_is_due() -> None:
    (sent,) = rendered(ArmWake(NOW + 5.0))
    wake = engine.encode(engine.Wake(made_at=NOW, due=NOW + 5.0))
    assert sent == Outgoing(topics.workflow_engine("Trip"), Message("t1/wake", "t1", wake, deliver_at=NOW + 5.0))


def test_an_activation_takes_along_the_stimuli_since_the_last_one_and_no_history() -> None:
    """S19. When stimuli came while the last activation ran, they lie before its commands."""
    head = replace(DECIDING, activation=2, sequence=4, digest="d")
    early, late = events.TaskResult(0, VALUE), events.SignalReceived("go", VALUE)
    segments: dict[int, list[Event]] = {2: [early], 3: [PAY], 4: [late, Activated(2, NOW + 1.0)]}
    effect = ActivateElsewhere(2, 2)
    assert needed([effect], head.sequence) == {2, 3, 4}
    (sent,) = render([effect], head, segments, NOW)
    assert sent.topic == topics.workflow_executor("Trip")
    assert executor.decode(sent.message.body) == executor.Activate(
        activation=2, version=0, at=NOW + 1.0, stimuli=(early, late), digest="d", sequence=4
    )


def test_needed_names_only_what_is_written() -> None:
    """The segment of the transition itself is at hand: it is not asked for."""
    assert needed([SendTask(0, 1), SendTask(4, 3, 0, 1, 2), Answer(ME, "t1", 4)], 3) == {1, 2, 3}
    assert needed([Confirm(ME), Refuse(ME), ArmWake(NOW)], 3) == set()
