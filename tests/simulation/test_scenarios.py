"""Each scenario of the campaigns ends in plain mode: one worker, no latency, no faults."""

from __future__ import annotations

import zlib

import pytest

from infinitic_testing.simulation import Simulation
from tests.examples.test_examples import OUTCOMES as EXAMPLES
from tests.simulation.scenarios import Scenario, list_scenarios
from tests.simulation.scenarios.batches import expect_doubles
from tests.simulation.scenarios.everyday import STORIES
from tests.simulation.scenarios.values import STEP, make_book

SCENARIOS = list_scenarios()

SLOW = {"long_loop"}
"""They would replay hundreds of long histories."""

NO_STEPS = list[int]()
TIMED_OUT = ["timed out", "timed out", "too slow", "2"]
GREETED = [*(f"{'Annex' if room > 5 else 'Ritz'} guest {room}" for room in range(8)), "Ritz nobody"]
FAILED_CHILDREN = [
    ["Branch.shake: WorkflowFailedError", "Leaf.fall: TaskFailedError", "fail: LookupError"],
    ["Branch.shake: WorkflowFailedError", "Leaf.fall: LookupError"],
    4,
]
RETRIED = [
    [f"StepCompleted(value={value})" for value in (1, 2, 3)],
    [f"StepCompleted(value={value})" for value in (0, 1, 2, 3)],
    [f"StepCompleted(value={value})" for value in (1, 2, 3)],
    ["StepCanceled()", "StepCompleted(value=1)", "StepCompleted(value=2)"],
    [
        "StepCompleted(value=1)",
        "StepCompleted(value=2)",
        "StepFailed(error='LookupError', message='no spare part for 1')",
    ],
]
BATCHED = ["timed out"] * 4
GROUPS = ["group failed", "shielded 5", "cancelled True"]


def list_impatient(width: int) -> list[str]:
    ends = {1: "TaskCanceledError", 2: "TaskTimedOutError"}
    rang = ["TaskCanceledError", "datetime"] if width > 1 else ["datetime"]
    return [*(ends.get(number % 4, str(number)) for number in range(width)), *rang]


