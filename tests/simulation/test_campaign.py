"""Campaigns: failing runs are made small, repeated in fresh processes, and explained."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infinitic_testing.campaign import Setting, run_seed
from infinitic_testing.campaign.campaign import Campaign, CampaignState
from infinitic_testing.campaign.failure_text import describe_found
from infinitic_testing.campaign.found_failure import FoundFailure, Repetition
from infinitic_testing.campaign.functions import find_function
from infinitic_testing.campaign.order import CampaignOrder, make_order
from infinitic_testing.campaign.outcomes import show_outcome

ROOT = Path(__file__).parents[2]
PATHS = {"PYTHONPATH": os.pathsep.join(sys.path)}
PLAIN = Setting(faults="none")

PLANTED = """
class OutOfLuck(Exception):
    rule = "luck-lasts"

async def simulate_planted(sim):
    \"\"\"Fails if two certain things happen, among hundreds of others.\"\"\"
    late = 0.0
    for number in range(200):
        sim.choices.pick("schedule", 4)
        late += sim.choices.between("latency/publish", 0.0, 1.0) > 0.95
        if sim.choices.happens("fault/lost-acks", 0.1) and late:
            raise OutOfLuck(f"message {number} was lost after one was late")

async def simulate_sound(sim):
    return 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a campaign."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_campaign(code: str, seeds: int, folder: Path, **options: Any) -> tuple[CampaignOrder, CampaignState]:
    (folder / "planted_functions.py").write_text(code)
    order = make_order("planted_functions.py", PLAIN, seeds=seeds)
    return order, asyncio.run(Campaign(order, folder=folder / "found", **options).run())


def get_only(state: CampaignState) -> FoundFailure:
    [found] = state.failures
    return found


def test_a_failing_run_is_made_small_and_repeated_in_a_fresh_process(folder: Path) -> None:
    order, state = run_campaign(PLANTED, 20, folder)
    found = get_only(state)
    assert state.coverage.runs == 20
    assert state.coverage.failed == found.times > 1
    assert found.repeats is Repetition.YES
    small = found.small
    assert small is not None
    assert small.setting.only is not None
    assert sorted(label for label, _ in small.setting.only) == ["fault/lost-acks", "latency/publish"]
    assert small.is_smallest
    assert small.runs <= 500
    text = "\n".join(describe_found(found, order.setting))
    line = next(number for number, each in enumerate(PLANTED.splitlines(), 1) if "raise OutOfLuck" in each)
    assert text.startswith(f"simulate_planted fails under seed {found.report.seed}: OutOfLuck (luck-lasts)\n")
    assert f"infinitic simulate planted_functions.py:simulate_planted --first {found.report.seed} --seeds 1" in text
    assert "# infinitic 0.1.0, Python 3." in text
    assert "was lost after one was late" in text
    assert f"your line   {folder}/planted_functions.py:{line}\n" in text
    assert f"needs       fault/lost-acks 1, latency/publish 1 (found in {small.runs} runs)" in text
    assert f"small run   infinitic simulate --replay {folder}/found/simulate_planted-{found.report.seed}.json" in text
    assert f"how often   {found.times} runs failed like this" in text


def test_the_file_of_a_failing_run_has_all_that_is_needed(folder: Path) -> None:
    _, state = run_campaign(PLANTED, 6, folder)
    found = get_only(state)
    document = json.loads(Path(found.file).read_bytes())
    assert document["format"] == 1
    assert document["function"] == "planted_functions.py:simulate_planted"
    assert document["seed"] == found.report.seed
    assert document["failure"]["rule"] == "luck-lasts"
    assert {label: len(numbers) for label, numbers in document["kept"].items()} == {
        "fault/lost-acks": 1,
        "latency/publish": 1,
    }


def test_a_failure_that_does_not_come_again_says_so_first_of_all(folder: Path) -> None:
    code = (
        "import os, pathlib\n"
        "async def simulate_planted(sim):\n"
        "    if sim.choices.happens('schedule', 0.5):\n"
        "        owner = pathlib.Path('owner')\n"
        "        if not owner.exists(): owner.write_text(str(os.getpid()))\n"
        "        assert owner.read_text() != str(os.getpid())\n"
    )
    order, state = run_campaign(code, 20, folder)
    found = get_only(state)
    assert found.repeats is Repetition.NO
    first, *_ = describe_found(found, order.setting)
    assert first.startswith("This failure did not come again when the seed was run once more")


