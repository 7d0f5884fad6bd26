"""Which branches of the engines a run reaches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infinitic_testing.campaign import Setting, run_seed
from infinitic_testing.campaign.branches import BranchRecorder, list_branches
from tests.simulation.scenarios.basics import simulate_one_by_one
from tests.simulation.scenarios.timeouts import simulate_timers

PLAIN = Setting(faults="none")


@pytest.fixture
def recorder() -> Iterator[BranchRecorder]:
    made = BranchRecorder()
    yield made
    made.stop()


def test_every_case_of_the_engines_is_a_branch_but_those_that_cannot_happen() -> None:
    names = set(list_branches().values())
    assert {
        "workflow.decide.decide: ScheduleTask",
        "workflow.decide.decide: CompleteMethod | FailMethod | CancelMethod",
        "workflow.render.render: ArmWake",
        "workflow.take: Signal",
        "workflow.take._take_closed: Wait",
        "runtime.state_engine.committing.sort_out: Lost",
        "replay.instance._apply: TimerFired",
    } <= names
    # These end in `assert_never`.
    assert not {"workflow.decide.decide: _", "workflow.render.render: _", "replay.instance._apply: _"} & names


def test_a_run_reaches_what_its_workflow_does(recorder: BranchRecorder) -> None:
    recorder.start()
    assert run_seed(simulate_one_by_one, 1, PLAIN).failure is None
    recorder.stop()
    first = recorder.take_new()
    assert {"workflow.take: TaskCompleted", "workflow.decide.decide: ScheduleTask"} <= first
    assert "replay.instance._apply: TimerFired" not in first
    # Nobody watches this run.
    assert run_seed(simulate_timers, 1, PLAIN).failure is None
    assert recorder.take_new() == frozenset()
    recorder.start()
    assert run_seed(simulate_timers, 1, PLAIN).failure is None
    recorder.stop()
    second = recorder.take_new()
    assert "replay.instance._apply: TimerFired" in second
    assert not first & second
