"""Each rule about messages finds one that breaks it, and is named by that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import Raw
from msgspec.structs import replace as replace_struct

from infinitic import Workflow, topics, workflow
from infinitic.definitions.workflow_spec import spec_of
from infinitic.engines.effects import Confirm
from infinitic.messages import client, commands, control, engine, events, service
from infinitic.messages.engine import Input
from infinitic.runtime.publisher import CAUSE
from infinitic.storage import Change
from infinitic.transport import Delivery, Message
from infinitic_testing.invariants import InvariantViolated
from infinitic_transports.memory import Broker
from tests.simulation.cases import Numbers, by_name
from tests.simulation.tape import (
    Matches,
    Note,
    Player,
    Tape,
    changes,
    find,
    find_violation,
    has_event,
    is_acknowledged,
    is_published,
    move,
    record_once,
    rewrite,
)


def first_change(tape: Tape) -> int:
    return next(index for index, _ in changes(tape))


def publish_before_the_commit(kind: str, text: bytes = b"") -> Callable[[Tape], Tape]:
    """Let a message be published before anything is written."""
    return lambda tape: move(tape, find(tape, is_published(kind, text)), first_change(tape))


def edit(matches: Matches, change: Callable[[Message], Message]) -> Callable[[Tape], Tape]:
    """Let another message be published."""

    def forge(tape: Tape) -> Tape:
        index = find(tape, matches)
        message = tape[index].message
        assert message is not None
        return [*tape[:index], replace(tape[index], message=change(message)), *tape[index + 1 :]]

    return forge


def set_input(**fields: object) -> Callable[[Message], Message]:
    """Change fields of an input."""

    def change(message: Message) -> Message:
        decoded: Input = engine.decode(message.body)
        return replace_struct(message, body=engine.encode(replace_struct(decoded, **fields)))

    return change


def set_task(**fields: object) -> Callable[[Message], Message]:
    """Change fields of a task."""

    def change(message: Message) -> Message:
        return replace_struct(message, body=service.encode(replace_struct(service.decode(message.body), **fields)))

    return change


def stop_of_next_run(message: Message) -> Message:
    """Stop tasks of a run that has not begun."""
    stopped = control.decode(message.body)
    assert isinstance(stopped, control.CancelTasks)
    return replace_struct(message, body=control.encode(replace_struct(stopped, run=stopped.run + 1)))


def set_value(message: Message) -> Message:
    """Change the result in a response."""
    response = client.decode(message.body)
    assert isinstance(response, client.MethodCompleted)
    return replace_struct(message, body=client.encode(replace_struct(response, value=Raw(b'"forged"'))))


def answer(tape: Tape, index: int, response: client.Response) -> Note:
    return replace(tape[index], message=Message("forged", None, client.encode(response)), delivery=None)


def read_request(tape: Tape, index: int) -> str:
    """Read which request a published response answers."""
    message = tape[index].message
    assert message is not None
    request: str = client.decode(message.body).request
    return request


def find_confirmation(tape: Tape) -> tuple[int, int]:
    """Find a request that is confirmed, and its confirmation."""
    confirmed = find(tape, is_published("client", b'"applied"'))
    asked = find(tape, is_published("workflow-engine", read_request(tape, confirmed).encode()))
    return asked, confirmed


def tell_two_ends(tape: Tape) -> Tape:
    index = find(tape, is_published("client", b'"completed"'))
    canceled = client.MethodCanceled(read_request(tape, index))
    return [*tape[: index + 1], answer(tape, index, canceled), *tape[index + 1 :]]


def tell_that_it_is_unknown(tape: Tape) -> Tape:
    asked, confirmed = find_confirmation(tape)
    later = replace(tape[asked], at=tape[asked].at + 1.0)
    unknown = answer(tape, confirmed, client.WorkflowUnknown(read_request(tape, confirmed)))
    return [*tape[:asked], later, unknown, *tape[asked + 1 :]]


def confirm_too_early(tape: Tape) -> Tape:
    asked, confirmed = find_confirmation(tape)
    return move(tape, confirmed, asked + 1)


def answer_a_parent_otherwise(tape: Tape) -> Tape:
    """The result of a child is told once more, and is another one."""
    index = find(tape, is_published("workflow-engine", b'"settled"'))
    message = tape[index].message
    assert message is not None
    settled = engine.decode(message.body)
    assert isinstance(settled, engine.RemoteSettled)
    other = engine.encode(replace_struct(settled, value=Raw(b"666")))
    again = replace(tape[index], message=replace_struct(message, body=other))
    return [*tape[: index + 1], again, *tape[index + 1 :]]


def give_up_what_can_be_handled(tape: Tape) -> Tape:
    index = find(tape, is_published("workflow-engine", b'"task_completed"'))
    message, topic = tape[index].message, tape[index].topic
    assert message is not None
    assert topic is not None
    letter = replace_struct(message, headers={CAUSE: "no reason"})
    dead = replace(tape[index], topic=topics.dead_letters(topic), message=letter)
    return [*tape[: index + 1], dead, *tape[index + 1 :]]


def give_up_without_a_reason(tape: Tape) -> Tape:
    index = find(tape, is_published("workflow-engine", b'"task_completed"'))
    topic = tape[index].topic
    assert topic is not None
    letter = Message("garbage", "key", b"garbage")
    return [*tape[:index], replace(tape[index], topic=topics.dead_letters(topic), message=letter), *tape[index:]]


def acknowledge_before(kind: str, text: bytes, place: Matches, *, after: int = 0) -> Callable[[Tape], Tape]:
    """Let a message be acknowledged before something else happens."""

    def forge(tape: Tape) -> Tape:
        return move(tape, find(tape, is_acknowledged(kind, text)), find(tape, place) + after)

    return forge


def acknowledge_garbage(tape: Tape) -> Tape:
    index = find(tape, is_acknowledged("workflow-engine"))
    delivery = tape[index].delivery
    assert delivery is not None
    garbage = replace_struct(delivery, message=Message("garbage", "key", b"garbage"))
    return [*tape, replace(tape[index], delivery=garbage)]


def garble(matches: Matches, acknowledged: Matches) -> Callable[[Tape], Tape]:
    """Let a message be garbage, which becomes a dead letter, and is acknowledged at once."""

    def forge(tape: Tape) -> Tape:
        index, acknowledgement = find(tape, matches), find(tape, acknowledged)
        message, topic, delivery = tape[index].message, tape[index].topic, tape[acknowledgement].delivery
        assert message is not None
        assert topic is not None
        assert delivery is not None
        garbage = replace_struct(message, body=b"garbage", headers={CAUSE: "it is garbage"})
        note = tape[index]
        return [
            *tape[:index],
            replace(note, message=garbage),
            replace(note, topic=topics.dead_letters(topic), message=garbage),
            replace(tape[acknowledgement], at=note.at, delivery=replace_struct(delivery, message=garbage)),
            *tape[index + 1 :],
        ]

    return forge


def acknowledge_a_request_unanswered(tape: Tape) -> Tape:
    """The answer is lost, and so is its mention in the outbox."""
    index = find(tape, is_published("client", b'"applied"'))
    written = max(at for at, change in changes(tape) if change.deduplication_ids and at < index)
    shorter = rewrite(tape, written, outbox=lambda outbox: [each for each in outbox if not isinstance(each, Confirm)])
    return [note for at, note in enumerate(shorter) if at != index]


def act_after_its_death(tape: Tape) -> Tape:
    index = first_change(tape)
    later = [replace(note, at=note.at + 1000.0) for note in tape[index:]]
    return [*tape[:index], Note(tape[index].at, ended="killed"), *later]


def is_change(note: Note) -> bool:
    return isinstance(note.change, Change)


BREAKS: tuple[tuple[str, str, bool, Callable[[Tape], Tape]], ...] = (
    ("cause-durable", "sequential", False, publish_before_the_commit("service-executor")),
    ("cause-durable", "family", False, publish_before_the_commit("workflow-engine", b'"help"')),
    ("cause-durable", "family", False, publish_before_the_commit("workflow-engine", b'"settled"')),
    ("cause-durable", "family", False, edit(is_published("workflow-engine", b'"help"'), set_input(method="wait"))),
    ("one-answer", "family", False, answer_a_parent_otherwise),
    ("cause-durable", "sequential", True, publish_before_the_commit("workflow-executor")),
    ("cause-durable", "sequential", True, publish_before_the_commit("workflow-engine", b'"decision"')),
    ("cause-durable", "timers", False, publish_before_the_commit("workflow-engine", b'"wake"')),
    ("cause-durable", "sequential", False, publish_before_the_commit("client", b'"completed"')),
    ("cause-durable", "approval", False, confirm_too_early),
    ("cause-durable", "sequential", False, edit(is_published("service-executor"), set_task(arguments=Raw(b"[6,6]")))),
    ("cause-durable", "sequential", False, edit(is_published("service-executor"), set_task(retry_index=1))),
    ("cause-durable", "sequential", False, edit(is_published("service-executor"), set_task(task="wait"))),
    ("cause-durable", "timers", False, edit(is_published("workflow-engine", b'"wake"'), set_input(due=5.0))),
    ("cause-durable", "timers", False, edit(is_published("service-control", b"cancel"), stop_of_next_run)),
    ("cause-durable", "sequential", False, edit(is_published("client", b'"completed"'), set_value)),
    (
        "report-asked",
        "sequential",
        False,
        edit(is_published("workflow-engine", b'"task_completed"'), set_input(position=99)),
    ),
    (
        "report-asked",
        "retries",
        False,
        edit(is_published("workflow-engine", b'"attempt_failed"'), set_input(retry_index=7)),
    ),
    ("one-answer", "sequential", False, tell_two_ends),
    ("told-unknown", "approval", False, tell_that_it_is_unknown),
    ("dead-letter-deserved", "sequential", False, give_up_what_can_be_handled),
    ("dead-letter-deserved", "sequential", False, give_up_without_a_reason),
    ("ack-after-commit", "sequential", False, acknowledge_before("workflow-engine", b'"start"', is_change)),
    (
        "ack-after-commit",
        "sequential",
        False,
        acknowledge_before("workflow-engine", b'"task_completed"', has_event(events.TaskResult)),
    ),
    (
        "ack-after-commit",
        "failure",
        False,
        acknowledge_before("workflow-engine", b'"task_failed"', has_event(events.TaskError)),
    ),
    (
        "ack-after-commit",
        "retries",
        False,
        acknowledge_before("workflow-engine", b'"attempt_failed"', has_event(events.AttemptError)),
    ),
    (
        "ack-after-commit",
        "approval",
        False,
        acknowledge_before("workflow-engine", b'"signal"', is_published("workflow-engine", b'"signal"'), after=1),
    ),
    (
        "ack-after-commit",
        "cleanup",
        False,
        acknowledge_before("workflow-engine", b'"cancel"', has_event(events.CancelRequested)),
    ),
    (
        "ack-after-commit",
        "sequential",
        True,
        acknowledge_before("workflow-engine", b'"decision"', has_event(commands.ScheduleTask)),
    ),
    ("ack-after-commit", "sequential", False, acknowledge_garbage),
    ("ack-after-commit", "approval", False, acknowledge_a_request_unanswered),
    (
        "ack-after-publish",
        "sequential",
        False,
        acknowledge_before("workflow-engine", b'"start"', is_published("service-executor")),
    ),
    (
        "ack-after-publish",
        "sequential",
        False,
        acknowledge_before("workflow-engine", b'"task_completed"', has_event(events.TaskResult), after=1),
    ),
    (
        "ack-after-publish",
        "retries",
        False,
        acknowledge_before("workflow-engine", b'"attempt_failed"', has_event(events.AttemptError), after=1),
    ),
    (
        "ack-after-publish",
        "timers",
        False,
        acknowledge_before("workflow-engine", b'"wake"', has_event(events.TimerFired), after=1),
    ),
    (
        "ack-after-publish",
        "sequential",
        True,
        acknowledge_before("workflow-engine", b'"decision"', has_event(commands.ScheduleTask), after=1),
    ),
    (
        "attempt-kept",
        "sequential",
        False,
        acknowledge_before("service-executor", b"", is_published("workflow-engine", b'"task_completed"')),
    ),
    (
        "activation-kept",
        "sequential",
        True,
        acknowledge_before("workflow-executor", b"", is_published("workflow-engine", b'"decision"')),
    ),
    (
        "wake-kept",
        "timers",
        False,
        acknowledge_before("workflow-engine", b'"wake"', has_event(events.TimerFired)),
    ),
    (
        "ack-after-commit",
        "sequential",
        False,
        garble(
            is_published("workflow-engine", b'"task_completed"'),
            is_acknowledged("workflow-engine", b'"task_completed"'),
        ),
    ),
    (
        "ack-after-commit",
        "sequential",
        True,
        garble(is_published("workflow-engine", b'"decision"'), is_acknowledged("workflow-engine", b'"decision"')),
    ),
    (
        "ack-after-commit",
        "timers",
        False,
        garble(is_published("workflow-engine", b'"wake"'), is_acknowledged("workflow-engine", b'"wake"')),
    ),
    (
        "attempt-kept",
        "sequential",
        False,
        garble(is_published("service-executor"), is_acknowledged("service-executor")),
    ),
    ("dead-silent", "sequential", False, act_after_its_death),
)


@pytest.mark.parametrize(
    ("rule", "case", "split", "change"), BREAKS, ids=[f"{number}-{each[0]}" for number, each in enumerate(BREAKS)]
)
def test_a_message_that_breaks_a_rule_is_named_by_it(
    rule: str, case: str, split: bool, change: Callable[[Tape], Tape]
) -> None:
    assert find_violation(by_name(case), change(list(record_once(case, split=split)))) == rule


@pytest.mark.parametrize(("lateness", "early"), [((0.0,), 0.01), ((0.0, 5.0, -1.0), 1.01)])
def test_a_delayed_message_that_comes_too_early_is_named(lateness: tuple[float, ...], early: float) -> None:
    class SomeBroker(Broker):
        pass

    SomeBroker.lateness = lateness
    player = Player({}, broker=SomeBroker())
    wake = Message("wake", "w1", engine.encode(engine.Wake(made_at=0.0, due=60.0)), deliver_at=60.0)
    deliveries = [Delivery(wake, attempt=1, published_at=0.0)]
    player.time = 60.0 - early + 0.02
    player.invariants.delivered("w1", topics.workflow_engine("W"), deliveries)
    player.time = 60.0 - early
    with pytest.raises(InvariantViolated) as caught:
        player.invariants.delivered("w1", topics.workflow_engine("W"), deliveries)
    assert caught.value.rule == "delay-kept"


def test_code_that_does_not_repeat_its_history_is_named() -> None:
    @workflow(name="Sequential")
    class Other(Workflow):
        numbers = Workflow.new_service(Numbers)

        async def run(self, start: int) -> int:
            return await self.numbers.add(start, 2)

    specs = {"Sequential": spec_of(Other)}
    assert find_violation(by_name("sequential"), record_once("sequential"), specs) == "replay-same"
