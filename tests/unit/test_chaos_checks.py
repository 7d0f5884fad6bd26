"""The workflows of `make chaos` in virtual time, and that its checks find what is wrong."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from chaos.checks import Findings, check_instances, find_errors, find_tracebacks, judge_outcome
from chaos.journal import Journal
from chaos.shapes import CANCELED, SHAPES, choose_shape, expect, fetch_outcome
from chaos.workflows import ATTEMPTS_FOLDER, SIGNALS, Chores
from infinitic_testing.simulation import Simulation

NUMBERS = range(8)
"""One of each shape, the heavy one included."""

ROUNDS, PAUSE = 3, 1.0
ALL_SIGNALS = list(range(1, SIGNALS + 1))


@pytest.fixture
def journal(sim: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """A journal, and a simulation that hosts all."""
    monkeypatch.setenv(ATTEMPTS_FOLDER, str(tmp_path))
    sim.add_service(Chores)
    for workflow in SHAPES:
        sim.add_workflow(workflow)
    return Journal(tmp_path / "journal.jsonl")


async def start(sim: Simulation, journal: Journal, number: int) -> str:
    stub = sim.client.new_workflow(choose_shape(number))
    handle = await sim.client.dispatch(getattr(stub, "run"), number, ROUNDS, PAUSE)  # noqa: B009 (all shapes have it)
    journal.add(number, "started", handle.workflow_id)
    return handle.workflow_id


async def find_wrong(sim: Simulation, *journals: Journal) -> list[str]:
    findings = Findings()
    await check_instances(sim.storage, journals, findings)
    return findings.violations


async def test_without_harm_every_shape_ends_as_expected(sim: Simulation, journal: Journal) -> None:
    assert {choose_shape(number) for number in NUMBERS} == set(SHAPES)
    for number in NUMBERS:
        workflow = choose_shape(number)
        workflow_id = await start(sim, journal, number)
        await SHAPES[workflow](sim.client, journal, number, workflow_id)
        outcome = await fetch_outcome(sim.client, workflow, workflow_id)
        judge_outcome(workflow.__name__, number, ROUNDS, outcome, [journal])
    assert await find_wrong(sim, journal) == []


async def test_an_instance_that_still_runs_is_found(sim: Simulation, journal: Journal) -> None:
    workflow_id = await start(sim, journal, 0)
    await sim.run_until_idle()
    wrong = await find_wrong(sim, journal)
    assert f"Walk {workflow_id}: AssertionError: it is not closed" in wrong
    assert any(each.startswith("all-end: ") for each in wrong)
    await fetch_outcome(sim.client, choose_shape(0), workflow_id)
    assert await find_wrong(sim, journal) == []


async def test_an_instance_that_was_lost_is_found(sim: Simulation, journal: Journal) -> None:
    journal.add(0, "started", "nobody")
    assert await find_wrong(sim, journal) == ["nobody was started, and is not in storage"]


async def test_another_outcome_in_storage_is_found(
    sim: Simulation, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = await start(sim, journal, 0)
    await fetch_outcome(sim.client, choose_shape(0), workflow_id)

    def expect_wrongly(name: str, number: int, rounds: int) -> object:
        return -7

    monkeypatch.setattr("chaos.checks.expect", expect_wrongly)
    [wrong] = await find_wrong(sim, journal)
    assert "number 0: 3, and not -7" in wrong


def note_sent(path: Path, more: Mapping[int, int] = {}) -> Journal:
    """A journal in which each signal was sent once, and some more often."""
    journal = Journal(path)
    for number in ALL_SIGNALS:
        for _ in range(1 + more.get(number, 0)):
            journal.add(0, "sending", number)
    return journal


@pytest.mark.parametrize(
    ("received", "wrong"),
    [
        ([1, 2, 4, 5], "a signal is lost"),
        ([1, 3, 2, 4, 5], "the order of the sender is lost"),
        ([1, 2, 3, 4, 4, 5], "more than was sent"),
        ([1, 2, 2, 2, 3, 4, 5], "more than was sent"),
    ],
)
def test_signals_that_are_lost_or_doubled_are_found(received: list[int], wrong: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=wrong):
        judge_outcome("Talk", 0, ROUNDS, received, [note_sent(tmp_path / "journal", {2: 1})])


def test_a_signal_that_was_sent_twice_may_come_twice(tmp_path: Path) -> None:
    journal = note_sent(tmp_path / "journal", {2: 1})
    judge_outcome("Talk", 0, ROUNDS, [1, 2, 2, 3, 4, 5], [journal])
    judge_outcome("Talk", 0, ROUNDS, ALL_SIGNALS, [journal])


@pytest.mark.parametrize(("name", "outcome"), [("Walk", 4), ("Leave", 1), ("Fan", CANCELED), ("Draw", False)])
def test_a_wrong_outcome_is_found(name: str, outcome: object) -> None:
    assert outcome != expect(name, 0, ROUNDS)
    with pytest.raises(AssertionError, match="number 0"):
        judge_outcome(name, 0, ROUNDS, outcome, [])


def test_a_journal_goes_on_where_the_last_client_was_killed(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal")
    first.add(3, "started", "id-3")
    first.add(3, "sent", 1)
    again = Journal(tmp_path / "journal")
    assert list(again.list_started()) == [(3, "id-3")]
    assert again.has(3, "sent", 1)
    assert not again.has(3, "sent", 2)
    assert not again.has(4, "started")


def test_what_nobody_expects_in_a_log_is_found() -> None:
    lines = [
        "2026-11-29 18:33:00,827 WARNING infinitic.runtime: Storage and broker work again",
        "2026-11-29 18:33:01,827 ERROR infinitic.runtime: the consumer was cut off; nothing is received until it is "
        "joined again",
        "2026-11-29 18:33:02,827 ERROR infinitic.runtime: this cannot be",
        "Traceback (most recent call last):",
        '  File "x.py", line 1, in <module>',
        "ValueError: no",
        "fused-1 is ready",
    ]
    assert find_errors(lines) == [lines[2]]
    assert find_tracebacks(lines) == ["ValueError: no"]


def test_each_traceback_of_a_group_is_found() -> None:
    try:
        try:
            raise ValueError("no")
        except ValueError as error:
            raise ExceptionGroup("several", [error]) from None
    except ExceptionGroup as group:
        lines = "".join(traceback.format_exception(group)).splitlines()
    assert find_tracebacks(lines) == ["ExceptionGroup: several (1 sub-exception)", "ValueError: no"]
    assert find_tracebacks(lines[:2]) == ["it has no end"]