NOT_REPRODUCIBLE = """
import os

class Anything:
    def __eq__(self, other):
        return True

class ByProcess(Anything):
    def __repr__(self):
        return f"process {os.getpid()}"

class ByHash(Anything):
    def __repr__(self):
        return " ".join({"one", "two", "three", "four", "five"})

class ByAddress(Anything):
    pass

"""


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("ByProcess()", "Something in it comes from outside"),
        ("ByHash()", "It depends on PYTHONHASHSEED"),
        ("ByAddress()", None),
        ("{'one', 'two', 'three', 'four', 'five'}", None),
    ],
)
def test_a_run_is_the_same_in_every_process(outcome: str, words: str | None, folder: Path) -> None:
    code = f"{NOT_REPRODUCIBLE}\nasync def simulate_it(sim): return {outcome}\n"
    _, state = run_campaign(code, 1, folder)
    assert state.coverage.repeated == 1
    if words is None:
        assert state.failures == []
        return
    failure = get_only(state).report.failure
    assert failure is not None
    assert (failure.error, failure.rule) == ("RunDiffers", "reproducible")
    assert words in failure.message


def test_an_outcome_must_be_that_without_faults(folder: Path) -> None:
    file = folder / "other_outcomes.py"
    file.write_text("async def simulate_it(sim): return [sim.choices.seed > 2]\n")
    reports = [run_seed(find_function(f"{file}:simulate_it"), seed, PLAIN) for seed in range(5)]
    assert [report.failure is None for report in reports] == [True, True, True, False, False]
    failure = reports[3].failure
    assert failure is not None
    assert failure.rule == "outcome-same"
    assert "without faults: [False]\n  with faults:    [True]" in failure.message


def test_the_functions_take_turns(folder: Path) -> None:
    (folder / "two_functions.py").write_text("async def test_a(sim): ...\nasync def test_b(sim): ...\n")
    order = make_order("two_functions.py", PLAIN, first=100, seeds=45)
    state = asyncio.run(Campaign(order, jobs=3).run())
    assert (state.coverage.runs, state.done) == (45, {0, 1, 2, 3, 4, 5})
    chunks = list(Campaign(order).list_chunks())
    seeds = {
        name: [seed for each in chunks if each.function == name for seed in each.seeds] for name in order.functions
    }
    assert seeds == {
        "two_functions.py:test_a": list(range(100, 145, 2)),
        "two_functions.py:test_b": list(range(101, 145, 2)),
    }


def test_a_run_without_an_end_is_ended_and_explained(folder: Path) -> None:
    code = "async def simulate_it(sim):\n    while sim.choices.seed == 1: pass\n"
    _, state = run_campaign(code, 3, folder, seed_seconds=2.0)
    failure = get_only(state).report.failure
    assert failure is not None
    assert (failure.error, failure.rule) == ("ProcessEnded", "process-ended")
    assert failure.message == "It ran for more than 2 s of CPU time, without an end"
    assert any('planted_functions.py", line 2 in simulate_it' in line for line in failure.details)
    assert state.coverage.runs == 3


def test_a_run_that_gets_little_of_a_busy_machine_has_time(folder: Path) -> None:
    code = "import time\nasync def simulate_it(sim): time.sleep(1.0 if sim.choices.seed == 1 else 0)\n"
    _, state = run_campaign(code, 3, folder, seed_seconds=0.5)
    assert state.failures == []


def test_a_run_that_waits_for_something_real_is_ended_and_explained(folder: Path) -> None:
    code = """
import threading

async def simulate_it(sim):
    if sim.choices.seed == 1:
        threading.Event().wait()
"""
    _, state = run_campaign(code, 3, folder, seed_seconds=0.2)
    failure = get_only(state).report.failure
    assert failure is not None
    assert failure.message == "It ran for more than 4 s of real time, without an end: it waits"
    assert any('planted_functions.py", line 6 in simulate_it' in line for line in failure.details)


def test_outcomes_are_shown_alike_in_every_process() -> None:
    shown = show_outcome([{"b", "a", "c"}, object(), {"z": 1, "y": (1, 2)}])
    assert shown == "[{'a', 'b', 'c'}, <object object>, {'z': 1, 'y': (1, 2)}]"


COUNT_OBJECTS = """
import gc, logging
from infinitic_testing.campaign import run_seed
from infinitic_testing.loop.garbage import RUNS_TO_COLLECT
from tests.simulation.scenarios.basics import simulate_one_by_one

logging.getLogger().addHandler(logging.NullHandler())
for _ in range(3):
    for seed in range(RUNS_TO_COLLECT):
        assert run_seed(simulate_one_by_one, seed).failure is None
    print(len(gc.get_objects()))
"""


def test_many_runs_hold_no_more_memory_than_a_few() -> None:
    """What runs leave is collected, though the collector is off while they run."""
    # pytest would keep what they log.
    command = [sys.executable, "-c", COUNT_OBJECTS]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env={**os.environ, **PATHS})
    first, *_, last = map(int, done.stdout.split())
    assert last < 1.3 * first
