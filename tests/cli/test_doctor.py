"""What the doctor finds, with adapters that are well, away, or talkative."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from infinitic import Workflow, topics, workflow
from infinitic.cli.doctor.command import check_code, check_machine
from infinitic.cli.doctor.servers import check_broker, check_database, compare_clocks
from infinitic.cli.doctor.waiting_work import check_instances
from infinitic.cli.project import Project, load_config
from infinitic.diagnosis import Diagnosis, Level, skew
from infinitic.errors import TransportError
from infinitic.storage import (
    Change,
    Entry,
    Flag,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    StateStorage,
    StorageConfigurationError,
    StorageNotPrepared,
    StorageUnavailable,
    Stored,
    WorkflowStatus,
)
from infinitic.topics import Topic
from infinitic.transport import Message, TopicStats, TransportUnavailable
from infinitic_storages.compressed import CompressedStorage
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport


@workflow(name="Idle")
class Idle(Workflow):
    async def rest(self) -> None: ...


class Away(InMemoryTransport):
    async def stats(self, topic: Topic) -> TopicStats:
        raise TransportUnavailable("pulsar://nowhere:6650 refuses the connection")


class Refusing(Away):
    async def stats(self, topic: Topic) -> TopicStats:
        raise TransportError("may not")

    async def diagnose(self) -> list[Diagnosis]:
        raise TransportError("may not")


class Telling(InMemoryStorage):
    async def diagnose(self) -> list[Diagnosis]:
        return [Diagnosis("disk", Level.WARNING, "is nearly full")]


class Broken(StateStorage):
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        raise self._error

    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        raise self._error

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        raise self._error

    async def find(self, query: Query) -> Page:
        raise self._error

    async def purge(self, now: float, limit: int = 1000) -> int:
        raise self._error


class Talkative(InMemoryTransport):
    async def diagnose(self) -> list[Diagnosis]:
        return [Diagnosis("retention", Level.FAILURE, "is too short", "make it longer")]


def facts(checks: Sequence[Diagnosis]) -> list[tuple[str, str, str, str]]:
    return [(each.subject, each.level.value, each.message, each.remedy) for each in checks]


async def test_a_broker_that_works(sim: Simulation) -> None:
    sim.add_workflow(Idle)
    await sim.run_until_idle()
    payments = topics.service_executor("Payments")
    await sim.transport.declare([payments, topics.dead_letters(payments)])
    await sim.transport.publish(topics.dead_letters(payments), [Message("a", None, b"")])
    before = set(sim.transport.broker.overview())
    found = facts(await check_broker(sim.transport, Project(("Payments", "Mail"), {"Idle": (Idle,)})))
    assert found == [
        ("broker", "ok", "answers", ""),
        ("service Payments", "warning", "no consumer, 0 messages waiting", "start a worker that hosts it"),
        ("service Payments", "warning", "1 dead letter", "run: infinitic dead-letters list --service Payments"),
        ("service Mail", "warning", "has no topic yet", "nothing: the first worker or client creates it"),
        ("workflow Idle", "ok", "1 consumer, 0 messages waiting", ""),
    ]
    assert set(sim.transport.broker.overview()) == before


async def test_a_broker_that_is_away(sim: Simulation) -> None:
    async with Away(clock=sim.clock) as transport:
        assert facts(await check_broker(transport, Project(("Payments",)))) == [
            (
                "broker",
                "failure",
                "pulsar://nowhere:6650 refuses the connection",
                "check that it runs, and that its address in the configuration is right",
            )
        ]


async def test_the_checks_of_an_adapter_are_reported(sim: Simulation) -> None:
    async with Talkative(clock=sim.clock) as transport:
        assert facts(await check_broker(transport, Project()))[1:] == [
            ("retention", "failure", "is too short", "make it longer")
        ]


async def test_a_database_that_works(sim: Simulation) -> None:
    assert facts(await check_database(sim.storage)) == [
        ("database", "warning", "answers, and loses everything when it stops", "use another one in production")
    ]


RUN = "check that it runs, and that its address in the configuration is right"
CORRECT = "correct the configuration or the server, as the message says"


@pytest.mark.parametrize(
    ("error", "level", "message", "remedy"),
    [
        (StorageUnavailable("no route to host"), "failure", "no route to host", RUN),
        (StorageConfigurationError("wrong\n  password"), "failure", "wrong password", CORRECT),
        (
            StorageNotPrepared("no such table"),
            "warning",
            "answers, and has no tables yet",
            "nothing: the first worker creates them",
        ),
    ],
)
async def test_a_database_that_does_not(
    sim: Simulation, error: Exception, level: str, message: str, remedy: str
) -> None:
    storage = InMemoryStorage()
    storage.states = Broken(error)
    found = facts(await check_database(storage))
    assert found[0] == ("database", level, message, remedy)


async def test_a_compressed_storage_has_the_checks_of_the_storage_inside(sim: Simulation) -> None:
    assert facts(await check_database(CompressedStorage(sim.storage)))[0][1] == "warning"
    assert facts(await check_database(CompressedStorage(Telling()))) == [
        ("database", "ok", "answers", ""),
        ("disk", "warning", "is nearly full", ""),
    ]


async def test_a_role_without_permission_is_reported_once(sim: Simulation) -> None:
    async with Refusing(clock=sim.clock) as transport:
        assert facts(await check_broker(transport, Project(("Payments",)))) == [
            ("broker", "failure", "may not", CORRECT)
        ]


def test_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    found = {each.subject: each for each in check_machine()}
    assert found["hash seed"].message == "fixed: 0"
    monkeypatch.delenv("PYTHONHASHSEED")
    assert "another order in each process" in {each.subject: each for each in check_machine()}["hash seed"].message
    assert "Python 3." in found["infinitic"].message


def change(number: int, entry: Entry) -> Change:
    return Change(StateKey("Idle", f"id-{number}"), None, 1, b"", 0.0, entry=entry)


async def test_instances_that_do_not_proceed_are_counted(sim: Simulation) -> None:
    running, closed = WorkflowStatus.RUNNING, WorkflowStatus.COMPLETED
    entries = [
        *(Entry(running, 1.0, flag=Flag.STALLED) for _ in range(3)),
        Entry(running, 1.0, flag=Flag.PARKED),
        Entry(running, 1.0, next_wake=100.0),
        Entry(running, 1.0, next_wake=950.0),
        Entry(closed, 1.0, closed_at=2.0),
    ]
    storage = InMemoryStorage()
    await storage.states.commit([change(number, each) for number, each in enumerate(entries)])
    project = Project((), {"Idle": (Idle,), "Other": ()})
    assert facts(await check_instances(storage, project, 1000.0)) == [
        (
            "workflow Idle",
            "warning",
            "3 stalled, see: infinitic list --status stalled --workflow Idle",
            "correct the code, then run: infinitic retry --stalled --workflow Idle",
        ),
        (
            "workflow Idle",
            "warning",
            "1 parked, see: infinitic list --status parked --workflow Idle",
            "look at the cause in its dead letters, and keep them",
        ),
        (
            "workflow Idle",
            "warning",
            "1 with a timer that is overdue by more than 60 s",
            "check that a worker with its state engine runs",
        ),
    ]
    reported = facts(await check_database(storage, project, clock=sim.clock))
    assert [subject for subject, *_ in reported] == ["database", "workflow Idle", "workflow Idle", "workflow Idle"]


async def test_a_database_that_cannot_count(sim: Simulation) -> None:
    class Half(Broken):
        async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
            return {}

    storage = InMemoryStorage()
    storage.states = Half(StorageUnavailable("gone away"))
    found = facts(await check_database(storage, Project((), {"Idle": ()})))
    assert found[-1] == ("workflows", "warning", "cannot be counted: gone away", "look at the database")


async def test_code_that_no_worker_runs_and_dead_letters_of_all_topics(sim: Simulation) -> None:
    code = topics.workflow_executor("Idle")
    await sim.transport.declare([code, topics.dead_letters(code)])
    await sim.transport.publish(code, [Message("a", "a", b"")])
    await sim.transport.publish(topics.dead_letters(code), [Message("b", None, b"")])
    found = facts(await check_broker(sim.transport, Project((), {"Idle": ()})))
    assert found[2:] == [
        (
            "workflow Idle",
            "warning",
            "1 activation waiting, and no worker runs the code of the workflow",
            "start a worker that hosts its executor",
        ),
        ("workflow Idle", "warning", "1 dead letter", "run: infinitic dead-letters list --workflow Idle"),
    ]


def test_clocks_are_compared_with_each_other() -> None:
    broker = skew("broker clock", 1.5, precision=2.0)
    database = skew("database clock", -0.9)
    assert (broker.level, database.level) == (Level.OK, Level.OK)
    assert facts(compare_clocks([broker, database, Diagnosis("x", Level.OK, "")])) == [
        ("clocks", "warning", "the broker clock is 2.4 s ahead of the database clock", "synchronise both with NTP")
    ]
    assert compare_clocks([broker, skew("database clock", -30)]) == []  # it was told
    assert skew("broker clock", 2.0, precision=2.0).level is Level.WARNING
    assert skew("broker clock", 60.0).level is Level.FAILURE


def test_classes_that_cannot_be_imported_are_reported(tmp_path: Path) -> None:
    """A worker would not start with them; the rest can be right."""
    file = tmp_path / "infinitic.yml"
    text = "transport: {in_memory: {}}\nservices:\n  - {name: Flights, executor: {class: CLASS}}\n"
    file.write_text(text.replace("CLASS", "no_such_module.Flights"))
    (reported,) = check_code(load_config(file))
    assert (reported.subject, reported.level) == ("code", Level.WARNING)
    assert "infinitic.yml:3: services[0].executor.class: there is no module 'no_such_module'" in reported.message
    file.write_text(text.replace("CLASS", "infinitic.cli.demo.booking.Flights"))
    assert check_code(load_config(file)) == []


async def test_messages_about_tags_that_nobody_takes_are_reported(sim: Simulation) -> None:
    tagged = topics.workflow_tag("Idle")
    await sim.transport.declare([tagged, topics.dead_letters(tagged)])
    await sim.transport.publish(tagged, [Message("a", "t:eu", b"")])
    await sim.transport.publish(topics.dead_letters(tagged), [Message("b", None, b"")])
    checks = await check_broker(sim.transport, Project(workflows={"Idle": ()}))
    assert [each.message for each in checks][-2:] == [
        "1 message about tags or custom ids waiting, and no worker has its tag engine",
        "1 dead letter",
    ]


async def test_listeners_that_nobody_runs_are_reported(sim: Simulation) -> None:
    topic = topics.workflow_events("Idle")
    consumer = await sim.transport.subscribe(topic, "listener:audit", 10)
    await sim.transport.subscribe(topic, "listener:alerts", 10)
    await sim.transport.publish(topic, [Message("a", None, b"[]")])
    await consumer.close()
    await sim.transport.declare([topics.dead_letters(topic)])
    await sim.transport.publish(topics.dead_letters(topic), [Message("b", None, b"")])
    checks = await check_broker(sim.transport, Project(workflows={"Idle": ()}))
    assert facts(checks)[-3:] == [
        ("workflow Idle", "ok", "event listener alerts: 1 consumer, 1 message waiting", ""),
        (
            "workflow Idle",
            "warning",
            "event listener audit: no consumer, 1 message waiting",
            "start a worker that has it, or remove the subscription listener:audit of workflow-events:Idle",
        ),
        ("workflow Idle", "warning", "1 dead letter", "run: infinitic dead-letters list --workflow Idle"),
    ]