OUTCOMES: dict[str, object] = {
    "one_by_one": 10,
    "local_and_ordinary": [35] * 4,
    "local_failures": [[1, 2, "LookupError: no 3", 2, 4]] * 3,
    "local_limits": [["late", "1"], ["late", "1"], 150],
    "local_races": [10, 0],
    "local_runs": [192] * 3,
    "local_signals": [66] * 3,
    "local_cancelled": ["canceled"] * 3,
    "long_loop": sum(range(300)),
    "crowd": [sum(range(steps)) for steps in range(1, 25)],
    "wide": [2 * (2 * each + 1) for each in reversed(range(20))],
    "failing_tasks": ["TaskFailedError", "LookupError: no 2"],
    "inline_draws": [NO_STEPS] * 3,
    "more_signals_than_receives": list(range(10)),
    "flood_of_signals": list(range(60)),
    "signals_and_tasks": sum(range(100)),
    "signals_and_timers": list(range(25)),
    "signals_before_start": [[0, 1, 2]] * 4,
    "filtered_signals": [list(range(8)), list(range(100, 108))],
    "races": [each for turn in range(8) for each in (turn, 3 * turn, 2)],
    "failing_races": [["7", "LookupError: no 2", "LookupError: no 3"]] * 3,
    "first_completed": list(range(16)),
    "cancelled_retries": [6] * 4,
    "task_groups": [GROUPS] * 3,
    "batches": [*map(expect_doubles, (3, 14, 27)), 1000, 6030, list(range(9)), NO_STEPS],
    "cancelled_batches": ["canceled"] * 3 + ["40", *BATCHED, NO_STEPS],
    "attempt_timeouts": [[1, 2, 10, 11, 12, 13, 14]] * 3,
    "total_timeouts": [TIMED_OUT] * 3,
    "wide_timeouts": [list_impatient(width) for width in (1, 9, 40)],
    "timers": [True] * 24,
    "metronomes": [0] * 4,
    "timer_herd": list(range(40)),
    "tree": 27,
    "failing_children": FAILED_CHILDREN,
    "signals_to_children": [[*range(number), "unknown"] for number in (1, 5, 12)],
    "calls_between_instances": [[1, 2, 3, 4, 5]] * 2,
    "cancel_of_parents": ["all ended"] * 5,
    "children_with_a_custom_id": [[7, 3, 3, 3, 3, 3, 3]] * 3 + [0],
    "cancel_of_attached_parents": [1, 1, 1, "cancelled"],
    "children_given_up": ["WorkflowTimedOutError", "WorkflowCanceledError", "TimeoutError"],
    "locks": [list(range(12)), True, 100 + sum(range(12))],
    "queues": [[2 * each for each in range(20)], [5] * 4],
    "fire_and_forget": ["sent", [f"letter {each}" for each in range(6)], [1] * 6],
    "cancel": 15,
    "clients_come_and_go": [3] * 7,
    "duplicates_of_requests": [list(range(5)), 1, 1],
    "asking": True,
    "large_values": [
        zlib.crc32(text.encode())
        for each in (0, 1, 2, 4, 8)
        for text in (make_book(STEP * each), make_book(STEP * each)[::-1])
    ],
    "flood_of_large_values": sorted(zlib.crc32(make_book(8 * STEP + each).encode()) for each in range(9)),
    "value_at_the_limit": True,
    "values_too_large": ["argument refused", "result refused", "still here"],
    "versions": [list(range(10, 15))] * 6,
    "purges": [5, [1] * 5],
    "deletes": [[False, True] * 3, [f"note-{each}" for each in (1, 3, 5)], [1] * 6],
    "winner_decides": [sum(range(8))] * 3,
    "dice": [10] * 4,
    "impatient_operator": [10] * 3,
    "long_life": [[f"ship {each}" for each in range(5)], [1] * 10],
    "stalls": [13] * 3,
    "programs": None,
    "receivers": [1, 2, 3, 4, "closed", "a", "b", 5, 2000],
    "meta_of_calls": [GREETED, [*sorted(f"{room} {each}" for room, each in enumerate(GREETED)), "Ritz nobody", "7"]],
    "queries": [28] * 4,
    "bad_queries": 28,
    "many_queries": 30,
    "cleanup_when_cancelled": 12,
    "termination": 12,
    "cancelled_methods": [42, 42],
    "completed_timers": [[1, 2, 3], [1, 2], [1, 2]],
    "abandoned_tasks": [["timed out", "2"] * 3] * 3,
    "families_ended": NO_STEPS,
    "patches": [[1000, *range(1000, 1004)]] * 4,
    "runs": [(45, list(range(10)))] * 4,
    "calls_over_runs": (list(range(0, 24, 2)), (66, list(range(12)))),
    "cancelled_runs": ["canceled"] * 4,
    "signal_by_tag": [["6", "7", "all", "group-0"], ["6", "9", "all", "group-1"]] * 4,
    "broadcast": [6] * 6,
    "large_broadcast": [[900_000, "all"]] * 12,
    "broadcast_while_they_close": [2] * 12,
    "cancel_by_tag": [[5, "group-0"], "canceled"] * 3,
    "racing_starts": [10, 11, 12],
    "attached_waiters": [5] * 5,
    "start_or_signal": None,
    "parents_of_one_child": [7] * 4,
    "cancel_of_one_parent": 3,
    "cancel_of_the_starting_parent": NO_STEPS,
    "calls_by_custom_id": [5, 5, 5, 5, 20],
    "own_tag": [[True]] * 3,
    "reopened_with_custom_id": [1, 1],
    "reopened_or_started_anew": None,
    "failed_and_retried": [[[1, 2, 3], [0, 1, 2, 3], [1, 2, 3], [1, 2], [1, 2]], RETRIED],
    "failed_again_and_again": [[1, 2, 3], [0, 1, 2, 3], [1, 2]],
    "retried_by_two": [1, 2, 3],
    "failed_methods": [[False, True, False, True], [0, 1, 2, 3]],
    "failed_families": [6, 8],
    "failed_code": [[1, 2, 3, 4], 1, [1, 2], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], [1], [1, 2]],
    "failed_code_of_two": [1, 2, 3, 4],
    "failed_code_of_children": [1, 2, 3, 4],
    "failed_code_that_went_on": [2, True],
    "failed_code_mended_late": 1,
    "cancel_tasks_by_tag": [[number + 1, number, "failed", "timed out", "canceled", "canceled"] for number in range(4)],
    "end_of_tagged_tasks": True,
    "retry_tasks_by_tag": [[*range(number), number] for number in range(1, 4)],
    "fleets_that_fail": [[2, 1, 0], ["a", "b"]] * 3,
    "heartbeats": [[[[*range(20)], 3, True]] * 3, True],
    "delegated_by_tag": [[7, 7, 7, "Exception: too late"]] * 4,
    "delegated": [[[10, 20, 30, 40, "ValueError: no budget", "timed out"], [False, True], True, True]] * 4,
    "children_told_early": [(["a", "b"], 2)] * 4,
    "children_asked_for_again": [[True, "go on"]] * 3,
    "listeners": (
        [
            *("note 0", [1, 0, "failed", "timed out", 0, 0]),
            *("note 1", [2, 1, "failed", "timed out", "WorkflowFailedError", 10]),
            *("note 2", [3, 2, "failed", "timed out", 4, 20]),
        ],
        NO_STEPS,
        ([5, 1], [5, 1]),
    ),
    **{name: story.outcome for name, story in STORIES.items()},
    **EXAMPLES,
    # Its answers may come too late, and the number of an attempt may be higher.
    "approval": ["desk", "lamp", "yacht"],
    "retries": {
        "charge": "420 charged, answered at attempt",
        "receipt": "receipt for 420, printed at attempt",
        "block": "CardStolen: card 42, final at attempt",
    },
}


async def _play(scenario: Scenario, cache_size: int) -> object:
    async with Simulation(cache_size=cache_size) as sim:
        return await scenario(sim)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_as_it_says(name: str) -> None:
    outcome = Simulation.run(_play(SCENARIOS[name], 1000))
    assert outcome == OUTCOMES[name]


@pytest.mark.parametrize("name", [each for each in SCENARIOS if each not in SLOW])
def test_a_scenario_ends_the_same_without_memory(name: str) -> None:
    outcome = Simulation.run(_play(SCENARIOS[name], 0))
    assert outcome == OUTCOMES[name]
