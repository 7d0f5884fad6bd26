"""Each rule about the end of a run finds what breaks it, and is named by that."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from infinitic import Channel, Client, Workflow, topics
from infinitic.definitions.workflow_spec import WorkflowSpec, spec_of
from infinitic.engines import state
from infinitic.engines.bitmaps import ALONE
from infinitic.messages import commands, events
from infinitic.storage import Segment
from infinitic.transport import Message
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.invariants import (
    HEALED,
    RULES,
    SAFETY,
    InvariantViolated,
    LogWatch,
    check_stored,
    check_topics,
    find_outcome_difference,
)
from infinitic_testing.loop import run
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.cases import Case, by_name
from tests.simulation.tape import Note, Player, Tape, find, has_event, is_published, record, record_once
from tests.simulation.test_invariants_of_features import BREAKS as BREAKS_OF_FEATURES, ORDERS, PARCELS
from tests.simulation.test_invariants_of_messages import BREAKS as BREAKS_OF_MESSAGES
from tests.simulation.test_invariants_of_steps import BREAKS as BREAKS_OF_STEPS

ENGINE = topics.workflow_engine("Sequential")


def play(tape: Tape, case: Case | None = None) -> Player:
    case = case or by_name("sequential")
    player = Player({spec.name: spec for spec in map(spec_of, case.workflows)})
    player.play(tape)
    return player


def find_unhealed(player: Player, *, log: LogWatch | None = None, held: Mapping[str, int] | None = None) -> str | None:
    try:
        player.check_healed(log=log, held=held)
    except InvariantViolated as violation:
        return violation.rule
    return None


def test_what_has_ended_well_breaks_no_rule() -> None:
    player = play(list(record_once("sequential")))
    with LogWatch() as log:
        assert find_unhealed(player, log=log, held={"messages": 0}) is None
    tagged = play(list(record(ORDERS)), ORDERS)
    assert find_unhealed(tagged) is None
    parcels = play(list(record(PARCELS)), PARCELS)
    assert find_unhealed(parcels) is None
    evaluated = {*player.invariants.evaluated, *tagged.invariants.evaluated, *parcels.invariants.evaluated}
    assert set(HEALED) - evaluated == {"outcome-same", "all-forgotten", "events-heard"}


def test_an_instance_that_waits_for_nobody_is_named() -> None:
    tape = list(record_once("sequential"))
    until_it_waits = tape[: find(tape, is_published("workflow-engine", b'"task_completed"'))]
    assert find_unhealed(play(until_it_waits)) == "all-end"


class Listener(Workflow):
    letters = Channel[str]()

    async def run(self) -> str:
        return await self.letters.receive()


LISTENER = Case("listener", (Listener,), lambda client: client.dispatch(client.new_workflow(Listener).run))


def test_an_instance_that_waits_for_a_signal_need_not_end() -> None:
    assert find_unhealed(play(record(LISTENER), LISTENER)) is None


def test_an_instance_that_waits_for_a_later_time_need_not_end() -> None:
    tape = list(record_once("timers"))
    until_it_sleeps = tape[: find(tape, has_event(events.TimerFired))]
    player = play(until_it_sleeps, by_name("timers"))
    # Its task is still open.
    assert find_unhealed(player) == "all-end"
    later = tape[: find(tape, has_event(events.TimerFired), 1)]
    assert find_unhealed(play(later, by_name("timers"))) is None
    # Its last wake was due a while ago.
    player = play(later, by_name("timers"))
    player.time += 100_000.0
    assert find_unhealed(player) == "all-end"


class Ward(Workflow):
    letters = Channel[str]()

    async def wait(self) -> str:
        return await self.letters.receive()


class Guardian(Workflow):
    ward = Workflow.new_workflow(Ward)

    async def keep(self) -> str:
        return await self.ward.wait()


async def _cancel_guardian(client: Client) -> object:
    handle = await client.dispatch(client.new_workflow(Guardian).keep)
    await asyncio.sleep(10.0)
    await client.cancel(handle)
    return handle.workflow_id


GUARDIAN = Case("guardian", (Guardian, Ward), _cancel_guardian)


def test_a_child_that_outlives_its_cancelled_parent_is_named() -> None:
    """S29."""
    tape = list(record(GUARDIAN))
    assert find_unhealed(play(tape, GUARDIAN)) is None
    until_it_is_told = tape[: find(tape, is_published("workflow-engine", b"/cancel"))]
    assert find_unhealed(play(until_it_is_told, GUARDIAN)) == "no-orphan"


def test_an_instance_whose_code_or_service_nobody_hosts_need_not_end() -> None:
    tape = list(record_once("sequential"))
    until_it_waits = tape[: find(tape, is_published("workflow-engine", b'"task_completed"'))]
    player = play(until_it_waits)
    specs = {spec.name: {spec.version: spec} for spec in map(spec_of, by_name("sequential").workflows)}
    assert find_rules(player, specs, {"Numbers"}) == ["all-end"]
    assert find_rules(player, specs, set()) == []
    assert find_rules(player, {}, {"Numbers"}) == []


def find_rules(player: Player, specs: Mapping[str, Mapping[int, WorkflowSpec]], services: set[str]) -> list[str]:
    storage = InMemoryStorage(player.database)
    found = run(check_stored(storage, specs=lambda name: specs.get(name, {}), services=services))
    return [each.rule for each in found]


def test_a_history_that_is_not_as_it_was_written_is_named() -> None:
    player = play(list(record_once("sequential")))
    [segments] = player.database.segments.values()
    [head] = player.database.heads.items()
    events_of_last = segments[-1].events
    segments[-1] = Segment(segments[-1].sequence, events_of_last.replace(b"completed", b"canceled"))
    assert find_unhealed(player) == "history-kept"
    segments[-1] = Segment(segments[-1].sequence, events_of_last)
    assert find_unhealed(player) is None
    player.database.heads[head[0]] = replace(head[1], version=head[1].version + 1)
    assert find_unhealed(player) == "history-kept"
    player.database.heads.clear()
    assert find_unhealed(player) == "history-kept"


def test_what_is_kept_for_ever_is_named() -> None:
    player = play(list(record_once("sequential")))
    player.time += 11 * 86_400.0
    purged = Note(player.time, purged=True)
    player.play([purged])
    # The remnant may be there.
    player.database.kept = 1
    assert find_unhealed(player) is None
    player.time += 15 * 86_400.0
    assert find_unhealed(player) == "all-forgotten"
    player.database.kept = 0
    assert find_unhealed(player) is None


def test_messages_that_are_left_are_named() -> None:
    player = play(list(record_once("sequential")))
    player.broker.declare([topics.workflow_executor("Sequential")])
    assert find_unhealed(player) is None
    consumer = player.broker.attach(topics.workflow_executor("Sequential"), "workflow-executor", 1, lambda: None)
    late = Message("late", "key", b"late", deliver_at=player.now() + 5.0)
    player.broker.publish(topics.workflow_executor("Sequential"), [late], player.now())
    assert find_unhealed(player) == "queues-empty"
    [delivery] = player.broker.take(consumer, 1, player.now() + 5.0)
    assert find_unhealed(player) == "queues-empty"
    player.broker.ack(consumer, [delivery])
    assert find_unhealed(player) is None

    async def look() -> list[str]:
        transport = InMemoryTransport(player.broker, clock=player)
        found = await check_topics(transport, [topics.workflow_executor("Sequential")])
        await transport.publish(topics.workflow_executor("Sequential"), [Message("more", "key", b"more")])
        found += await check_topics(transport, [topics.workflow_executor("Sequential")])
        await transport.close()
        return [each.rule for each in found]

    assert run(look()) == ["queues-empty"]


def test_memory_that_is_held_is_named() -> None:
    player = play(list(record_once("sequential")))
    assert find_unhealed(player, held={"messages": 1}) == "memory-empty"


def test_an_error_in_the_log_is_named_unless_a_fault_explains_it() -> None:
    player = play(list(record_once("sequential")))
    logger = logging.getLogger("infinitic.engine")
    with LogWatch() as log:
        logger.info("all is well")
        assert find_unhealed(player, log=log) is None
        logger.error("Workflow W w: a message goes to the dead letters: it is garbage")
        assert find_unhealed(player, log=log) == "log-clean"
        assert log.find_unexpected({"bad-messages"}) is None
        try:
            raise KeyError("position")
        except KeyError:
            logger.warning("Key w: trying again: a message goes to the dead letters: ", exc_info=True)
        unexpected = log.find_unexpected({"bad-messages"})
    assert unexpected is not None
    assert unexpected.traceback == "KeyError: 'position'"
    logger.error("nobody listens")
    assert len(log.errors) == 2


@pytest.mark.parametrize(
    ("expected", "actual", "difference"),
    [
        (None, 5, None),
        ([1, {"a": (2, 3)}], [1, {"a": (2, 3)}], None),
        ([1, {"a": (2, 3)}], [1, {"a": (2, 4)}], "[1]['a'][1]: 3 is expected, and it is 4"),
        ([1], [1, 2], "it has 2 items, and 1 are expected"),
        ({"a": 1}, {}, "['a'] is missing: 1 is expected"),
        ({}, {"a": 1}, "['a'] is not expected: 1"),
        ({"a": 1}, {"a": "1"}, "['a']: 1 is expected, and it is '1'"),
        ({1, 2}, {1, 3}, "it: {1, 2} is expected, and it is {1, 3}"),
    ],
)
def test_where_outcomes_differ(expected: object, actual: object, difference: str | None) -> None:
    assert find_outcome_difference(expected, actual) == difference


def test_histories_are_checked_without_messages() -> None:
    """As on a real server: nobody has seen what was published."""
    player = play(list(record_once("timers")), by_name("timers"))
    storage = InMemoryStorage(player.database)
    evaluated = Counter[str]()
    assert run(check_stored(storage, evaluated=evaluated)) == []
    assert {"history-gapless", "result-once", "timer-once", "timer-not-early", "all-end"} <= set(evaluated)
    [(key, stored)] = player.database.heads.items()
    segments = player.database.segments[key]
    twice = [segments[0], *segments]
    for number, wrong in enumerate((twice, segments[1:])):
        player.database.segments[key] = wrong
        assert {each.rule for each in run(check_stored(storage))} == {"history-kept"}, number
    player.database.segments[key] = segments
    head = state.decode(stored.head[7:])
    open_again = state.encode(replace(head, closed_at=None, timers=(state.TimerBlock(5.0, 0, ALONE),)))
    player.database.heads[key] = replace(stored, head=open_again)
    found = run(check_stored(storage))
    assert {each.rule for each in found} == {"head-matches-history", "all-end"}


def test_every_rule_is_proved_by_a_test_that_breaks_it() -> None:
    broken = {each[0] for each in (*BREAKS_OF_STEPS, *BREAKS_OF_MESSAGES, *BREAKS_OF_FEATURES)}
    # Each has a test of its own beside those of messages.
    elsewhere = {"replay-same", "delay-kept"}
    # See test_invariants_of_events.py.
    elsewhere |= {"events-published", "event-known", "event-stable", "event-before-report"}
    assert broken | elsewhere == set(SAFETY)
    assert set(RULES) == set(SAFETY) | set(HEALED)
    assert all(len(text) < 110 for text in RULES.values())


def test_a_violation_tells_what_where_and_which_rule() -> None:
    player = play(list(record_once("sequential")))
    [key] = player.database.heads
    violation = InvariantViolated("timer-once", "timer 3 fires twice", key)
    assert str(violation) == f"timer-once: Sequential {key.id}: timer 3 fires twice"
    copy = violation.__reduce__()
    assert str(copy[0](*copy[1])) == str(violation)


def test_after_the_first_violation_nothing_is_checked() -> None:
    tape = list(record_once("sequential"))
    seen: list[InvariantViolated] = []
    player = Player({}, on_violation=seen.append)
    player.play([tape[find(tape, has_event(commands.ScheduleTask))]])
    assert player.invariants.violation is seen[0]
    checked = player.invariants.evaluated.total()
    player.play(tape)
    assert player.invariants.evaluated.total() == checked
    assert len(seen) == 1
