"""Seeds under which campaigns have found a mistake. They must pass for ever.

A change of the code changes the run of a seed. So each mistake has a test of its own as well, which
shows it whatever the seed does.
"""

from __future__ import annotations

import pytest

from infinitic_testing.campaign import Setting, run_seed
from tests.simulation.scenarios import list_scenarios
from tests.thorough import IS_THOROUGH

DRAINED_EARLY = "a worker that stopped while it started failed: see test_drain.py"

ORPHANED = "a child that was started as its parent saw its cancellation went on: see test_engine_remotes.py"
IMPATIENT = "whoever attached to a start that was on its way gave up too soon: see test_engine_take.py"

RETRIED_AT_THE_END = "an attempt was sent again as its cancelled instance closed: see test_engine_decide.py"
CALLED_TWICE = "a repeat of a call was told that it was cancelled: see test_engine_take.py"
ENDED_TWICE = "a repeat of a termination was told that it is unknown, before the first: see test_engine_take.py"
ANSWERED_TOO_EARLY = "a query beside the decision of another worker was answered without it: see test_step_queries.py"
REFUSED_FOR_A_WHILE = "a refused signal was taken after the re-opening: see test_engine_refusals.py"
FREED_TWICE = "a claim of long ago was freed each time that it came again: see test_engine_refusals.py"

CUT_OFF_FOR_EVER = "retries prolonged the time for which a process is cut off: see test_network_faults.py"
CALLED_TOO_LATE = "a method was called after the failure that it was to see: see scenarios/mended.py"
SETTLED_LATE = "a late acknowledgement was taken for a lost message: see test_ack_rules.py"
TAGS_EXPIRED = "tags were waited for that are dropped after the deduplication window: see scenarios/task_tags.py"

FOUND = (
    ("crowd", 12, DRAINED_EARLY),
    ("filtered_signals", 11, DRAINED_EARLY),
    ("signals_before_start", 7, DRAINED_EARLY),
    ("cancel_of_parents", 10, ORPHANED),
    ("children_with_a_custom_id", 216, IMPATIENT),
    ("cleanup_when_cancelled", 0, RETRIED_AT_THE_END),
    ("termination", 5, CALLED_TWICE),
    ("termination", 33, ENDED_TWICE),
    ("calls_over_runs", 62, ANSWERED_TOO_EARLY),
    ("fleets_that_fail", 14, REFUSED_FOR_A_WHILE),
    ("reopened_with_custom_id", 9018, FREED_TWICE),
    ("fleets_that_fail", 27, REFUSED_FOR_A_WHILE),
    ("failed_code_that_went_on", 30175, CALLED_TOO_LATE),
    ("children_given_up", 31930, SETTLED_LATE),
)
"""The scenario, the seed, and what was wrong."""

LONG = (
    ("first_completed", 30069, CUT_OFF_FOR_EVER),
    ("cancel_tasks_by_tag", 31272, TAGS_EXPIRED),
)
"""Others, which take seconds."""


@pytest.mark.parametrize(("scenario", "seed", "mistake"), FOUND + LONG if IS_THOROUGH else FOUND)
def test_a_mistake_stays_mended(scenario: str, seed: int, mistake: str) -> None:
    report = run_seed(list_scenarios()[scenario], seed, Setting(faults="all"))
    assert report.failure is None, f"{mistake}: {report.failure}"
