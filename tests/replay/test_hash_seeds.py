"""Other processes, other hash seeds, other addresses: the same history (S15)."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.replay.harness import CASES, run_case

ROOT = Path(__file__).parents[2]
CHOSEN = [
    "test_asyncio_gather.test_gather_of_sequences",
    "test_asyncio_task_groups.test_a_failure_in_a_group_cancels_the_others_which_may_clean_up",
    "test_asyncio_task_groups.test_a_group_that_grows",
    "test_asyncio_task_groups.test_a_group_that_is_cancelled_from_outside",
    "test_asyncio_wait.test_wait_for_the_first_completed",
    "test_asyncio_wait.test_wait_for_deferreds_in_a_set",
    "test_asyncio_wait.test_wait_for_plain_futures_in_a_set",
    "test_asyncio_wait.test_as_completed_of_deferreds",
    "test_asyncio_wait.test_as_completed_of_stub_coroutines",
    "test_combinators.test_combinations_are_futures",
    "test_parallel_methods.test_a_hundred_methods_append_in_the_order_of_dispatch",
    "test_receiver_races.test_receivers_in_nested_combinations",
]
PROGRAM = """
import json, sys
from tests.replay import test_hash_seeds
print(json.dumps(test_hash_seeds.outcomes()))
"""


def outcomes() -> dict[str, list[object]]:
    """Result and history of the chosen cases, replayed at every step in this process."""
    found: dict[str, list[object]] = {}
    for name in CHOSEN:
        importlib.import_module(f"tests.replay.{name.partition('.')[0]}")  # which fills CASES
        run = run_case(CASES[name], cache_size=0)
        histories = {key: [each.decode() for each in value] for key, value in run.histories.items()}
        found[name] = [repr(run.result), histories]
    return found


@pytest.mark.parametrize("seed", ["0", "1", "4294967295"])
def test_another_process_writes_the_same_history(seed: str) -> None:  # S15
    environment = os.environ | {
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
    }
    command = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    elsewhere, here = json.loads(run.stdout), json.loads(json.dumps(outcomes()))
    for name in CHOSEN:
        assert elsewhere[name] == here[name], name
